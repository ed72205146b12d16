package session

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
)

func TestAGuestIsJudgedByItsLeafAndItsPeer(t *testing.T) {
	awaiting, active := handover.AwaitingReconnect, handover.Active
	for name, c := range map[string]struct {
		state   handover.TargetState
		prepare func(*border, *apitype.SyncGuest, *x509.Certificate) *x509.Certificate // nil: nothing
		code    apitype.Code
	}{
		"before its release":      {handover.AwaitingRelease, nil, apitype.HandoverPending},
		"released":                {awaiting, nil, ""},
		"one that has come":       {active, nil, ""},
		"the end of its handover": {awaiting, over, apitype.CertificateUntrusted},
		"another leaf of the agent": {awaiting, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			return b.peer.leaf(g.SourceAgentID, 8, time.Now().Add(time.Hour))
		}, apitype.FingerprintMismatch},
		"another leaf, expired": {awaiting, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			return b.peer.leaf(g.SourceAgentID, 8, time.Now().Add(-time.Second))
		}, apitype.CertificateUntrusted},
		"another leaf before the release": {handover.AwaitingRelease, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			return b.peer.leaf(g.SourceAgentID, 8, time.Now().Add(time.Hour))
		}, apitype.FingerprintMismatch},
		"another leaf of a suspended peer": {awaiting, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			suspend(b)
			return b.peer.leaf(g.SourceAgentID, 8, time.Now().Add(time.Hour))
		}, apitype.CertificateUntrusted},
		"another agent of the peer": {awaiting, func(b *border, _ *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			return b.peer.leaf(uuid.NewString(), 7, time.Now().Add(time.Hour))
		}, apitype.CertificateUntrusted},
		"a sibling CA of the same name": {awaiting, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			sibling := newAuthority(b.t)
			sibling.domain = b.peer.domain
			return sibling.leaf(g.SourceAgentID, 7, time.Now().Add(time.Hour))
		}, apitype.CertificateUntrusted},
		"a leaf that a leaf signed": {awaiting, func(b *border, g *apitype.SyncGuest, leaf *x509.Certificate) *x509.Certificate {
			return b.peer.sign(&x509.Certificate{SerialNumber: leaf.SerialNumber, Subject: leaf.Subject, URIs: leaf.URIs,
				NotAfter: leaf.NotAfter, ExtKeyUsage: leaf.ExtKeyUsage}, leaf)
		}, apitype.CertificateUntrusted},
		"our own leaf under the guest's id": {awaiting, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			return b.leaf(g.AgentID, 1, time.Now().Add(time.Hour))
		}, ""}, // it is ours: what it is worth the engine says
		"an expired leaf": {active, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			time.Sleep(2 * time.Hour)
			return nil
		}, apitype.CertificateExpired},
		"no peer any more": {active, func(b *border, _ *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			b.tell(apitype.SyncResponse{Peers: []apitype.SyncPeer{}})
			return nil
		}, apitype.CertificateUntrusted},
		"an issuer that the peer has retired": {active, func(b *border, _ *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			b.tell(apitype.SyncResponse{Peers: b.peers(func(p *apitype.SyncPeer) { p.CABundle = pemOf(newAuthority(b.t).cert) })})
			return nil
		}, apitype.CertificateUntrusted},
		"a suspended peer":                     {awaiting, suspended, apitype.PeerSuspended},
		"a suspended peer's that has come":     {active, suspended, ""},
		"revoked there":                        {awaiting, revokedThere, apitype.CertificateRevoked},
		"revoked there, and it has come":       {active, revokedThere, apitype.CertificateRevoked},
		"a leaf that its peer says is another": {awaiting, otherAgent, apitype.CertificateUntrusted},
		"revoked here": {active, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			b.tell(apitype.SyncResponse{Revoked: apitype.RevokedSet{{AgentID: g.AgentID, Generation: 1, NotAfter: g.NotAfter}}})
			return nil
		}, apitype.CertificateRevoked},
		"a revoked earlier leaf here": {active, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			g.Generation = 2
			b.tell(apitype.SyncResponse{Guests: []apitype.SyncGuest{*g}, Revoked: apitype.RevokedSet{{AgentID: g.AgentID, Generation: 1, NotAfter: g.NotAfter}}})
			return nil
		}, ""},
		"an id there that is revoked here": {active, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			b.tell(apitype.SyncResponse{Revoked: apitype.RevokedSet{{AgentID: g.SourceAgentID, Generation: 99, NotAfter: g.NotAfter}}})
			return nil
		}, ""},
		"another tenant's": {active, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			b.desk.Tenant = "acme"
			return nil
		}, apitype.TenantMismatch},
		"a snapshot that is too old": {active, func(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
			b.desk.MaxStaleness = time.Nanosecond
			time.Sleep(time.Second)
			return nil
		}, apitype.VaultUnavailable},
	} {
		for _, transport := range []Transport{WebSocket, HTTP} {
			t.Run(name+" "+string(transport), func(t *testing.T) {
				atBorder(t, func(t *testing.T, b *border) {
					cert, g := b.visitor(c.state, time.Hour)
					b.tell(apitype.SyncResponse{Guests: []apitype.SyncGuest{g}})
					if c.prepare != nil {
						if other := c.prepare(b, &g, cert); other != nil {
							cert = other
						}
					}
					m, err := b.admit(cert, transport)
					if apitype.CodeOf(err) != c.code {
						t.Fatalf("got %v", err)
					}
					if err == nil {
						if m.serial.AgentID() != g.AgentID || m.serial.Generation() != g.Generation || isExpected(m) != (m.guest && c.state == awaiting) {
							t.Errorf("let in as %s, expected %v", m.serial, isExpected(m))
						}
						return
					}
					if wait := retryAfter(err); c.code == apitype.HandoverPending && (wait < releaseRetry || wait > 2*releaseRetry) {
						t.Errorf("it may come again in %s", wait)
					}
					if told := len(b.desk.mismatches.take()); (told == 1) != (c.code == apitype.FingerprintMismatch) {
						t.Errorf("%d mismatches are to be told", told)
					}
				})
			})
		}
	}
}

func over(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
	b.tell(apitype.SyncResponse{Guests: []apitype.SyncGuest{{AgentID: g.AgentID, Over: true}}})
	return nil
}

func suspend(b *border) {
	b.tell(apitype.SyncResponse{Peers: b.peers(func(p *apitype.SyncPeer) { p.Suspended = true })})
}

func suspended(b *border, _ *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
	suspend(b)
	return nil
}

func revokedThere(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revokedThere[g.Fingerprint] = true
	return nil
}

func otherAgent(b *border, g *apitype.SyncGuest, _ *x509.Certificate) *x509.Certificate {
	g.SourceAgentID = uuid.NewString()
	b.tell(apitype.SyncResponse{Guests: []apitype.SyncGuest{*g}})
	return nil
}

// TestNobodyElseGetsInBecauseOfGuests tries certificates that have as much as can be in common with those of guests.
func TestNobodyElseGetsInBecauseOfGuests(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		random := rand.New(rand.NewPCG(1, 2))
		expected := map[string]apitype.SyncGuest{}
		var certs []*x509.Certificate
		var ids []string
		for _, state := range []handover.TargetState{handover.AwaitingRelease, handover.AwaitingReconnect, handover.Active, handover.AwaitingReconnect} {
			cert, g := b.visitor(state, time.Hour)
			b.tell(apitype.SyncResponse{Guests: []apitype.SyncGuest{g}})
			certs, ids = append(certs, cert), append(ids, g.AgentID, g.SourceAgentID)
			expected[g.Fingerprint] = g
		}
		stranger, sibling := newAuthority(t), newAuthority(t)
		sibling.domain = b.peer.domain
		for range 2000 {
			by := []*authority{b.peer, stranger, sibling}[random.IntN(3)]
			like := certs[random.IntN(len(certs))]
			template := &x509.Certificate{
				SerialNumber: like.SerialNumber, Subject: like.Subject, URIs: like.URIs, NotAfter: like.NotAfter, ExtKeyUsage: like.ExtKeyUsage,
			}
			for range random.IntN(3) {
				id := ids[random.IntN(len(ids))]
				serial, err := identity.LeafSerial(id, uint32(random.IntN(9)+1))
				if err != nil {
					t.Fatal(err)
				}
				switch random.IntN(5) {
				case 0:
					template.SerialNumber = serial.Big()
				case 1:
					template.Subject = pkix.Name{CommonName: id}
				case 2:
					template.URIs = []*url.URL{identity.SPIFFEID([]string{domain, b.peer.domain}[random.IntN(2)], "", id)}
				case 3:
					template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}[random.IntN(2):]
				case 4:
					template.IsCA, template.BasicConstraintsValid = true, true
				}
			}
			parent := by.cert
			if by == b.peer && random.IntN(3) == 0 {
				parent = like
			}
			forged := by.sign(template, parent)
			m, err := b.desk.judgeLeaf(Caller{Certificate: forged, Source: netip.MustParseAddr("192.0.2.1")}, b.trust.Current(), time.Now())
			if err == nil {
				t.Fatalf("let in as %+v: %s by %s", m.Leaf, forged.Subject, forged.Issuer)
			}
			if code := apitype.CodeOf(err); code != apitype.CertificateUntrusted && code != apitype.FingerprintMismatch {
				t.Fatalf("refused with %v", err)
			}
			if apitype.CodeOf(err) == apitype.FingerprintMismatch && forged.CheckSignatureFrom(b.peer.cert) != nil {
				t.Fatal("a mismatch is what the peer's key has signed, and nothing else")
			}
		}
		for _, cert := range certs {
			_, err := b.desk.judgeLeaf(Caller{Certificate: cert, Source: netip.MustParseAddr("192.0.2.1")}, b.trust.Current(), time.Now())
			if g := expected[identity.Fingerprint(cert.Raw)]; (err == nil) != (g.State != string(handover.AwaitingRelease)) {
				t.Errorf("the one that is %s gets %v", g.State, err)
			}
		}
	})
}

func TestAMismatchIsToldOnce(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		_, g := b.visitor(handover.AwaitingReconnect, time.Hour)
		b.expect(g, handover.AwaitingReconnect)
		one, two := b.peer.leaf(g.SourceAgentID, 8, time.Now().Add(5*time.Hour)), b.peer.leaf(g.SourceAgentID, 9, time.Now().Add(5*time.Hour))
		away := true
		b.engine.mu.Lock()
		b.engine.err = func(apitype.ReportRequest) error {
			if away {
				return apitype.Errorf(apitype.VaultUnavailable, "")
			}
			return nil
		}
		b.engine.mu.Unlock()
		come := func(certs ...*x509.Certificate) {
			for _, cert := range certs {
				if _, err := b.admit(cert, WebSocket); apitype.CodeOf(err) != apitype.FingerprintMismatch || strings.Contains(err.Error(), g.Fingerprint) {
					t.Fatalf("got %v", err)
				}
			}
		}
		told := func() (all []apitype.Mismatch) {
			b.engine.mu.Lock()
			defer b.engine.mu.Unlock()
			for _, r := range b.reports {
				all = append(all, r.Mismatches...)
			}
			return all
		}
		come(one, one, two)
		time.Sleep(time.Minute)
		b.engine.mu.Lock()
		away = false
		b.engine.mu.Unlock()
		come(one)
		time.Sleep(time.Minute)
		all := told()
		if len(all) != 2 || all[0] != (apitype.Mismatch{AgentID: g.AgentID, Fingerprint: identity.Fingerprint(one.Raw), SourceIP: "192.0.2.1"}) {
			t.Fatalf("told %+v", all)
		}
		time.Sleep(mismatchEvery)
		come(one)
		time.Sleep(time.Minute)
		if n := len(told()); n != 3 {
			t.Errorf("after an hour %d were told", n)
		}
		for n := range 3 * apitype.MaxMismatches {
			b.desk.mismatches.add(apitype.Mismatch{AgentID: g.AgentID, Fingerprint: strings.Repeat("0", n)})
		}
		if n := len(b.desk.mismatches.take()); n != apitype.MaxMismatches {
			t.Errorf("%d are kept", n)
		}
	})
}

func TestAnAgentThatIsFasterThanItsReleaseIsKeptWaiting(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert, g := b.visitor(handover.AwaitingRelease, time.Hour)
		b.expect(g, handover.AwaitingRelease)
		type outcome struct {
			m    *member
			err  error
			took time.Duration
		}
		come := func() chan outcome {
			begin, done := time.Now(), make(chan outcome, 1)
			go func() {
				m, err := b.admit(cert, WebSocket)
				done <- outcome{m, err, time.Since(begin)}
			}()
			time.Sleep(100 * time.Millisecond)
			return done
		}
		first := come()
		b.expect(g, handover.AwaitingReconnect)
		if got := <-first; got.err != nil || got.took > time.Second || !isExpected(got.m) {
			t.Errorf("%+v", got)
		}
		b.expect(g, handover.AwaitingRelease)
		if got := <-come(); apitype.CodeOf(got.err) != apitype.HandoverPending || got.took != b.desk.Timing.Release {
			t.Errorf("%+v", got)
		}
		// One that is faster than the feed is kept waiting as well; one of a stranger is not.
		late, other := b.visitor(handover.AwaitingReconnect, time.Hour)
		cert = late
		first = come()
		b.expect(other, handover.AwaitingReconnect)
		if got := <-first; got.err != nil || got.took > time.Second {
			t.Errorf("%+v", got)
		}
		cert = newAuthority(t).leaf(uuid.NewString(), 1, time.Now().Add(time.Hour))
		if got := <-come(); apitype.CodeOf(got.err) != apitype.CertificateUntrusted || got.took != 0 {
			t.Errorf("%+v", got)
		}
		cert, g = b.visitor(handover.AwaitingRelease, time.Hour)
		b.expect(g, handover.AwaitingRelease)
		for range maxAwaiting { // so many that there is no room to wait
			b.desk.awaiting <- struct{}{}
		}
		if got := <-come(); apitype.CodeOf(got.err) != apitype.HandoverPending || got.took != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAGuestIsGivenNothingBeforeTheEngineHasAgreed(t *testing.T) {
	for _, transport := range []Transport{WebSocket, HTTP} {
		t.Run(string(transport), func(t *testing.T) {
			atBorder(t, func(t *testing.T, b *border) {
				cert, g := b.visitor(handover.AwaitingReconnect, 24*time.Hour)
				b.expect(g, handover.AwaitingReconnect)
				away := true
				b.engine.mu.Lock()
				b.engine.err = func(in apitype.ReportRequest) error {
					if away && len(in.Sessions) > 0 {
						return apitype.Errorf(apitype.VaultUnavailable, "")
					}
					return nil
				}
				answer := b.engine.answer
				b.engine.answer = func(s apitype.SessionReport) apitype.SessionAnswer {
					out := answer(s)
					out.InstanceUID = "another"
					return out
				}
				b.engine.mu.Unlock()
				m, l := b.desk.mustAdmit(t, cert, transport)
				hello := takes(uuid.NewString())
				hello.HasDescription = false
				if reply := m.Message(t.Context(), hello); reply == nil || *reply != (Reply{Kind: KindAgent}) {
					t.Errorf("the first reply is %+v", reply)
				}
				asks := hello
				asks.CSR = "a CSR"
				if reply := m.Message(t.Context(), asks); reply == nil || reply.Refusal == nil || reply.Refusal.Err.Code != apitype.HandoverPending {
					t.Errorf("a CSR gets %+v", reply)
				}
				wait := func(d time.Duration) (last *Reply) {
					for range d / (30 * time.Second) {
						time.Sleep(30 * time.Second)
						last = m.Message(t.Context(), hello)
						if transport == HTTP && !isExpected(m) {
							break
						}
					}
					return last
				}
				if reply := wait(2 * time.Minute); reply != nil && *reply != (Reply{Kind: KindAgent}) {
					t.Errorf("told %+v", reply)
				}
				if len(l.told())+len(b.asked()) > 0 || !isExpected(m) {
					t.Errorf("the engine has not answered, and it got %+v", l.told())
				}
				b.engine.mu.Lock()
				away = false
				b.engine.mu.Unlock()
				reply := wait(time.Minute)
				if r := b.seen()[0]; r.AgentID != g.AgentID || r.SerialNumber != m.serial.String() || r.SourceIP != "192.0.2.1" {
					t.Errorf("reported %+v", r)
				}
				full, uid, offer := false, "", (*Offer)(nil)
				if transport == WebSocket {
					for _, r := range l.told() {
						full, offer = full || r.ReportFullState, r.Offer
						uid += r.NewInstanceUID
					}
				} else {
					full, offer, uid = reply.ReportFullState, reply.Offer, reply.NewInstanceUID
				}
				if !full || uid != "another" || offer == nil || offer.Endpoint == "" {
					t.Errorf("told %v %q %+v", full, uid, offer)
				}
				if in := b.asked(); len(in) == 0 || in[0].Fingerprint != g.Fingerprint || in[0].CSR != "" || in[0].GenerateKey {
					t.Errorf("asked for %+v", in)
				}
				if log := b.log.String(); !strings.Contains(log, "an agent has come from a peer") || !strings.Contains(log, "there="+g.SourceAgentID) {
					t.Error(log)
				}
			})
		})
	}
}

func TestAnArrivalIsToldAtOnceAndManyTogether(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		const arrivals = 300
		var come []*x509.Certificate
		in := apitype.SyncResponse{}
		for range arrivals {
			cert, g := b.visitor(handover.AwaitingReconnect, 24*time.Hour)
			come, in.Guests = append(come, cert), append(in.Guests, g)
		}
		b.tell(in)
		begin := time.Now()
		for _, cert := range come {
			m, _ := b.desk.mustAdmit(t, cert, WebSocket)
			go m.Message(t.Context(), takes(uuid.NewString()))
		}
		for len(b.seen()) < arrivals {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(begin); took > 200*time.Millisecond {
			t.Errorf("it took %s until all were told", took)
		}
		b.engine.mu.Lock()
		if n := len(b.reports); n > 10 {
			t.Errorf("in %d reports", n)
		}
		b.engine.mu.Unlock()
		// Their leaves of ours are spread.
		seconds := map[int64]int{}
		for len(b.asked()) < arrivals {
			before := len(b.asked())
			time.Sleep(time.Second)
			seconds[time.Now().Unix()] = len(b.asked()) - before
			if time.Since(begin) > time.Minute {
				t.Fatalf("%d of %d have been given a leaf", len(b.asked()), arrivals)
			}
		}
		for _, n := range seconds {
			if n > arrivals/3 {
				t.Errorf("%d in one second", n)
			}
		}
	})
}

func TestWhatEndsAGuestsSession(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*border, apitype.SyncGuest)
		code apitype.Code
	}{
		"the peer has revoked it": {func(b *border, g apitype.SyncGuest) { revokedThere(b, &g, nil); b.desk.PeerRevocationsChanged() }, apitype.CertificateRevoked},
		"it was revoked here": {func(b *border, g apitype.SyncGuest) {
			b.tell(apitype.SyncResponse{Revoked: apitype.RevokedSet{{AgentID: g.AgentID, Generation: 1, NotAfter: g.NotAfter}}})
		}, apitype.CertificateRevoked},
		"it is no guest any more": {func(b *border, g apitype.SyncGuest) { over(b, &g, nil) }, apitype.CertificateUntrusted},
		"a whole snapshot without it": {func(b *border, g apitype.SyncGuest) {
			b.tell(apitype.SyncResponse{Full: true, Peers: b.peers(), Settings: &apitype.SyncSettings{TrustDomain: domain},
				Issuers: []apitype.SyncIssuer{{IssuerID: "i", Certificate: pemOf(b.authority.cert)}}})
		}, apitype.CertificateUntrusted},
		"the peer is gone":      {func(b *border, _ apitype.SyncGuest) { b.tell(apitype.SyncResponse{Peers: []apitype.SyncPeer{}}) }, apitype.CertificateUntrusted},
		"the peer is suspended": {func(b *border, g apitype.SyncGuest) { b.expect(g, handover.Active); suspend(b) }, ""},
		"another guest": {func(b *border, _ apitype.SyncGuest) {
			_, g := b.visitor(handover.Active, time.Hour)
			b.expect(g, handover.Active)
		}, ""},
		"its leaf has expired":           {func(*border, apitype.SyncGuest) { time.Sleep(2 * time.Hour) }, apitype.CertificateExpired},
		"the engine knows no such agent": {nil, apitype.AgentUnknown},
		"the engine waits for a release": {nil, apitype.HandoverPending},
		"the engine knows a newer leaf":  {nil, apitype.CertificateRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			atBorder(t, func(t *testing.T, b *border) {
				b.engine.mu.Lock()
				answer := b.engine.answer
				b.engine.answer = func(s apitype.SessionReport) apitype.SessionAnswer {
					out := answer(s)
					switch {
					case c.do != nil:
					case c.code == apitype.AgentUnknown:
						out.Leaf = apitype.LeafUnknown
					case c.code == apitype.HandoverPending:
						out.Leaf = apitype.LeafPending
					default:
						out.Leaf = apitype.LeafSuperseded
					}
					return out
				}
				b.engine.mu.Unlock()
				cert, g := b.visitor(handover.AwaitingReconnect, time.Hour)
				b.expect(g, handover.AwaitingReconnect)
				m, l := b.desk.mustAdmit(t, cert, WebSocket)
				m.Message(t.Context(), takes(uuid.NewString()))
				time.Sleep(time.Second)
				if c.do != nil {
					c.do(b, g)
				}
				time.Sleep(2 * time.Second)
				if code, reason := l.closedWith(); reason != string(c.code) || (code != 0) != (c.code != "") {
					t.Errorf("closed with %d %q", code, reason)
				}
				if _, err := b.admit(cert, WebSocket); apitype.CodeOf(err) != c.code {
					t.Errorf("coming back gets %v", err)
				}
			})
		})
	}
}

// slowly is an engine that takes its time.
type slowly struct {
	Reporter
	by time.Duration
}

func (s *slowly) Report(ctx context.Context, in apitype.ReportRequest) (*apitype.ReportResponse, error) {
	time.Sleep(s.by)
	return s.Reporter.Report(ctx, in)
}

// An agent that tries its new home before it leaves the old one takes the first answer for a yes.
func TestTheFirstAnswerWaitsForTheEnginesWord(t *testing.T) {
	for _, transport := range []Transport{WebSocket, HTTP} {
		t.Run(string(transport), func(t *testing.T) {
			slow := &slowly{by: time.Second}
			atBorder(t, func(t *testing.T, b *border) {
				leaf := apitype.LeafCurrent
				b.engine.mu.Lock()
				answer := b.engine.answer
				b.engine.answer = func(s apitype.SessionReport) apitype.SessionAnswer {
					out := answer(s)
					out.Leaf = leaf
					return out
				}
				b.engine.mu.Unlock()
				come := func() (*Reply, time.Duration, *line) {
					cert, g := b.visitor(handover.AwaitingReconnect, 24*time.Hour)
					b.expect(g, handover.AwaitingReconnect)
					m, l := b.desk.mustAdmit(t, cert, transport)
					begin, hello := time.Now(), takes(uuid.NewString())
					hello.HasDescription = false
					return m.Message(t.Context(), hello), time.Since(begin), l
				}
				full := func(l *line) bool { told := l.told(); return len(told) == 1 && told[0].ReportFullState }
				reply, took, l := come()
				if reply == nil || took < time.Second || took > 2*time.Second || !reply.ReportFullState && !full(l) {
					t.Errorf("after %s: %+v", took, reply)
				}
				leaf = apitype.LeafUnknown
				reply, took, l = come()
				if took > 2*time.Second {
					t.Errorf("the no took %s", took)
				}
				if transport == HTTP {
					if reply == nil || reply.Refusal == nil || reply.Refusal.Err.Code != apitype.AgentUnknown {
						t.Errorf("told %+v", reply)
					}
				} else if _, reason := l.closedWith(); reply != nil || reason != string(apitype.AgentUnknown) {
					t.Errorf("told %+v, closed with %q", reply, reason)
				}
				leaf, slow.by = apitype.LeafCurrent, 8*time.Second
				if reply, took, _ := come(); reply == nil || *reply != (Reply{Kind: KindAgent}) || took != b.desk.Timing.Arrival {
					t.Errorf("after %s: %+v", took, reply)
				}
			}, func(o *Options) { slow.Reporter, o.Reporter = o.Reporter, slow })
		})
	}
}

// TestALeafOfOursEndsTheGuestsSession is the last step of a move: the agent has come back with the leaf that it was given.
func TestALeafOfOursEndsTheGuestsSession(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert, g := b.visitor(handover.AwaitingReconnect, 24*time.Hour)
		b.expect(g, handover.AwaitingReconnect)
		m, l := b.desk.mustAdmit(t, cert, WebSocket)
		msg := takes(uuid.NewString())
		m.Message(t.Context(), msg)
		b.expect(g, handover.Active)
		time.Sleep(15 * time.Second)
		if len(l.offers()) != 1 {
			t.Fatalf("%d offers", len(l.offers()))
		}
		own, ownLine := b.desk.mustAdmit(t, b.leafOf(g.AgentID, 2, 24*time.Hour), WebSocket)
		own.Message(t.Context(), msg)
		time.Sleep(3 * time.Second)
		if _, reason := l.closedWith(); reason != string(apitype.CertificateRevoked) {
			t.Errorf("the guest's session: %q", reason)
		}
		over(b, &g, nil)
		time.Sleep(3 * time.Second)
		if code, reason := ownLine.closedWith(); code != 0 {
			t.Errorf("the new session ended, too: %s", reason)
		}
		if own.guest || isExpected(own) {
			t.Error("the new session is one of a guest")
		}
	})
}

// TestAnAgentThatComesHomeWithAPeersLeaf has left and returns; its leaf from before it left is not what it comes with.
func TestAnAgentThatComesHomeWithAPeersLeaf(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert, g := b.visitor(handover.AwaitingRelease, 24*time.Hour)
		before := b.leafOf(g.AgentID, 3, 24*time.Hour)
		g.Generation = 4
		b.gone(before)
		b.tell(apitype.SyncResponse{Guests: []apitype.SyncGuest{g}})
		b.back(before)
		b.expect(g, handover.AwaitingReconnect)
		old, oldLine := b.desk.mustAdmit(t, before, WebSocket)
		old.Message(t.Context(), takes(uuid.NewString()))
		m, l := b.desk.mustAdmit(t, cert, WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		time.Sleep(3 * time.Second)
		if _, reason := oldLine.closedWith(); reason != string(apitype.CertificateRevoked) {
			t.Errorf("the session of the leaf from before: %q", reason)
		}
		if code, _ := l.closedWith(); code != 0 || m.serial.Generation() != 4 {
			t.Errorf("closed with %d", code)
		}
	})
}

// isExpected reports whether the engine has still to say that the guest has come.
func isExpected(m *member) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.expected
}
