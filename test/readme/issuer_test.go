package readme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// issuer stands where a pipeline's service does: Vault asks it for its keys, and jobs for their JWT.
type issuer struct {
	t      *testing.T
	URL    string
	signer jose.Signer
	claims map[string]any // of the job that runs
	asking string         // the bearer token with which that job may ask for its JWT
	given  []string       // the JWTs that were handed out
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	must(t, err)
	i := &issuer{t: t, signer: signer, asking: "runtime-" + rand.Text()}
	mux := http.NewServeMux()
	answer := func(path string, what func(r *http.Request) any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			out := what(r)
			if out == nil {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(out)
		})
	}
	answer("/.well-known/openid-configuration", func(*http.Request) any {
		return map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}}
	})
	answer("/keys", func(*http.Request) any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}}
	})
	answer("/job", func(r *http.Request) any {
		if r.Header.Get("Authorization") != "bearer "+i.asking || r.URL.Query().Get("api-version") != "2.0" {
			return nil
		}
		return map[string]any{"count": 1, "value": i.token(r.URL.Query().Get("audience"))}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

// token is the JWT of the job that runs.
func (i *issuer) token(audience string) string {
	i.t.Helper()
	now := time.Now()
	text, err := jwt.Signed(i.signer).Claims(i.claims).Claims(jwt.Claims{
		Issuer: i.URL, Subject: "a job", Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-5 * time.Second)), Expiry: jwt.NewNumericDate(now.Add(5 * time.Minute)),
	}).Serialize()
	if err != nil {
		i.t.Error(err) // the caller may be a goroutine of the server
	}
	i.given = append(i.given, text)
	return text
}
