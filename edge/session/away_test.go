package session

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// isHome checks an offer of the peer's edges for the agent with that leaf.
func isHome(t *testing.T, o *Offer, cert *x509.Certificate, scheme string) {
	t.Helper()
	if o == nil {
		t.Fatal("no offer")
	}
	block, _ := pem.Decode([]byte(o.Certificate))
	if block == nil || identity.Fingerprint(block.Bytes) != identity.Fingerprint(cert.Raw) || o.PrivateKey != "" || o.ServerRoots != peerRoots ||
		o.Heartbeat != defaultHeartbeat || o.Endpoint != scheme+"://east.example/v1/opamp" {
		t.Errorf("the offer is %+v", o)
	}
}

func TestALiveAgentIsSentToItsNewHomeAsSoonAsTheFeedTells(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
		m, l := b.desk.mustAdmit(t, cert, WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		other, otherLine := b.desk.mustAdmit(t, b.leafOf(uuid.NewString(), 1, 24*time.Hour), WebSocket)
		other.Message(t.Context(), takes(uuid.NewString()))
		time.Sleep(3 * time.Second)
		begin := time.Now()
		b.gone(cert)
		if took := time.Since(begin); took > 100*time.Millisecond || len(l.offers()) != 1 {
			t.Fatalf("%d offers after %s", len(l.offers()), took)
		}
		offer := l.offers()[0]
		isHome(t, &offer, cert, "wss")
		if got := testutil.ToFloat64(b.desk.Metrics.HandoverOffers.WithLabelValues("offered")); got != 1 || len(otherLine.offers()) != 0 {
			t.Errorf("offers counted: %v; another agent has %d", got, len(otherLine.offers()))
		}
		// It stays: it is sent off again, less and less often, and is given nothing else.
		msg := takes(uuid.NewString())
		var pauses []time.Duration
		for n, last := 1, begin; n < 7; n++ {
			for len(l.offers()) == n {
				time.Sleep(time.Second)
			}
			pauses, last = append(pauses, time.Since(last)), time.Now()
		}
		for i, p := range pauses {
			if p < 50*time.Second || p > longestHome*6/5 || i > 0 && p < pauses[i-1]*5/4 {
				t.Errorf("the pauses are %v", pauses)
				break
			}
		}
		for range 3 {
			if reply := m.Message(t.Context(), msg); reply != nil {
				t.Errorf("told %+v", reply)
			}
		}
		time.Sleep(time.Until(cert.NotAfter) - time.Minute)
		if n := len(l.offers()); n > 40 {
			t.Errorf("%d offers within a day", n)
		}
		if code, reason := l.closedWith(); code != 0 {
			t.Errorf("closed with %s", reason)
		}
		for _, in := range b.asked() {
			if in.Fingerprint == identity.Fingerprint(cert.Raw) {
				t.Error("it was to be given another leaf")
			}
		}
	})
}

func TestAnAgentThatHasGoneIsToldWithTheFirstReply(t *testing.T) {
	for transport, scheme := range map[Transport]string{WebSocket: "wss", HTTP: "https"} {
		t.Run(string(transport), func(t *testing.T) {
			atBorder(t, func(t *testing.T, b *border) {
				cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
				b.gone(cert)
				m, _ := b.desk.mustAdmit(t, cert, transport)
				reply := m.Message(t.Context(), takes(uuid.NewString()))
				isHome(t, reply.Offer, cert, scheme)
				if reply.NewInstanceUID != "" || reply.ReportFullState {
					t.Errorf("told %+v", reply)
				}
				// It comes back because it cannot get there: not with every connection.
				for range 3 {
					m.Closed()
					time.Sleep(5 * time.Second)
					m, _ = b.desk.mustAdmit(t, cert, transport)
					if reply := m.Message(t.Context(), takes(uuid.NewString())); reply == nil || *reply != (Reply{Kind: KindAgent}) {
						t.Errorf("told %+v", reply)
					}
				}
				for range 5 {
					time.Sleep(20 * time.Second)
					if reply := m.Message(t.Context(), takes(uuid.NewString())); reply != nil && reply.Offer != nil {
						isHome(t, reply.Offer, cert, scheme)
						return
					}
					if transport == WebSocket && testutil.ToFloat64(b.desk.Metrics.HandoverOffers.WithLabelValues("offered")) == 2 {
						return
					}
				}
				t.Error("it is not offered its home again")
			})
		})
	}
}

func TestAPollingAgentIsSentOffWithItsNextPoll(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
		m, _ := b.desk.mustAdmit(t, cert, HTTP)
		m.Message(t.Context(), takes(uuid.NewString()))
		if m.cert != nil {
			t.Error("the leaf of an agent that polls is kept in memory")
		}
		b.gone(cert)
		again, _ := b.desk.mustAdmit(t, cert, HTTP)
		if again != m {
			t.Error("it has another session")
		}
		isHome(t, again.Message(t.Context(), takes(uuid.NewString())).Offer, cert, "https")
	})
}

func TestWhatAnAgentThatHasGoneIsRefused(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		id := uuid.NewString()
		cert, newer := b.leafOf(id, 1, 24*time.Hour), b.leafOf(id, 2, 24*time.Hour)
		m, _ := b.desk.mustAdmit(t, cert, WebSocket)
		other, otherLine := b.desk.mustAdmit(t, newer, WebSocket)
		poll, _ := b.desk.mustAdmit(t, b.leafOf(id, 3, 24*time.Hour), HTTP)
		for _, s := range []*member{m, other, poll} {
			s.accepts = true
		}
		b.gone(cert)
		if _, reason := otherLine.closedWith(); reason != string(apitype.AgentMoved) || !poll.over() {
			t.Errorf("the session of another leaf ends with %q", reason)
		}
		for _, transport := range []Transport{WebSocket, HTTP} {
			if _, err := b.admit(newer, transport); apitype.CodeOf(err) != apitype.AgentMoved || retryAfter(err) != 0 || !strings.Contains(err.Error(), "east") {
				t.Errorf("another leaf gets %v", err)
			}
		}
		asks := takes(uuid.NewString())
		asks.CSR = "a CSR"
		if reply := m.Message(t.Context(), asks); reply == nil || reply.Refusal == nil || reply.Refusal.Err.Code != apitype.AgentMoved || len(b.asked()) > 0 {
			t.Errorf("a CSR gets %+v", reply)
		}
	})
}

func TestWhyAnAgentCannotGoIsLogged(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
		b.gone(cert)
		m, _ := b.desk.mustAdmit(t, cert, WebSocket)
		msg := takes(uuid.NewString())
		offer := m.Message(t.Context(), msg).Offer
		msg.Settings = SettingsStatus{State: SettingsFailed, Leaf: offer.Leaf, Error: "x509: unknown authority"}
		for range 3 { // agents say it over and over, on new connections as well
			m.Message(t.Context(), msg)
			m.Closed()
			m, _ = b.desk.mustAdmit(t, cert, WebSocket)
			m.Message(t.Context(), msg)
		}
		log := b.log.String()
		if n := strings.Count(log, "the agent cannot go to its new home"); n != 1 || !strings.Contains(log, "x509: unknown authority") {
			t.Errorf("said %d times:\n%s", n, log)
		}
		if got := testutil.ToFloat64(b.desk.Metrics.HandoverOffers.WithLabelValues("failed")); got != 1 {
			t.Errorf("counted %v", got)
		}
		time.Sleep(2 * time.Minute)
		m.Message(t.Context(), msg)
		if n := strings.Count(b.log.String(), "the agent cannot go to its new home"); n != 2 {
			t.Errorf("the second failure: said %d times", n)
		}
		// APPLIED is said over the connection that the offer names, and says nothing here.
		msg.Settings.State = SettingsApplied
		m.Message(t.Context(), msg)
		if m.applied {
			t.Error("its leaf counts as applied here")
		}
	})
}

func TestAnAgentThatHasNotGoneAfterAllIsServedAgain(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert := b.leafOf(uuid.NewString(), 1, time.Hour)
		m, l := b.desk.mustAdmit(t, cert, WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		b.engine.mu.Lock()
		answer := b.engine.answer
		b.engine.answer = func(s apitype.SessionReport) apitype.SessionAnswer {
			out := answer(s)
			out.Leaf = apitype.LeafMoved
			return out
		}
		b.engine.mu.Unlock()
		b.gone(cert)
		m.Message(t.Context(), described(uuid.NewString(), `{"new":1}`))
		time.Sleep(10 * time.Minute)
		reports := len(b.seen())
		if code, _ := l.closedWith(); code != 0 {
			t.Fatal("its session ended")
		}
		b.engine.mu.Lock()
		b.engine.answer = answer
		b.engine.mu.Unlock()
		b.back(cert)
		time.Sleep(5 * time.Second)
		if len(b.seen()) != reports+1 {
			t.Errorf("%d reports, before %d", len(b.seen()), reports)
		}
		before := len(l.offers())
		m.Message(t.Context(), takes(uuid.NewString()))
		time.Sleep(45 * time.Minute)
		offers := l.offers()[before:]
		if len(offers) == 0 || len(b.asked()) == 0 || offers[0].Endpoint != "wss://edge.example:4320/v1/opamp" {
			t.Errorf("its renewal: %+v", offers)
		}
		// A second move begins anew.
		b.gone(cert)
		if all := l.offers(); all[len(all)-1].Endpoint != "wss://east.example/v1/opamp" {
			t.Errorf("the last of %d offers is %+v", len(all), all[len(all)-1])
		}
	})
}

func TestOffersOfANewHomeGoToTheNewestSession(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
		older, olderLine := b.desk.mustAdmit(t, cert, WebSocket)
		older.Message(t.Context(), takes(uuid.NewString()))
		newer, newerLine := b.desk.mustAdmit(t, cert, WebSocket)
		newer.Message(t.Context(), takes(uuid.NewString()))
		b.gone(cert)
		time.Sleep(5 * time.Second)
		older.Message(t.Context(), takes(uuid.NewString()))
		if len(olderLine.offers()) != 0 || len(newerLine.offers()) != 1 {
			t.Errorf("the older has %d, the newer %d", len(olderLine.offers()), len(newerLine.offers()))
		}
	})
}

func TestWhereAnAgentCannotBeSentIsSaid(t *testing.T) {
	for name, peers := range map[string]func(*border) []apitype.SyncPeer{
		"a peer that is gone":        func(*border) []apitype.SyncPeer { return []apitype.SyncPeer{} },
		"a peer without an endpoint": func(b *border) []apitype.SyncPeer { return b.peers(func(p *apitype.SyncPeer) { p.Endpoint = "" }) },
	} {
		t.Run(name, func(t *testing.T) {
			// The edge's own address must not stand in.
			atBorder(t, func(t *testing.T, b *border) {
				cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
				m, l := b.desk.mustAdmit(t, cert, WebSocket)
				m.Message(t.Context(), takes(uuid.NewString()))
				b.tell(apitype.SyncResponse{Peers: peers(b)})
				b.gone(cert)
				time.Sleep(3 * time.Second)
				if got := testutil.ToFloat64(b.desk.Metrics.HandoverOffers.WithLabelValues("unknown")); got != 1 || len(l.offers()) != 0 {
					t.Errorf("counted %v, offered %+v", got, l.offers())
				}
				if !strings.Contains(b.log.String(), "it cannot be sent there") {
					t.Error(b.log.String())
				}
				b.tell(apitype.SyncResponse{Peers: b.peers()})
				time.Sleep(2 * time.Minute)
				if len(l.offers()) != 1 {
					t.Errorf("%d offers when the peer is known", len(l.offers()))
				}
			}, func(o *Options) { o.Advertise = "wss://us.example" })
		})
	}
}

func TestAGroupIsSentOffTogether(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		const agents = 500
		var lines []*line
		var in apitype.SyncResponse
		for range agents {
			cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
			m, l := b.desk.mustAdmit(t, cert, WebSocket)
			m.Message(t.Context(), takes(uuid.NewString()))
			lines = append(lines, l)
			in.Moves = append(in.Moves, apitype.SyncMove{AgentID: cert.Subject.CommonName, Fingerprint: identity.Fingerprint(cert.Raw), Peer: "east"})
		}
		b.tell(in)
		whole := apitype.SyncResponse{Full: true, Moves: in.Moves, Peers: b.peers(), Settings: &apitype.SyncSettings{TrustDomain: domain},
			Issuers: []apitype.SyncIssuer{{IssuerID: "i", Certificate: pemOf(b.authority.cert)}}}
		b.tell(whole)
		for _, l := range lines {
			if len(l.offers()) != 1 {
				t.Fatalf("an agent has %d offers", len(l.offers()))
			}
		}
	})
}

func TestAWholeSnapshotSendsOffAsWell(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
		m, l := b.desk.mustAdmit(t, cert, WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		b.tell(apitype.SyncResponse{Full: true, Peers: b.peers(), Settings: &apitype.SyncSettings{TrustDomain: domain},
			Issuers: []apitype.SyncIssuer{{IssuerID: "i", Certificate: pemOf(b.authority.cert)}},
			Moves:   []apitype.SyncMove{{AgentID: cert.Subject.CommonName, Fingerprint: identity.Fingerprint(cert.Raw), Peer: "east"}}})
		if len(l.offers()) != 1 {
			t.Errorf("%d offers", len(l.offers()))
		}
	})
}

func TestAnAgentThatTakesNoSettingsIsNotSentOff(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		cert := b.leafOf(uuid.NewString(), 1, 24*time.Hour)
		m, l := b.desk.mustAdmit(t, cert, WebSocket)
		m.Message(t.Context(), described(uuid.NewString(), "{}"))
		b.gone(cert)
		time.Sleep(time.Hour)
		if reply := m.Message(t.Context(), described(uuid.NewString(), "{}")); len(l.offers()) != 0 || reply != nil {
			t.Errorf("told %+v, offered %+v", reply, l.offers())
		}
	})
}

func TestARenewalWaitsForTheEndOfAHandover(t *testing.T) {
	atBorder(t, func(t *testing.T, b *border) {
		pending := uuid.NewString()
		b.engine.mu.Lock()
		renew := b.engine.renew
		over := false
		b.engine.renew = func(id string, in apitype.RenewRequest) (*apitype.Identity, error) {
			b.engine.mu.Lock()
			refuse := id == pending && !over
			b.engine.mu.Unlock()
			if refuse {
				return nil, apitype.Errorf(apitype.HandoverPending, "the agent is about to go to east")
			}
			return renew(id, in)
		}
		b.engine.mu.Unlock()
		m, l := b.desk.mustAdmit(t, b.hourLeaf(pending, 1), WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		var others []*line
		for range 20 {
			o, otherLine := b.desk.mustAdmit(t, b.hourLeaf(uuid.NewString(), 1), WebSocket)
			o.Message(t.Context(), takes(uuid.NewString()))
			others = append(others, otherLine)
		}
		time.Sleep(51 * time.Minute)
		for _, o := range others {
			if len(o.offers()) == 0 {
				t.Fatal("another agent's renewal has waited, too")
			}
		}
		if log := b.log.String(); len(l.offers()) != 0 || strings.Contains(log, "[WARN]") {
			t.Errorf("%d offers, and logged:\n%s", len(l.offers()), log)
		}
		b.engine.mu.Lock()
		over = true
		b.engine.mu.Unlock()
		time.Sleep(b.desk.Timing.Pending + 3*time.Second)
		if len(l.offers()) != 1 {
			t.Errorf("%d offers when the handover is over", len(l.offers()))
		}
	})
}
