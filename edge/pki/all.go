package pki

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// ServeAll answers with the lists of all issuers that are active or trusted, one PEM block after the other, and says for the
// metrics how that ended. It answers with all of them or with none: whoever asks must not take a part for the whole.
func (h *Handler) ServeAll(w http.ResponseWriter, r *http.Request) (outcome string) {
	if readsOnly(w, r) {
		return outcomeWrongMethod
	}
	all, refusal := h.lists.all()
	if refusal != nil {
		return refuse(w, refusal)
	}
	return all.write(w, r)
}

// whole is the lists of all issuers behind each other. It never changes.
type whole struct {
	etag string
	pem  []byte
}

// all is every issuer's list, as one document.
func (l *lists) all() (document, *apitype.Error) {
	s := l.Trust.Current()
	switch {
	case s == nil:
		return document{}, errNoSnapshot
	case len(s.IssuerIDs) == 0:
		return document{}, errNoIssuer
	}
	parts := make([]*list, len(s.IssuerIDs))
	names := sha256.New()
	for i, id := range s.IssuerIDs {
		var refusal *apitype.Error
		if parts[i], refusal = l.of(id); refusal != nil {
			return document{}, refusal
		}
		names.Write([]byte(id + "." + parts[i].number + "\n"))
	}
	d := document{contentType: pemType, etag: hex.EncodeToString(names.Sum(nil)[:16]), expires: parts[0].expires}
	refresh := parts[0].refresh
	for _, one := range parts[1:] {
		d.expires, refresh = earlier(d.expires, one.expires), earlier(refresh, one.refresh)
	}
	d.fresh = freshFor(refresh, d.expires, time.Now())
	d.body = l.joined(d.etag, parts)
	return d, nil
}

// joined is kept until one of the lists has changed: together they may have megabytes, and anybody may ask.
func (l *lists) joined(etag string, parts []*list) []byte {
	if held := l.whole.Load(); held != nil && held.etag == etag {
		return held.pem
	}
	made := &whole{etag: etag}
	for _, one := range parts {
		made.pem = append(made.pem, one.pem...)
	}
	l.whole.Store(made)
	return made.pem
}
