package federation_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/plugin/apitype"
)

func TestAPeersNewerBundleIsBroughtToVault(t *testing.T) {
	far := newFar(t, nil)
	newer := far.ca.card("far", 2)
	far.does(func(w http.ResponseWriter, path, _ string) { _ = json.NewEncoder(w).Encode(newer) })
	e := &engine{}
	w := newWorld(t, e, far.row()).run()
	eventually(t, "Vault has it", func() bool { return get(e, func(e *engine) int { return len(e.bundles) }) > 0 })
	if got := get(e, func(e *engine) string { return e.bundles[0] }); got != newer.BundleJWS {
		t.Errorf("%q", got)
	}
	w.now(far.row(func(p *federation.Peer) { p.Sequence = 2 })) // as the feed says then
	eventually(t, "a look that was under way is over", func() bool { return w.report("far").Up })
	brought, looked := get(e, func(e *engine) int { return len(e.bundles) }), far.count("GET /federation/bundle")
	eventually(t, "it is looked at again", func() bool { return far.count("GET /federation/bundle") > looked+2 })
	if again := get(e, func(e *engine) int { return len(e.bundles) }); again > brought+1 { // one may have been under way
		t.Errorf("it was brought %d times more", again-brought)
	}
}

func TestABundleThatVaultRefusesIsShownOnce(t *testing.T) {
	far := newFar(t, nil)
	older := far.ca.card("far", 1)
	far.does(func(w http.ResponseWriter, path, _ string) { _ = json.NewEncoder(w).Encode(older) })
	e := &engine{bundle: func(string) error { return apitype.Errorf(apitype.BundleOutdated, "the pinned one is newer") }}
	w := newWorld(t, e, far.row(func(p *federation.Peer) { p.Sequence = 5 })).run()
	eventually(t, "it is logged with its code", func() bool { return w.log.has("does not take a peer's bundle", "bundle_outdated", "peer=far") })
	looked := far.count("GET /federation/bundle")
	eventually(t, "it is looked at again", func() bool { return far.count("GET /federation/bundle") > looked+2 })
	if n := get(e, func(e *engine) int { return len(e.bundles) }); n != 1 {
		t.Errorf("it was brought %d times", n)
	}
}

func TestABundleThatVaultCannotTakeNowIsBroughtAgain(t *testing.T) {
	far := newFar(t, nil)
	newer := far.ca.card("far", 2)
	far.does(func(w http.ResponseWriter, path, _ string) { _ = json.NewEncoder(w).Encode(newer) })
	e := &engine{bundle: func(string) error { return apitype.Errorf(apitype.VaultUnavailable, "away") }}
	newWorld(t, e, far.row()).run()
	eventually(t, "it is brought again", func() bool { return get(e, func(e *engine) int { return len(e.bundles) }) > 2 })
}

func TestSomebodyElsesCardIsNotThePeers(t *testing.T) {
	for name, tc := range map[string]struct {
		card func(a *authority) any
		why  string
	}{
		"another installation":      {func(a *authority) any { return a.card("other", 9) }, "another installation"},
		"another one's signed part": {func(a *authority) any { c := a.card("far", 9); c.BundleJWS = a.card("other", 9).BundleJWS; return c }, "another installation"},
		"without a signed part":     {func(a *authority) any { c := a.card("far", 9); c.BundleJWS = ""; return c }, "something else than a card"},
		"no card":                   {func(*authority) any { return "hello" }, "something else than a card"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := newFar(t, nil)
			card := tc.card(far.ca)
			far.does(func(w http.ResponseWriter, path, _ string) { _ = json.NewEncoder(w).Encode(card) })
			e := &engine{}
			w := newWorld(t, e, far.row()).run()
			eventually(t, "it is told", func() bool { r := w.report("far"); return !r.Up && strings.Contains(r.Error, tc.why) })
			if n := get(e, func(e *engine) int { return len(e.bundles) }); n != 0 {
				t.Errorf("%d bundles were brought", n)
			}
		})
	}
}

// leaf is a certificate with a serial number of the peer's.
func (a *authority) leaf() *x509.Certificate {
	return a.sign(&x509.Certificate{SerialNumber: serialNumber(a.t), Subject: pkix.Name{CommonName: "agent"}, NotAfter: time.Now().Add(time.Hour)}, &newKey(a.t).PublicKey)
}

// publishes has the peer serve these lists.
func (f *far) publishes(etag string, lists ...string) {
	f.does(func(w http.ResponseWriter, path, _ string) {
		if path != "/federation/crls" {
			f.honest(w, path)
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write([]byte(strings.Join(lists, "")))
	})
}

// rounds waits until the lists were fetched a few times more.
func (f *far) rounds() {
	f.ca.t.Helper()
	n := f.count("GET /federation/crls")
	eventually(f.ca.t.(*testing.T), "the lists are fetched", func() bool { return f.count("GET /federation/crls") > n+2 })
}

func TestWhatAPeerHasRevokedIsKnownWhileItsAgentsAreHere(t *testing.T) {
	far := newFar(t, nil)
	leaf, soon := far.ca.leaf(), time.Now().Add(time.Hour)
	far.publishes("1", far.ca.list(1, soon, nil))
	w := newWorld(t, &engine{}, far.row()).run()
	eventually(t, "the peer is up", func() bool { return w.report("far").Up })
	if far.count("GET /federation/crls") > 0 || w.report("far").CRLTime != 0 {
		t.Error("lists are fetched that nobody needs")
	}

	w.now(far.row(guests))
	eventually(t, "there is a list", func() bool { return w.report("far").CRLTime == soon.Add(-time.Hour).Unix() })
	if w.PeerRevoked("far", leaf) {
		t.Error("an empty list revokes")
	}
	far.publishes("2", far.ca.list(2, soon, nil, leaf.SerialNumber))
	eventually(t, "the list names it", func() bool { return w.PeerRevoked("far", leaf) })
	eventually(t, "sessions are told to end", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.ended) == 1 && w.ended[0] == "far" })
	if w.PeerRevoked("far", far.ca.leaf()) || w.PeerRevoked("other", leaf) {
		t.Error("it revokes more than it names")
	}
	if w.metric("peer_crl_entries", "far") != 1 || w.metric("peer_crl_next_update_seconds", "far") < 3000 || w.metric("peer_crl_age_seconds", "far") < 0 {
		t.Error("the metrics do not say so")
	}

	far.publishes("1", far.ca.list(1, soon, nil)) // somebody shows an old one again
	far.rounds()
	if !w.PeerRevoked("far", leaf) {
		t.Error("an older list counts")
	}
	far.does(func(w http.ResponseWriter, _, _ string) { w.WriteHeader(503) })
	eventually(t, "the peer is down", func() bool { return !w.report("far").Up })
	if !w.PeerRevoked("far", leaf) {
		t.Error("what is revoked comes back when the peer is away")
	}
	if w.now(); w.PeerRevoked("far", leaf) {
		eventually(t, "the lists go with the peer", func() bool { return !w.PeerRevoked("far", leaf) })
	}
}

func TestAListThatIsOverCountsOnAndIsSeen(t *testing.T) {
	far := newFar(t, nil)
	leaf := far.ca.leaf()
	far.publishes("1", far.ca.list(1, time.Now().Add(-time.Minute), nil, leaf.SerialNumber))
	w := newWorld(t, &engine{}, far.row(guests)).run()
	eventually(t, "it counts", func() bool { return w.PeerRevoked("far", leaf) })
	if left := w.metric("peer_crl_next_update_seconds", "far"); left > -59 {
		t.Errorf("%v", left)
	}
}

func TestListsAreAskedForByWhatIsHere(t *testing.T) {
	asked := make(chan string, 1000)
	var list string
	far := newFar(t, nil, func(s *httptest.Server, a *authority) {
		list = a.list(1, time.Now().Add(time.Hour), nil)
		others := s.Config.Handler
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/federation/crls" {
				others.ServeHTTP(w, r)
				return
			}
			asked <- r.Header.Get("If-None-Match")
			if r.Header.Get("If-None-Match") == `"one"` {
				w.WriteHeader(304)
				return
			}
			w.Header().Set("ETag", `"one"`)
			_, _ = w.Write([]byte(list))
		})
	})
	w := newWorld(t, &engine{}, far.row(guests)).run()
	if first, second := <-asked, <-asked; first != "" || second != `"one"` {
		t.Errorf("%q, then %q", first, second)
	}
	w.now(far.row(guests, func(p *federation.Peer) { p.Pinned = append(p.Pinned, newAuthority(t).cert) }))
	for {
		select {
		case etag := <-asked:
			if etag == "" { // the new issuer's list has never been here
				return
			}
		case <-time.After(patience):
			t.Fatal("never asked anew")
		}
	}
}

func TestListsThatAreNotThePeersOrNotWholeDoNotCount(t *testing.T) {
	stranger := newAuthority(t)
	soon := time.Now().Add(time.Hour)
	for name, lists := range map[string]func(a *authority, serial *big.Int) string{
		"signed by a stranger": func(_ *authority, n *big.Int) string { return stranger.list(9, soon, nil, n) },
		"a delta list": func(a *authority, n *big.Int) string {
			return a.list(9, soon, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}, n)
		},
		"broken":        func(a *authority, n *big.Int) string { return a.list(9, soon, nil, n)[:200] },
		"a certificate": func(a *authority, n *big.Int) string { return a.pem() + a.list(9, soon, nil, n) },
		"too many": func(a *authority, n *big.Int) string {
			return strings.Repeat(stranger.list(1, soon, nil), 65) + a.list(9, soon, nil, n)
		},
		"nothing": func(*authority, *big.Int) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far := newFar(t, nil)
			good, bad := far.ca.leaf(), far.ca.leaf()
			far.publishes("1", far.ca.list(1, soon, nil, good.SerialNumber))
			w := newWorld(t, &engine{}, far.row(guests)).run()
			eventually(t, "the good list counts", func() bool { return w.PeerRevoked("far", good) })
			far.publishes("2", lists(far.ca, bad.SerialNumber))
			far.rounds()
			if w.PeerRevoked("far", bad) || !w.PeerRevoked("far", good) {
				t.Error("it counts")
			}
			eventually(t, "it is logged", func() bool { return w.log.has("no newer lists of what a peer has revoked", "peer=far") })
		})
	}
}

func TestListsOfAnIssuerThatIsNotPinnedAnyMoreAreForgotten(t *testing.T) {
	far, second := newFar(t, nil), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	one, two := far.ca.leaf(), second.leaf()
	far.publishes("1", far.ca.list(1, soon, nil, one.SerialNumber), newAuthority(t).list(1, soon, nil), second.list(1, soon, nil, two.SerialNumber))
	both := func(p *federation.Peer) { p.Pinned = append(p.Pinned, second.cert) }
	w := newWorld(t, &engine{}, far.row(guests, both)).run()
	eventually(t, "both count", func() bool { return w.PeerRevoked("far", one) && w.PeerRevoked("far", two) })
	w.now(far.row(guests))
	eventually(t, "one is forgotten", func() bool { return !w.PeerRevoked("far", two) })
	if !w.PeerRevoked("far", one) {
		t.Error("the other one as well")
	}
}
