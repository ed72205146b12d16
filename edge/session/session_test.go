package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

func TestASessionEndsWithItsLeaf(t *testing.T) {
	inFleet(t, func(t *testing.T, w *fleet) {
		id := uuid.NewString()
		short := w.leaf(id, 1, time.Now().Add(20*time.Second))
		_, l := w.desk.mustAdmit(t, short, WebSocket)
		poll, _ := w.desk.mustAdmit(t, w.leaf(uuid.NewString(), 1, time.Now().Add(10*time.Second)), HTTP)
		_, stays := w.desk.mustAdmit(t, w.leaf(id, 2, time.Now().Add(time.Hour)), WebSocket)
		time.Sleep(19 * time.Second)
		if code, _ := l.closedWith(); code != 0 {
			t.Fatal("the session ended before its leaf")
		}
		time.Sleep(3 * time.Second)
		if code, reason := l.closedWith(); code != ClosePolicy || reason != "certificate_expired" {
			t.Errorf("closed with %d %s", code, reason)
		}
		if !poll.over() {
			t.Error("the polling agent is remembered")
		}
		if code, _ := stays.closedWith(); code != 0 {
			t.Error("another leaf's session ended as well")
		}
		_, err := w.desk.Admit(t.Context(), Caller{Transport: WebSocket, Certificate: short})
		if apitype.CodeOf(err) != apitype.CertificateExpired {
			t.Errorf("the expired leaf gets %v", err)
		}
	})
}

func (m *member) over() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func TestWhatTheEngineSaysOfALeafEndsItsSessions(t *testing.T) {
	for standing, code := range map[string]apitype.Code{
		apitype.LeafSuperseded: apitype.CertificateRevoked, apitype.LeafRevoked: apitype.CertificateRevoked, apitype.LeafUnknown: apitype.AgentUnknown,
	} {
		t.Run(standing, func(t *testing.T) {
			a := newAuthority(t)
			d := newTestDesk(t, a, &engine{answer: func(s apitype.SessionReport) apitype.SessionAnswer {
				out := current(s)
				out.Leaf = standing
				return out
			}})
			leaf := a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour))
			m, l := d.mustAdmit(t, leaf, WebSocket)
			m.Message(t.Context(), described(uuid.NewString(), "{}"))
			eventually(t, "the session ends", func() bool { c, reason := l.closedWith(); return c == ClosePolicy && reason == string(code) })
			for _, transport := range []Transport{WebSocket, HTTP} {
				_, err := d.Admit(t.Context(), Caller{Transport: transport, Certificate: leaf})
				if apitype.CodeOf(err) != code {
					t.Errorf("%s: coming back gets %v", transport, err)
				}
			}
		})
	}
}

func TestReportsWaitForVaultAndCarryTheDescriptionOnlyWhenAsked(t *testing.T) {
	a := newAuthority(t)
	away, wanted := true, true
	e := &engine{
		err: func(apitype.ReportRequest) error {
			if away {
				return apitype.Errorf(apitype.VaultUnavailable, "")
			}
			return nil
		},
		answer: func(s apitype.SessionReport) apitype.SessionAnswer {
			out := current(s)
			out.StateWanted = wanted && !s.HasState
			if s.HasState {
				wanted = false
			}
			return out
		},
	}
	d := newTestDesk(t, a, e)
	m, l := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), WebSocket)
	uid := uuid.NewString()
	m.Message(t.Context(), described(uid, `{"a":1}`))
	time.Sleep(100 * time.Millisecond)
	if len(e.seen()) != 0 {
		t.Fatal("a report arrived while Vault was away")
	}
	e.mu.Lock()
	away = false
	e.mu.Unlock()
	eventually(t, "the description arrives", func() bool { all := e.seen(); return len(all) == 2 && all[1].HasState })
	all := e.seen()
	if all[0].HasState || all[0].Description != "" || all[0].DisplayName != "" || all[0].Capabilities != 0 {
		t.Errorf("the first report tells more than it was asked for: %+v", all[0])
	}
	want := apitype.StateHash(`{"a":1}`, "host", 1)
	if all[0].StateHash != want || all[1].StateHash != want || all[1].Description != `{"a":1}` || all[1].InstanceUID != uid || all[1].SourceIP != "192.0.2.1" {
		t.Errorf("the reports are %+v", all)
	}
	m.Message(t.Context(), described(uid, `{"a":1}`))
	time.Sleep(100 * time.Millisecond)
	if n := len(e.seen()); n != 2 {
		t.Errorf("%d reports, although nothing is new", n)
	}
	if code, _ := l.closedWith(); code != 0 {
		t.Error("the session ended")
	}
}

func TestOneReportThatVaultRefusesDoesNotHoldUpTheOthers(t *testing.T) {
	a := newAuthority(t)
	bad := uuid.NewString()
	e := &engine{answer: current}
	e.err = func(in apitype.ReportRequest) error {
		if slices.ContainsFunc(in.Sessions, func(s apitype.SessionReport) bool { return s.AgentID == bad }) {
			return apitype.Errorf(apitype.FieldInvalid, "")
		}
		return nil
	}
	e.mu.Lock() // until all are waiting
	d := newTestDesk(t, a, e)
	for i := range 9 {
		id := uuid.NewString()
		if i == 4 {
			id = bad
		}
		m, _ := d.mustAdmit(t, a.leaf(id, 1, time.Now().Add(time.Hour)), WebSocket)
		m.Message(t.Context(), described(uuid.NewString(), "{}"))
	}
	e.mu.Unlock()
	eventually(t, "the other eight arrive", func() bool { return len(e.seen()) == 8 })
}

func TestALargeFleetIsReportedInBatches(t *testing.T) {
	a := newAuthority(t)
	e := &engine{answer: current}
	e.mu.Lock()
	d := newTestDesk(t, a, e)
	const agents = apitype.MaxSessionReports + 10
	for range agents {
		m, _ := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), HTTP)
		m.Message(t.Context(), described(uuid.NewString(), "{}"))
	}
	e.mu.Unlock()
	eventually(t, "all arrive", func() bool { return len(e.seen()) == agents })
	for _, r := range e.reports {
		if len(r.Sessions) > apitype.MaxSessionReports {
			t.Errorf("%d sessions in one report", len(r.Sessions))
		}
	}
}

func TestAgentsThatStopPollingAreForgotten(t *testing.T) {
	a := newAuthority(t)
	d := newTestDesk(t, a, &engine{answer: current})
	m, _ := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), HTTP)
	m.Message(t.Context(), described(uuid.NewString(), "{}"))
	d.polls.sweep(time.Now().Add(time.Minute))
	if d.Live() != 1 {
		t.Fatal("forgotten too soon")
	}
	d.polls.sweep(time.Now().Add(10 * time.Minute))
	if d.Live() != 0 {
		t.Fatal("remembered for ever")
	}
}

func TestOneAgentCannotConnectWithoutEnd(t *testing.T) {
	a := newAuthority(t)
	d := newTestDesk(t, a, &engine{answer: current})
	greedy, other := a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour))
	var err error
	for range agentBurst + 20 {
		if _, err = d.Admit(t.Context(), Caller{Transport: WebSocket, Certificate: greedy}); err != nil {
			break
		}
	}
	var r *Refusal
	if apitype.CodeOf(err) != apitype.RateLimited || !errors.As(err, &r) || r.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	if _, err := d.Admit(t.Context(), Caller{Transport: WebSocket, Certificate: other}); err != nil {
		t.Errorf("another agent gets %v", err)
	}
}

func TestTheEndpointFollowsTheTransport(t *testing.T) {
	s := &trust.Snapshot{Settings: apitype.SyncSettings{Endpoint: "wss://edge.example:4320"}}
	for _, c := range []struct {
		advertise string
		transport Transport
		want      string
	}{
		{"", WebSocket, "wss://edge.example:4320/v1/opamp"},
		{"", HTTP, "https://edge.example:4320/v1/opamp"},
		{"https://other.example/x", WebSocket, "wss://other.example/x"},
	} {
		if got, refusal := endpoint(c.advertise, s, c.transport); refusal != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c, got, refusal)
		}
	}
	if _, refusal := endpoint("", &trust.Snapshot{}, HTTP); refusal == nil || refusal.Err.Code != apitype.NotConfigured {
		t.Errorf("without an endpoint: %v", refusal)
	}
}

func TestRefusalsHaveACodeAndAWait(t *testing.T) {
	for code, waits := range map[apitype.Code]bool{
		apitype.TokenExpired: false, apitype.RateLimited: true, apitype.VaultUnavailable: true, apitype.Draining: true, apitype.CSRInvalid: false,
	} {
		if r := refusef(code, ""); r.Passing() != waits {
			t.Errorf("%s: passing is %v", code, r.Passing())
		}
	}
	if r := refuse(errors.New("secret inside")); r.Err.Code != apitype.Internal || strings.Contains(r.Error(), "secret") {
		t.Errorf("a foreign error becomes %v", r)
	}
}

// forgetful loses the answer of the first redemption.
type forgetful struct {
	engine
	keys []string
}

func (f *forgetful) RedeemCheck(context.Context, apitype.RedeemCheckRequest) (*apitype.RedeemCheckResponse, error) {
	if len(f.keys) > 0 {
		return nil, apitype.Errorf(apitype.TokenRedeemed, "")
	}
	return &apitype.RedeemCheckResponse{}, nil
}

func (f *forgetful) Redeem(_ context.Context, in apitype.RedeemRequest) (*apitype.Identity, error) {
	f.keys = append(f.keys, in.IdempotencyKey)
	if len(f.keys) == 1 {
		return nil, apitype.Errorf(apitype.OutcomeUnknown, "")
	}
	return &apitype.Identity{Certificate: "C", PrivateKey: "K"}, nil
}

func TestAnAgentWhoseAnswerWasLostComesBackUnderTheSameKey(t *testing.T) {
	f := &forgetful{}
	d := newTestDesk(t, newAuthority(t), &f.engine)
	d.Issuer = f
	caller := Caller{Transport: HTTP, Authorization: []string{"Bearer " + token.New(token.Bootstrap).Reveal()}}
	message := Message{InstanceUID: uuid.NewString(), Capabilities: apitype.CapabilityAcceptsOpAMP}
	come := func() *Reply {
		t.Helper()
		s, err := d.Admit(t.Context(), caller)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Closed()
		return s.Message(t.Context(), message)
	}
	if first := come(); first.Refusal == nil || !first.Refusal.Passing() {
		t.Fatalf("the first answer is %+v", first)
	}
	if second := come(); second.Offer == nil || f.keys[0] != f.keys[1] {
		t.Fatalf("the second answer is %+v under %v", second, f.keys)
	}
	if _, err := d.Admit(t.Context(), caller); apitype.CodeOf(err) != apitype.TokenRedeemed {
		t.Errorf("a third time gives %v", err)
	}
}

// What an agent said in a session that is over waits in the queue when it comes back and says something else.
func TestASessionThatIsOverDoesNotUndoWhatTheNextOneSays(t *testing.T) {
	a := newAuthority(t)
	away, row := true, ""
	e := &engine{
		err: func(apitype.ReportRequest) error {
			if away {
				return apitype.Errorf(apitype.VaultUnavailable, "")
			}
			return nil
		},
		answer: func(s apitype.SessionReport) apitype.SessionAnswer { // as the engine keeps a row
			out := current(s)
			if s.HasState {
				row = s.StateHash
			}
			out.StateWanted = s.StateHash != "" && s.StateHash != row
			return out
		},
	}
	d := newTestDesk(t, a, e)
	leaf := a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour))
	uid := uuid.NewString()
	older, _ := d.mustAdmit(t, leaf, WebSocket)
	older.Message(t.Context(), described(uid, `{"a":1}`))
	older.Closed()
	newer, _ := d.mustAdmit(t, leaf, WebSocket)
	newer.Message(t.Context(), described(uid, `{"a":2}`))
	e.mu.Lock()
	away = false
	e.mu.Unlock()
	now := apitype.StateHash(`{"a":2}`, "host", 1)
	eventually(t, "the row says what the agent says now", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return row == now
	})
	for _, s := range e.seen() {
		if s.StateHash != "" && s.StateHash != now {
			t.Errorf("the session that is over tells %+v", s)
		}
	}
}
