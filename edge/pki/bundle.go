package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// pemType is what the engine answers ca/bundle/pem with.
const pemType = "application/x-pem-file"

// bundleFresh is how long caches may keep the bundle.
const bundleFresh = time.Minute

// bundle serves the certificates of the active issuer and of the trusted ones.
func (h *Handler) bundle(w http.ResponseWriter, r *http.Request) (outcome string) {
	s := h.Trust.Current()
	switch {
	case readsOnly(w, r):
		return outcomeWrongMethod
	case s == nil:
		return refuse(w, errNoSnapshot)
	case len(s.Issuers) == 0:
		return refuse(w, errNoIssuer)
	}
	sum := sha256.Sum256([]byte(s.IssuersPEM))
	return document{
		body: []byte(s.IssuersPEM), contentType: pemType, etag: hex.EncodeToString(sum[:16]), fresh: bundleFresh,
	}.write(w, r)
}

// Refusals of lists and bundle.
var (
	errNoSnapshot    = apitype.Errorf(apitype.NotReady, "this edge has not heard of Vault yet")
	errNoIssuer      = apitype.Errorf(apitype.IssuerMissing, "there is no active issuer")
	errUnknownIssuer = apitype.Errorf(apitype.IssuerUnknown, "no active or trusted issuer has this id")
	errNoList        = apitype.Errorf(apitype.NotReady, "this edge has not got the list from Vault yet")
	errListExpired   = apitype.Errorf(apitype.VaultUnavailable, "the last list has expired, and Vault gives no newer one")
)
