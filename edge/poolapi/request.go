package poolapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
)

// maxBody is how long a body may be, in bytes.
const maxBody = 64 << 10

// asked is a request that has the right form.
type asked struct {
	pool   string // checked: safe to log, and as a part of a path
	secret token.Secret
	from   netip.Addr
	order
}

// read judges what can be judged without Vault. After an error only the pool is meant, if it is set.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (a asked, err error) {
	if h.draining.Load() {
		return a, apitype.Errorf(apitype.Draining, "")
	}
	pool, _ := poolOf(r.URL.Path)
	switch {
	case pool == "":
		return a, apitype.Errorf(apitype.NameInvalid, "the address holds no pool, as when a variable in it is empty")
	case !poolRule.MatchString(pool):
		return a, apitype.Errorf(apitype.NameInvalid, "the address holds neither a pool's id nor a pool's name")
	case r.URL.RawQuery != "":
		return a, apitype.Errorf(apitype.FieldInvalid, "there are no parameters in the address; fields go into a JSON body")
	}
	a.pool = pool
	if a.secret, err = secretOf(r.Header.Values("Authorization")); err != nil {
		return a, h.count(limits.SourceOf(listen.Remote(r)), err)
	}
	body, err := bodyOf(w, r)
	if err == nil {
		a.order, err = parseOrder(body)
	}
	return a, err
}

// poolRule takes names by the engine's rule (DESIGN.md section 4), and ids, which have the same alphabet.
var poolRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`)

// secretOf reads the admin secret out of the Authorization header. Garbage costs no call to Vault.
func secretOf(values []string) (token.Secret, error) {
	invalid := func(detail string) (token.Secret, error) {
		return token.Secret{}, apitype.Errorf(apitype.PoolSecretInvalid, "%s", detail)
	}
	switch len(values) {
	case 0:
		return invalid("there is no 'Authorization: Bearer' header")
	case 1:
	default:
		return invalid("there is more than one Authorization header")
	}
	value := strings.TrimSpace(values[0])
	if strings.EqualFold(value, "Bearer") {
		return invalid("nothing stands behind 'Bearer', as when a variable is empty")
	}
	end := strings.IndexAny(value, " \t")
	if end < 0 || !strings.EqualFold(value[:end], "Bearer") {
		return invalid("the Authorization header does not begin with 'Bearer '")
	}
	secret, err := token.Parse(token.PoolSecret, value[end:])
	var e *apitype.Error
	if errors.As(err, &e) {
		return invalid(e.Detail)
	}
	return secret, err
}

// errMediaType is answered with 415, which says more than the code's own 400.
var errMediaType = apitype.Errorf(apitype.FieldInvalid, "the body must be JSON, sent with 'Content-Type: application/json' and without Content-Encoding")

// bodyOf reads the body, which may be empty. Only a body must be said to be JSON, and one that says nothing is taken for it.
func bodyOf(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, apitype.Errorf(apitype.BodyTooLarge, "the body has more than %d bytes", maxBody)
	}
	if err != nil {
		return nil, apitype.Errorf(apitype.FieldInvalid, "the body did not arrive whole")
	}
	if len(body) == 0 {
		return nil, nil
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, errMediaType
	}
	if declared := r.Header.Get("Content-Type"); declared != "" {
		media, parameters, err := mime.ParseMediaType(declared)
		charset := parameters["charset"]
		if err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
			return nil, errMediaType
		}
	}
	return body, nil
}
