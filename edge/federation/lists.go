package federation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"time"

	"github.com/ampora/ampora/plugin/handover"
)

// lists is what a peer's issuers have revoked. The newest list of an issuer counts on after its time, however long nobody
// brings another: what was revoked stays so.
type lists struct {
	byIssuer map[issuerKey]*list
	retry    retry
	next     time.Time
	etag     string
}

// issuerKey names a pinned certificate: SHA-256 of its DER.
type issuerKey [sha256.Size]byte

// serial is a certificate's serial number: at most 20 octets (RFC 5280 section 4.1.2.2), behind leading zeros.
type serial [20]byte

// list is one issuer's newest list. It never changes.
type list struct {
	number     *big.Int
	thisUpdate time.Time
	nextUpdate time.Time
	revoked    map[serial]struct{}
}

const (
	listTime    = time.Minute      // to fetch them all
	leastLists  = 10 * time.Second // between two fetches, however short crl_expiry is
	longestList = time.Hour
)

// PeerRevoked reports whether the peer's lists name the certificate. An edge that has no list yet knows of none; Options.Ended is
// told when that changes.
func (h *Handler) PeerRevoked(peer string, cert *x509.Certificate) bool {
	p := h.peer(peer)
	n, ok := serialOf(cert.SerialNumber)
	if p == nil || !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Any of its lists: an installation gives a serial number once, whichever of its issuers signs.
	for _, l := range p.lists.byIssuer {
		if _, found := l.revoked[n]; found {
			return true
		}
	}
	return false
}

func serialOf(n *big.Int) (s serial, ok bool) {
	if n == nil || n.Sign() < 0 || n.BitLen() > 8*len(s) {
		return s, false
	}
	n.FillBytes(s[:])
	return s, true
}

// made is when the oldest of the lists was, zero without one.
func (l *lists) made() time.Time { return l.first(func(one *list) time.Time { return one.thisUpdate }) }

// nextUpdate is when the first of the lists ends, zero without one.
func (l *lists) nextUpdate() time.Time {
	return l.first(func(one *list) time.Time { return one.nextUpdate })
}

func (l *lists) first(of func(*list) time.Time) (first time.Time) {
	for _, one := range l.byIssuer {
		if t := of(one); first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first
}

func (l *lists) len() (n int) {
	for _, one := range l.byIssuer {
		n += len(one.revoked)
	}
	return n
}

// keepOnly forgets the lists of issuers that are not pinned any more: their leaves do not count either.
func (l *lists) keepOnly(pinned []*x509.Certificate) {
	kept := make(map[issuerKey]bool, len(pinned))
	for _, c := range pinned {
		kept[sha256.Sum256(c.Raw)] = true
	}
	for key := range l.byIssuer {
		if !kept[key] {
			delete(l.byIssuer, key)
		}
	}
	for key := range kept {
		if l.byIssuer[key] == nil { // a new one: its list is wanted in full
			l.etag = ""
		}
	}
}

func (p *peer) listsDue() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lists.retry.why != "" {
		return p.lists.retry.at
	}
	return p.lists.next
}

// every is how often lists are fetched.
func (p *peer) every() time.Duration {
	if p.Timing.CRL > 0 {
		return p.Timing.CRL
	}
	expiry := time.Duration(0)
	if view := p.View(); view != nil {
		expiry = view.CRLExpiry
	}
	return min(max(expiry/3, leastLists), longestList)
}

// fetch brings the lists up to date.
func (p *peer) fetch(ctx context.Context, row Peer, l *line) {
	p.mu.Lock()
	etag := p.lists.etag
	p.mu.Unlock()
	reply, err := p.call(ctx, l, request{path: pathCRLs, most: maxLists, timeout: max(listTime, p.Timing.Call), etag: etag})
	var got map[issuerKey]*list
	if err == nil && reply.status == http.StatusOK {
		got, err = parseLists(reply.body, row.Pinned)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		p.listsFailed(err)
		return
	}
	p.mu.Lock()
	p.lists.retry, p.lists.next = retry{}, time.Now().Add(p.every()*9/10)
	if reply.status == http.StatusOK {
		p.lists.etag = reply.etag
	}
	more := p.lists.take(got)
	p.lists.keepOnly(p.row.Pinned)
	p.mu.Unlock()
	if more && p.Ended != nil {
		p.Ended(p.name)
	}
}

func (p *peer) listsFailed(err error) {
	p.mu.Lock()
	was := p.lists.retry.why
	p.lists.retry = p.lists.retry.after(why(err), p.Timing, 0)
	now := p.lists.retry.why
	p.mu.Unlock()
	if now != was {
		p.Logger.Warn("no newer lists of what a peer has revoked; those that are here count on", "peer", p.name, "error", now)
	}
}

// take keeps what is newer than what is held, and reports whether more certificates are revoked than before. An older list of
// an issuer is one that somebody shows again.
func (l *lists) take(got map[issuerKey]*list) (more bool) {
	if l.byIssuer == nil {
		l.byIssuer = map[issuerKey]*list{}
	}
	for key, next := range got {
		held := l.byIssuer[key]
		if held != nil && held.number.Cmp(next.number) >= 0 {
			continue
		}
		for n := range next.revoked {
			if more {
				break
			}
			known := false
			if held != nil {
				_, known = held.revoked[n]
			}
			more = !known
		}
		l.byIssuer[key] = next
	}
	return more
}

// parseLists reads the lists that a pinned certificate has signed; others are passed over, for a peer may have an issuer that
// is not pinned yet. None at all is an error.
func parseLists(text []byte, pinned []*x509.Certificate) (map[issuerKey]*list, error) {
	got := map[issuerKey]*list{}
	for n := 0; ; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "X509 CRL" || n >= handover.MaxBundle {
			return nil, &fault{text: "it answers with something else than its lists of revoked certificates"}
		}
		if err := addList(got, block.Bytes, pinned); err != nil {
			return nil, err
		}
	}
	if len(got) == 0 {
		return nil, &fault{text: "none of its lists of revoked certificates is signed by a pinned certificate"}
	}
	return got, nil
}

func addList(got map[issuerKey]*list, der []byte, pinned []*x509.Certificate) error {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return &fault{text: "one of its lists of revoked certificates cannot be read", cause: err}
	}
	signer := slices.IndexFunc(pinned, func(c *x509.Certificate) bool { return crl.CheckSignatureFrom(c) == nil })
	if signer < 0 {
		return nil
	}
	next, err := newList(crl)
	if err != nil {
		return err
	}
	key := issuerKey(sha256.Sum256(pinned[signer].Raw))
	if held := got[key]; held == nil || held.number.Cmp(next.number) < 0 {
		got[key] = next
	}
	return nil
}

// newList takes a whole list only. What is critical in one changes its meaning: a part of a list, or what has changed since
// another one (RFC 5280 sections 5.2.4 and 5.2.5).
func newList(crl *x509.RevocationList) (*list, error) {
	if crl.Number == nil {
		return nil, &fault{text: "one of its lists of revoked certificates has no number"}
	}
	for _, extension := range crl.Extensions {
		if extension.Critical {
			return nil, &fault{text: "one of its lists of revoked certificates is not whole, or says what nobody here understands"}
		}
	}
	l := &list{number: crl.Number, thisUpdate: crl.ThisUpdate, nextUpdate: crl.NextUpdate, revoked: make(map[serial]struct{}, len(crl.RevokedCertificateEntries))}
	for _, entry := range crl.RevokedCertificateEntries {
		n, ok := serialOf(entry.SerialNumber)
		if !ok {
			return nil, errors.New("one of its lists of revoked certificates has a serial number that no certificate has")
		}
		l.revoked[n] = struct{}{}
	}
	return l, nil
}
