package federation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// card is our own card, as Vault has last said it. While Vault is away it is served until its signed part expires.
type card struct {
	Options

	asking sync.Mutex // held while Vault is asked: one question at a time, and the others wait for its answer

	mu      sync.Mutex
	body    []byte
	etag    string
	expires time.Time      // of the signed part; zero: none
	refused *apitype.Error // what Vault said in the place of a card
	next    time.Time      // when Vault is asked again
	why     string         // what was logged last
}

// stale has Vault asked with the next request.
func (c *card) stale() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = time.Time{}
}

// serve answers a GET or HEAD.
func (c *card) serve(w http.ResponseWriter, r *http.Request) (outcome string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return wrongMethod(w, "GET, HEAD")
	}
	body, etag, refusal := c.get(r.Context())
	if refusal != nil {
		return refuse(w, refusal)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("ETag", `"`+etag+`"`)
	header.Set("Cache-Control", "no-cache") // a cache asks again, and is told quickly that nothing has changed
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	return served
}

// get is the card, from Vault if what is held has grown old.
func (c *card) get(ctx context.Context) (body []byte, etag string, refusal *apitype.Error) {
	if !c.fresh() {
		c.asking.Lock()
		if !c.fresh() { // nobody else has asked meanwhile
			c.ask(ctx)
		}
		c.asking.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.refused != nil:
		return nil, "", c.refused
	case c.body == nil:
		return nil, "", apitype.Errorf(apitype.NotReady, "this edge has not got the card from Vault yet")
	case !time.Now().Before(c.expires):
		return nil, "", apitype.Errorf(apitype.VaultUnavailable, "the last card has expired, and Vault gives no newer one")
	}
	return c.body, c.etag, nil
}

func (c *card) fresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.next)
}

// ask asks Vault. The caller may go away: others wait for the answer.
func (c *card) ask(ctx context.Context) {
	got, err := c.Engine.FederationBundle(context.WithoutCancel(ctx))
	var body []byte
	var expires time.Time
	if err == nil {
		body, expires, err = encode(got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = time.Now().Add(c.Timing.Card)
	if err == nil {
		sum := sha256.Sum256(body)
		c.body, c.etag, c.expires, c.refused, c.why = body, hex.EncodeToString(sum[:16]), expires, nil, ""
		return
	}
	var e *apitype.Error
	if errors.As(err, &e) && e.Code.VaultStatus() < http.StatusInternalServerError {
		c.refused = e // Vault is there, and has no card: the old one counts no longer
	}
	if why := vaultgate.Cause(err); why != c.why {
		c.why = why
		c.Logger.Warn("no newer card of this installation from Vault", "error", why)
	}
}

// encode is the card as it is served, and when its signed part expires.
func encode(b *apitype.FederationBundle) ([]byte, time.Time, error) {
	var claims handover.Bundle
	if err := handover.Unverified(b.BundleJWS, handover.TypeBundle, &claims); err != nil {
		return nil, time.Time{}, err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(b)
	return text.Bytes(), time.Unix(claims.Expires, 0), err
}
