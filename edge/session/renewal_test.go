package session

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fleet is a desk with an engine that renews, in a world whose time passes as fast as nothing happens.
type fleet struct {
	*authority
	*engine
	desk *Desk

	mu       sync.Mutex
	standing map[string]string // by serial; current without an entry
	origin   string
	refusal  error
}

func inFleet(t *testing.T, f func(*testing.T, *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &fleet{authority: newAuthority(t), engine: &engine{}, standing: map[string]string{}, origin: "csr"}
		w.engine.answer = func(s apitype.SessionReport) apitype.SessionAnswer {
			out := current(s)
			w.mu.Lock()
			defer w.mu.Unlock()
			out.KeyOrigin = w.origin
			if s.Applied != "" {
				delete(w.standing, s.SerialNumber)
			}
			if standing := w.standing[s.SerialNumber]; standing != "" {
				out.Leaf = standing
			}
			return out
		}
		w.engine.renew = func(id string, in apitype.RenewRequest) (*apitype.Identity, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.refusal != nil {
				return nil, w.refusal
			}
			out := &apitype.Identity{AgentID: id, Certificate: "leaf after " + in.IdempotencyKey}
			if in.GenerateKey {
				out.PrivateKey = "key"
			}
			return out, nil
		}
		w.desk = newTestDesk(t, w.authority, w.engine, func(o *Options) {
			o.MaxStaleness = 1000 * time.Hour
			o.Timing = Timing{}
		})
		f(t, w)
	})
}

func (w *fleet) refuseWith(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusal = err
}

func (w *fleet) asked() []apitype.RenewRequest {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return append([]apitype.RenewRequest(nil), w.renewals...)
}

func (l *line) offers() (all []Offer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.sent {
		if r.Offer != nil {
			all = append(all, *r.Offer)
		}
	}
	return all
}

// hourLeaf is a leaf of an hour's life, signed now.
func (w *fleet) hourLeaf(id string, generation uint32) *x509.Certificate {
	return w.leafOf(id, generation, time.Hour)
}

func (w *fleet) leafOf(id string, generation uint32, life time.Duration) *x509.Certificate {
	w.t.Helper()
	cert := w.leaf(id, generation, time.Now().Add(life))
	cert.NotBefore = time.Now().Add(-identity.Backdate) // what the authority signs begins a minute ago
	return cert
}

func takes(uid string) Message {
	m := described(uid, "{}")
	m.Capabilities = 1 | apitype.CapabilityAcceptsOpAMP
	return m
}

func TestRenewalsAreSpread(t *testing.T) {
	// Ten thousand agents that enrolled within one hour, with leaves of a day and of ninety, and within one second.
	for _, c := range []struct {
		life, within time.Duration
		most         int // in one minute
	}{
		{90 * 24 * time.Hour, time.Hour, 8},
		{24 * time.Hour, time.Hour, 100},
		{24 * time.Hour, time.Second, 100},
	} {
		t.Run(fmt.Sprintf("%s within %s", c.life, c.within), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			minutes := map[int64]int{}
			begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
			for range 10_000 {
				var id uuid.UUID
				for i := range id {
					id[i] = byte(random.Uint32())
				}
				serial, err := identity.LeafSerial(id.String(), 1)
				if err != nil {
					t.Fatal(err)
				}
				issued := begin.Add(time.Duration(random.Int64N(int64(c.within))))
				due := renewalDue(serial, issued, issued.Add(c.life))
				if early, late := issued.Add(c.life*2/3), issued.Add(c.life*82/100); due.Before(early) || due.After(late) {
					t.Fatalf("due %s after it was issued", due.Sub(issued))
				}
				if again := renewalDue(serial, issued, issued.Add(c.life)); again != due {
					t.Fatal("another edge comes to another moment")
				}
				minutes[due.Unix()/60]++
			}
			for _, n := range minutes {
				if n > c.most {
					t.Errorf("%d of 10,000 in one minute, want at most %d", n, c.most)
				}
			}
		})
	}
}

func TestALeafOfAnIssuerMinutesOldIsRenewedInItsLife(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for notBefore, life := range map[time.Duration]time.Duration{-identity.Backdate: time.Minute, -time.Minute: time.Minute, 0: time.Minute, -2 * time.Minute: time.Hour} {
		end := now.Add(life)
		due := renewalDue(identity.Serial{1}, identity.IssuedAt(now.Add(notBefore), end), end)
		if due.After(end.Add(-life / 20)) {
			t.Errorf("NotBefore %s, life %s: due %s before its end", notBefore, life, end.Sub(due))
		}
	}
}

func TestTheEdgeOffersTheNextLeafInTime(t *testing.T) {
	for origin, generate := range map[string]bool{"csr": false, "server": true} {
		t.Run(origin, func(t *testing.T) {
			inFleet(t, func(t *testing.T, w *fleet) {
				w.origin = origin
				leaf := w.hourLeaf(uuid.NewString(), 1)
				m, l := w.desk.mustAdmit(t, leaf, WebSocket)
				m.Message(t.Context(), takes(uuid.NewString()))
				time.Sleep(40*time.Minute - 10*time.Second)
				if n := len(w.asked()); n != 0 {
					t.Fatalf("asked %d times before two thirds of the leaf's life", n)
				}
				time.Sleep(9*time.Minute + 20*time.Second)
				offers := l.offers()
				if len(offers) == 0 || (offers[0].PrivateKey != "") != generate || offers[0].Certificate == "" || offers[0].Heartbeat == 0 ||
					offers[0].Endpoint != "wss://edge.example:4320/v1/opamp" || offers[0].Leaf == (Digest{}) {
					t.Fatalf("offered %+v", offers)
				}
				in := w.asked()[0]
				if in.GenerateKey != generate || in.CSR != "" || in.Fingerprint != identity.Fingerprint(leaf.Raw) || len(in.IdempotencyKey) != 64 || in.SourceIP != "192.0.2.1" {
					t.Errorf("asked for %+v", in)
				}
				if got := testutil.ToFloat64(w.desk.Metrics.Renewals.WithLabelValues("edge", "offered")); got < 1 {
					t.Errorf("counted %v", got)
				}
			})
		})
	}
}

func TestWhoIsNotOfferedALeaf(t *testing.T) {
	for name, prepare := range map[string]func(*fleet) Message{
		"an agent that takes no settings":           func(*fleet) Message { return described(uuid.NewString(), "{}") },
		"one of an engine that tells no key origin": func(w *fleet) Message { w.origin = ""; return takes(uuid.NewString()) },
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(t *testing.T, w *fleet) {
				msg := prepare(w)
				m, l := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
				m.Message(t.Context(), msg)
				time.Sleep(59 * time.Minute)
				if len(w.asked())+len(l.offers()) != 0 {
					t.Errorf("asked for %+v", w.asked())
				}
				if name != "an agent that takes no settings" {
					return
				}
				msg = takes(msg.InstanceUID)
				msg.HasDescription = false
				m.Message(t.Context(), msg) // it has learnt to, and is due
				time.Sleep(3 * time.Second)
				if len(l.offers()) != 1 {
					t.Errorf("%d offers", len(l.offers()))
				}
			})
		})
	}
}

func TestOneOfferIsInFlight(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		leaf := w.leafOf(uuid.NewString(), 1, 24*time.Hour)
		m, l := w.desk.mustAdmit(t, leaf, WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		for len(l.offers()) == 0 {
			time.Sleep(time.Second)
			if time.Now().After(leaf.NotAfter) {
				t.Fatal("never offered")
			}
		}
		first := time.Now()
		refused := m.Message(t.Context(), Message{InstanceUID: m.instanceUID, Capabilities: apitype.CapabilityAcceptsOpAMP, CSR: "a CSR"})
		if refused == nil || refused.Refusal == nil || refused.Refusal.Err.Code != apitype.RateLimited || !refused.Refusal.Passing() {
			t.Errorf("a CSR during the flight gets %+v", refused)
		}
		var pauses []time.Duration
		for n := 1; n < 5; n++ {
			for len(l.offers()) == n {
				time.Sleep(time.Second)
			}
			pauses = append(pauses, time.Since(first).Round(10*time.Second))
			first = time.Now()
		}
		for i, p := range pauses {
			if p < 3*time.Minute || i > 0 && p < pauses[i-1] {
				t.Errorf("the pauses are %v", pauses)
				break
			}
		}
		time.Sleep(time.Until(leaf.NotAfter))
		n := len(w.asked())
		if n < 6 || n > 60 {
			t.Errorf("asked %d times in the last third of the leaf's life", n)
		}
		for _, in := range w.asked() {
			if in.IdempotencyKey != w.asked()[0].IdempotencyKey {
				t.Error("the same request about the same leaf under another key")
			}
		}
	})
}

func TestKeysOfTheServersMakingAreNotMadeWithoutEnd(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		w.origin = "server"
		id := uuid.NewString()
		leaf := w.leafOf(id, 1, 24*time.Hour)
		time.Sleep(20 * time.Hour) // nobody is connected
		for range 30 {             // it comes back again and again without taking what it is offered
			m, _ := w.desk.mustAdmit(t, leaf, WebSocket)
			m.Message(t.Context(), takes(uuid.NewString()))
			time.Sleep(10 * time.Second)
			m.Closed()
		}
		if n := len(w.asked()); n != keyBurst {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestWhatTheAgentSaysOfAnOffer(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		m, l := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
		msg := takes(uuid.NewString())
		m.Message(t.Context(), msg)
		time.Sleep(50 * time.Minute)
		offers := len(l.offers())
		if offers == 0 {
			t.Fatal("no offer")
		}
		// Its own CSR is taken up as soon as it says that what it was offered is of no use.
		time.Sleep(leastPause)
		var failed Message
		for range 100 {
			all := l.offers()
			failed = msg
			failed.HasDescription = false
			failed.Settings = SettingsStatus{State: SettingsFailed, Leaf: all[len(all)-1].Leaf, Error: "no"}
			failed.CSR = "a CSR"
			if reply := m.Message(t.Context(), failed); reply.Offer != nil {
				if w.asked()[len(w.asked())-1].CSR != "a CSR" {
					t.Error("it was given another one's answer")
				}
				if got := testutil.ToFloat64(w.desk.Metrics.Renewals.WithLabelValues("edge", "failed")); got != 1 {
					t.Errorf("failures counted: %v", got)
				}
				return
			}
			time.Sleep(time.Second)
		}
		t.Error("it cannot ask for another one")
	})
}

func TestACSRIsAnsweredOverTheAgentsOwnConnection(t *testing.T) {
	for _, transport := range []Transport{WebSocket, HTTP} {
		t.Run(string(transport), func(t *testing.T) {
			inFleet(t, func(t *testing.T, w *fleet) {
				leaf := w.hourLeaf(uuid.NewString(), 1)
				m, _ := w.desk.mustAdmit(t, leaf, transport)
				msg := takes(uuid.NewString())
				msg.CSR, msg.Proof = "a CSR", "a proof"
				reply := m.Message(t.Context(), msg)
				if reply == nil || reply.Offer == nil || reply.Offer.PrivateKey != "" {
					t.Fatalf("answered %+v", reply)
				}
				if in := w.asked()[0]; in.CSR != "a CSR" || in.Proof != "a proof" || in.GenerateKey || in.Fingerprint != identity.Fingerprint(leaf.Raw) {
					t.Errorf("asked %+v", in)
				}
				time.Sleep(5 * time.Second)
				again := m.Message(t.Context(), msg)
				if again == nil || again.Offer == nil || *again.Offer != *reply.Offer || len(w.asked()) != 1 {
					t.Errorf("the same CSR again gets %+v after %d calls", again, len(w.asked()))
				}
				other := msg
				other.CSR = "another CSR"
				if r := m.Message(t.Context(), other); r.Refusal == nil || r.Refusal.Err.Code != apitype.RateLimited {
					t.Errorf("another CSR during the flight gets %+v", r)
				}
				// On a new connection, here or elsewhere, the same question has the same key.
				fresh, _ := w.desk.mustAdmit(t, leaf, WebSocket)
				if r := fresh.Message(t.Context(), msg); r.Offer == nil || w.asked()[1] != w.asked()[0] {
					t.Errorf("asked %+v", w.asked())
				}
				time.Sleep(4 * time.Minute)
				m, _ = w.desk.mustAdmit(t, leaf, transport)
				if r := m.Message(t.Context(), other); r.Offer == nil {
					t.Errorf("after the flight another CSR gets %+v", r)
				}
			})
		})
	}
}

func TestARefusedCSRLeavesTheSessionAlone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fleet, *Message)
		code   apitype.Code
		calls  int
	}{
		"the engine refuses":   {func(w *fleet, _ *Message) { w.refuseWith(apitype.Errorf(apitype.RenewalProofMissing, "")) }, apitype.RenewalProofMissing, 1},
		"Vault is away":        {func(w *fleet, _ *Message) { w.refuseWith(apitype.Errorf(apitype.VaultUnavailable, "")) }, apitype.VaultUnavailable, 1},
		"no capability":        {func(_ *fleet, m *Message) { m.Capabilities = 1 }, apitype.CapabilityMissing, 0},
		"a CSR without an end": {func(_ *fleet, m *Message) { m.CSR = string(make([]byte, maxCSR+1)) }, apitype.CSRInvalid, 0},
		"a proof without one":  {func(_ *fleet, m *Message) { m.Proof = string(make([]byte, identity.MaxProof+1)) }, apitype.CSRInvalid, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(t *testing.T, w *fleet) {
				m, l := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
				msg := Message{InstanceUID: uuid.NewString(), Capabilities: 1 | apitype.CapabilityAcceptsOpAMP, CSR: "a CSR"}
				c.change(w, &msg)
				r := m.Message(t.Context(), msg)
				if r == nil || r.Refusal == nil || r.Refusal.Err.Code != c.code || len(w.asked()) != c.calls {
					t.Fatalf("got %+v after %d calls", r, len(w.asked()))
				}
				w.refuseWith(nil)
				// What the refused reply could not say comes with the next one.
				if r := m.Message(t.Context(), Message{InstanceUID: msg.InstanceUID, Capabilities: 1}); r == nil || !r.ReportFullState {
					t.Errorf("the next reply is %+v", r)
				}
				if code, _ := l.closedWith(); code != 0 {
					t.Error("the session ended")
				}
			})
		})
	}
}

func TestAnAgentCannotAskWithoutEnd(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		w.refuseWith(apitype.Errorf(apitype.CSRInvalid, ""))
		m, _ := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
		msg := takes(uuid.NewString())
		for i := range 100 {
			msg.CSR = fmt.Sprint(i)
			m.Message(t.Context(), msg)
		}
		if n := len(w.asked()); n != csrBurst {
			t.Errorf("Vault was asked %d times", n)
		}
	})
}

func TestAVaultCallForOneAgentHoldsUpNobodyElse(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		release := make(chan struct{})
		renew := w.engine.renew
		w.engine.renew = func(id string, in apitype.RenewRequest) (*apitype.Identity, error) { <-release; return renew(id, in) }
		m, l := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
		other, _ := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
		msg := takes(uuid.NewString())
		msg.CSR = "a CSR"
		done := make(chan *Reply)
		go func() { done <- m.Message(t.Context(), msg) }()
		synctest.Wait()
		if r := other.Message(t.Context(), takes(uuid.NewString())); r == nil {
			t.Error("another agent gets no answer")
		}
		if second := m.Message(t.Context(), msg); second.Refusal == nil { // plain HTTP can do this
			t.Errorf("a second question at the same time gets %+v", second)
		}
		m.putOut(replacedError, time.Minute) // nor does it hold up the end of its own session
		if code, _ := l.closedWith(); code != ClosePolicy {
			t.Error("the session is still open")
		}
		close(release)
		<-done
	})
}

func TestAPollCarriesTheOffer(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		leaf := w.hourLeaf(uuid.NewString(), 1)
		msg := takes(uuid.NewString())
		offered := 0
		for time.Now().Before(leaf.NotAfter.Add(-7 * time.Minute)) {
			m, _ := w.desk.mustAdmit(t, leaf, HTTP)
			if r := m.Message(t.Context(), msg); r.Offer != nil {
				offered++
				if r.Offer.Endpoint != "https://edge.example:4320/v1/opamp" {
					t.Errorf("sent to %s", r.Offer.Endpoint)
				}
			}
			m.Closed()
			time.Sleep(30 * time.Second)
		}
		if waiting := len(w.asked()) - offered; offered == 0 || waiting < 0 || waiting > 1 { // one may wait for the next poll
			t.Errorf("%d offers, asked %d times", offered, len(w.asked()))
		}
	})
}

func TestWhenVaultIsAwayRenewalsArePutOff(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		w.refuseWith(apitype.Errorf(apitype.VaultUnavailable, ""))
		var lines []*line
		for range 200 {
			m, l := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
			m.Message(t.Context(), takes(uuid.NewString()))
			lines = append(lines, l)
		}
		time.Sleep(50 * time.Minute) // all are due
		if n := len(w.asked()); n == 0 || n > 40*renewalWorkers {
			t.Errorf("asked %d times while Vault was away", n)
		}
		w.refuseWith(nil)
		time.Sleep(2 * time.Minute)
		for _, l := range lines {
			if len(l.offers()) == 0 {
				t.Fatal("an agent was forgotten")
			}
			if code, _ := l.closedWith(); code != 0 {
				t.Fatal("a session ended")
			}
		}
	})
}

func TestRenewalsAreBoundedAndTheLeafThatEndsFirstComesFirst(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		renew := w.engine.renew
		var mu sync.Mutex
		var order []time.Time // ends of the leaves, as they were asked for
		busy, most := 0, 0
		ends := map[string]time.Time{}
		w.engine.renew = func(id string, in apitype.RenewRequest) (*apitype.Identity, error) {
			mu.Lock()
			busy++
			most = max(most, busy)
			order = append(order, ends[in.Fingerprint])
			mu.Unlock()
			time.Sleep(10 * time.Second) // a slow Vault
			mu.Lock()
			busy--
			mu.Unlock()
			return renew(id, in)
		}
		leaves := make([]*x509.Certificate, 0, 100)
		for i := range 100 {
			leaves = append(leaves, w.leafOf(uuid.NewString(), 1, time.Hour+time.Duration(i)*time.Second))
		}
		rand.Shuffle(len(leaves), func(i, j int) { leaves[i], leaves[j] = leaves[j], leaves[i] })
		time.Sleep(52 * time.Minute) // all are due, and nobody is connected
		mu.Lock()
		for _, leaf := range leaves {
			ends[identity.Fingerprint(leaf.Raw)] = leaf.NotAfter
		}
		mu.Unlock()
		for _, leaf := range leaves {
			m, _ := w.desk.mustAdmit(t, leaf, WebSocket)
			m.Message(t.Context(), takes(uuid.NewString()))
		}
		time.Sleep(100 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(order) < 100 || most != renewalWorkers {
			t.Fatalf("%d leaves asked for, %d at a time", len(order), most)
		}
		// What is asked for at the same time is in no order, and at first not all were there.
		for i := 4 * renewalWorkers; i < 100; i++ {
			if order[i].Before(order[i-2*renewalWorkers]) {
				t.Fatalf("number %d ends before one that was asked for long before it", i)
			}
		}
	})
}

func TestVaultAwayCostsNoKeys(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		w.origin = "server"
		w.refuseWith(apitype.Errorf(apitype.OutcomeUnknown, ""))
		m, l := w.desk.mustAdmit(t, w.hourLeaf(uuid.NewString(), 1), WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		time.Sleep(55 * time.Minute)
		if n := len(w.asked()); n <= keyBurst {
			t.Fatalf("asked %d times: the test shows nothing", n)
		}
		w.refuseWith(nil)
		time.Sleep(3 * time.Minute)
		if len(l.offers()) == 0 {
			t.Error("no offer when Vault was back")
		}
	})
}

func TestTheNewestSessionGetsTheOffer(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		id := uuid.NewString()
		leaf := w.hourLeaf(id, 1)
		older, first := w.desk.mustAdmit(t, leaf, WebSocket)
		newer, second := w.desk.mustAdmit(t, leaf, WebSocket)
		for _, m := range []*member{older, newer} {
			m.Message(t.Context(), takes(uuid.NewString()))
		}
		time.Sleep(49*time.Minute + 15*time.Second)
		if len(first.offers()) != 0 || len(second.offers()) == 0 {
			t.Errorf("%d offers to the older session, %d to the newer one", len(first.offers()), len(second.offers()))
		}
		newer.Closed()
		time.Sleep(lookAgain + 2*time.Second)
		if len(first.offers()) != 1 {
			t.Errorf("with the newer one gone: %d offers", len(first.offers()))
		}
		w.unconfirmed(id, 2)
		next, _ := w.desk.mustAdmit(t, w.hourLeaf(id, 2), WebSocket)
		next.Message(t.Context(), takes(uuid.NewString()))
		time.Sleep(7 * time.Minute)
		if len(first.offers()) != 1 {
			t.Error("an offer to the session of an older leaf")
		}
	})
}

// unconfirmed makes the engine say of a leaf that it is not confirmed yet.
func (w *fleet) unconfirmed(id string, generation uint32) {
	w.t.Helper()
	s, err := identity.LeafSerial(id, generation)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standing[s.String()] = apitype.LeafNext
}

func TestAnAppliedLeafIsToldAtOnceAndEndsTheOlderOnes(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		id := uuid.NewString()
		old, gone := w.desk.mustAdmit(t, w.hourLeaf(id, 1), WebSocket)
		uid := uuid.NewString()
		old.Message(t.Context(), takes(uid))
		w.unconfirmed(id, 2)
		leaf := w.hourLeaf(id, 2)
		fresh, stays := w.desk.mustAdmit(t, leaf, WebSocket)
		fresh.Message(t.Context(), takes(uid))
		time.Sleep(10 * time.Second)
		if code, _ := gone.closedWith(); code != 0 {
			t.Fatal("the older session ended before the new leaf was confirmed")
		}
		applied := SettingsStatus{State: SettingsApplied, Leaf: fresh.leaf}
		early := takes(uid)
		early.HasDescription, early.Settings = false, applied
		old.Message(t.Context(), early) // it says so over the old leaf's connection: it has not tried yet
		time.Sleep(10 * time.Second)
		if code, _ := gone.closedWith(); code != 0 {
			t.Fatal("what was said over the old leaf's connection counted")
		}
		fresh.Message(t.Context(), early)
		time.Sleep(5 * time.Second)
		if code, reason := gone.closedWith(); code != ClosePolicy || reason != string(apitype.CertificateRevoked) {
			t.Errorf("the older session: %d %s", code, reason)
		}
		if code, _ := stays.closedWith(); code != 0 {
			t.Error("the new session ended")
		}
		var told []string
		for _, r := range w.seen() {
			if r.Applied != "" {
				told = append(told, r.Applied)
			}
		}
		if len(told) != 1 || told[0] != identity.Fingerprint(leaf.Raw) || told[0] != hex.EncodeToString(fresh.leaf[:]) {
			t.Errorf("told %v", told)
		}
		if _, err := w.desk.Admit(t.Context(), Caller{Transport: WebSocket, Certificate: w.hourLeaf(id, 1)}); apitype.CodeOf(err) != apitype.CertificateRevoked {
			t.Errorf("the older leaf gets %v", err)
		}
	})
}

func TestSessionsAreReportedAgain(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		id, next := uuid.NewString(), uuid.NewString()
		m, _ := w.desk.mustAdmit(t, w.leafOf(id, 1, 100*24*time.Hour), WebSocket)
		m.Message(t.Context(), takes(uuid.NewString()))
		w.unconfirmed(next, 2)
		n, _ := w.desk.mustAdmit(t, w.leafOf(next, 2, 100*24*time.Hour), WebSocket)
		n.Message(t.Context(), takes(uuid.NewString()))
		count := func(id string) (n int) {
			for _, r := range w.seen() {
				if r.AgentID == id {
					n++
				}
			}
			return n
		}
		time.Sleep(14 * time.Minute)
		if count(id) != 1 || count(next) != 1 {
			t.Fatalf("%d and %d reports at first", count(id), count(next))
		}
		time.Sleep(2 * time.Minute)
		if count(next) != 2 {
			t.Errorf("%d reports of a leaf to be confirmed after a quarter of an hour", count(next))
		}
		time.Sleep(20*time.Hour - 16*time.Minute)
		if got := count(id); got < 5 || got > 6 {
			t.Errorf("%d reports of a session in twenty hours", got)
		}
	})
}
