package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/ampora/ampora/edge/delivery"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// shelf is what edge/delivery knows, as a test puts it there.
type shelf struct {
	mu      sync.Mutex
	targets map[delivery.Assignment]delivery.Target
	err     error
	gate    chan struct{} // every read takes one value out of it, when set
	reads   int
	now     int // reads under way
	most    int
}

func (s *shelf) Target(a delivery.Assignment) (delivery.Target, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, found := s.targets[a]
	return t, found
}

func (s *shelf) Body(_ context.Context, t delivery.Target) (*delivery.Configuration, error) {
	s.mu.Lock()
	s.reads++
	s.now++
	s.most = max(s.most, s.now)
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	return &delivery.Configuration{Hash: t.Hash, ContentType: "text/yaml", Body: []byte(t.Name)}, s.err
}

func (s *shelf) put(a delivery.Assignment, name string, n byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.targets == nil {
		s.targets = map[delivery.Assignment]delivery.Target{}
	}
	s.targets[a] = delivery.Target{Tenant: a.Tenant, Name: name, Hash: delivery.Hash{31: n}}
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

var inWeb = delivery.Assignment{Tenant: "acme", Group: "web"}

// grouped answers that the agent is in a group.
func grouped(s apitype.SessionReport) apitype.SessionAnswer {
	a := current(s)
	a.Tenant, a.Group = inWeb.Tenant, inWeb.Group
	return a
}

func withShelf(s *shelf) func(*Options) { return func(o *Options) { o.Configurations = s } }

// accepts is a message of an agent that accepts remote configs; it describes itself, and says what it has, if anything.
func accepts(has *RemoteStatus) Message {
	m := described(uuid.NewString(), "{}")
	m.Capabilities |= apitype.CapabilityRemoteConfig | apitype.CapabilityReportsRemoteConfig
	m.Remote = has
	return m
}

func says(has RemoteStatus) Message {
	m := accepts(&has)
	m.HasDescription, m.Description, m.DisplayName = false, "", ""
	return m
}

func (l *line) configurations() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.sent {
		if r.Configuration != nil {
			all = append(all, string(r.Configuration.Body))
		}
	}
	return all
}

// lastSaid is the remote config's status in the last report.
func (e *engine) lastSaid() apitype.ConfigurationReport {
	for all := e.seen(); len(all) > 0; all = all[:len(all)-1] {
		if c := all[len(all)-1].Configuration; c != nil {
			return *c
		}
	}
	return apitype.ConfigurationReport{Status: "none"}
}

func TestWhatAnAgentHasIsNotOffered(t *testing.T) {
	first, second := delivery.Hash{31: 1}, delivery.Hash{31: 2}
	for _, c := range []struct {
		name string
		has  *RemoteStatus
		want int // offers of the first, before the second
	}{
		{"nothing", nil, 1},
		{"nothing, as it says", &RemoteStatus{}, 1},
		{"applied", &RemoteStatus{Hash: first, State: RemoteApplied}, 0},
		{"still at it", &RemoteStatus{Hash: first, State: RemoteApplying}, 0},
		{"failed there", &RemoteStatus{Hash: first, State: RemoteFailed, Error: "no"}, 0},
		{"the hash alone", &RemoteStatus{Hash: first}, 0},
		{"another one", &RemoteStatus{Hash: delivery.Hash{31: 9}, State: RemoteApplied}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, e, s := newAuthority(t), &engine{answer: grouped}, &shelf{}
			s.put(inWeb, "first", 1)
			d := newTestDesk(t, a, e, withShelf(s))
			m, l := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), WebSocket)
			m.Message(t.Context(), accepts(c.has))
			eventually(t, "the session is reported", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.report == nil })
			if c.want > 0 {
				eventually(t, "it is offered", func() bool { return len(l.configurations()) == c.want })
			}
			s.put(inWeb, "second", 2)
			d.Reconfigured()
			eventually(t, "the other one is offered", func() bool { return len(l.configurations()) == c.want+1 })
			m.Message(t.Context(), says(RemoteStatus{Hash: second, State: RemoteFailed, Error: "no such receiver"}))
			d.Reconfigured()
			eventually(t, "that it failed is reported", func() bool {
				return e.lastSaid() == apitype.ConfigurationReport{Status: "failed", Hash: second.String(), Name: "second", Error: "no such receiver"}
			})
			if got := l.configurations(); len(got) != c.want+1 {
				t.Errorf("offered %v", got)
			}
			if n := testutil.ToFloat64(d.Metrics.RemoteConfigs.WithLabelValues("failed")); n != 1 {
				t.Errorf("%v failed", n)
			}
		})
	}
}

func TestNothingIsOfferedBeforeTheAgentHasSaidWhatItHas(t *testing.T) {
	a, e, s := newAuthority(t), &engine{answer: grouped}, &shelf{}
	s.put(inWeb, "first", 1)
	d := newTestDesk(t, a, e, withShelf(s))
	m, l := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), WebSocket)
	bare := accepts(nil)
	bare.HasDescription = false
	if reply := m.Message(t.Context(), bare); reply == nil || !reply.ReportFullState {
		t.Errorf("%+v", reply)
	}
	eventually(t, "the session is reported", func() bool { return len(e.seen()) > 0 })
	d.Reconfigured()
	m.Message(t.Context(), accepts(&RemoteStatus{Hash: delivery.Hash{31: 1}, State: RemoteApplied}))
	s.put(inWeb, "second", 2)
	d.Reconfigured()
	eventually(t, "the second is offered", func() bool { return len(l.configurations()) > 0 })
	if got := l.configurations(); got[0] != "second" {
		t.Errorf("offered %v", got)
	}
}

func TestABoundedNumberOfAgentsIsSentConfigurationsAtATime(t *testing.T) {
	const agents = 3 * deliverers
	a, e, s := newAuthority(t), &engine{answer: grouped}, &shelf{gate: make(chan struct{}, agents)}
	s.put(inWeb, "first", 1)
	d := newTestDesk(t, a, e, withShelf(s))
	var lines []*line
	for range agents {
		m, l := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), WebSocket)
		m.Message(t.Context(), accepts(nil))
		lines = append(lines, l)
	}
	eventually(t, "all workers are at it", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.now == deliverers })
	for range agents {
		s.gate <- struct{}{}
	}
	for _, l := range lines {
		eventually(t, "everybody gets it", func() bool { return len(l.configurations()) == 1 })
	}
	if s.most != deliverers {
		t.Errorf("%d at a time", s.most)
	}
}

func TestAConfigurationThatCannotBeHadIsTriedAgain(t *testing.T) {
	a, e, s := newAuthority(t), &engine{answer: grouped}, &shelf{err: errors.New("Vault is away")}
	s.put(inWeb, "first", 1)
	d := newTestDesk(t, a, e, withShelf(s))
	m, l := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), WebSocket)
	m.Message(t.Context(), accepts(nil))
	poll, _ := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), HTTP)
	poll.Message(t.Context(), accepts(nil))
	eventually(t, "it was tried", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.reads > 0 })
	eventually(t, "the poll's session is reported", func() bool { poll.mu.Lock(); defer poll.mu.Unlock(); return poll.report == nil })
	if reply := poll.Message(t.Context(), says(RemoteStatus{})); reply == nil || reply.Configuration != nil {
		t.Errorf("%+v", reply)
	}
	s.fail(nil)
	eventually(t, "it is sent", func() bool { return len(l.configurations()) == 1 })
	if reply := poll.Message(t.Context(), says(RemoteStatus{})); reply == nil || reply.Configuration == nil {
		t.Errorf("%+v", reply)
	}
}

// An answer to a poll may get lost: it is repeated after a while, but not for ever.
func TestAnOfferWithoutAWordOfItIsRepeatedAFewTimes(t *testing.T) {
	a, e, s := newAuthority(t), &engine{answer: grouped}, &shelf{}
	s.put(inWeb, "first", 1)
	d := newTestDesk(t, a, e, withShelf(s))
	m, _ := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), HTTP)
	m.Message(t.Context(), accepts(nil))
	eventually(t, "the session is reported", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.report == nil })
	given := 0
	for range 10 {
		if m.Message(t.Context(), says(RemoteStatus{})).Configuration != nil {
			given++
		}
		if m.Message(t.Context(), says(RemoteStatus{})).Configuration != nil {
			t.Fatal("repeated at once")
		}
		m.mu.Lock()
		m.remote.sentAt -= int64(d.Timing.Flight / time.Second)
		m.mu.Unlock()
	}
	if given != maxDeliveries {
		t.Errorf("given %d times", given)
	}
	s.put(inWeb, "second", 2)
	if c := m.Message(t.Context(), says(RemoteStatus{})).Configuration; c == nil || string(c.Body) != "second" {
		t.Errorf("%+v", c)
	}
}

// While a report is on its way the agent is put into another group: the answer is the old one, and so it is asked again.
func TestAReassignedAgentIsReportedAgain(t *testing.T) {
	for name, change := range map[string]func(id string) trust.Change{
		"by name":          func(id string) trust.Change { return trust.Change{Reassigned: []string{"nonsense", id}} },
		"a whole snapshot": func(string) trust.Change { return trust.Change{Full: true} },
	} {
		t.Run(name, func(t *testing.T) {
			a, s := newAuthority(t), &shelf{}
			s.put(inWeb, "first", 1)
			s.put(delivery.Assignment{Tenant: "acme", Group: "db"}, "second", 2)
			var mu sync.Mutex
			group, asked, gate := "web", make(chan struct{}, 8), make(chan struct{}, 8)
			e := &engine{}
			e.answer = func(r apitype.SessionReport) apitype.SessionAnswer {
				mu.Lock()
				out := grouped(r)
				out.Group = group
				mu.Unlock()
				asked <- struct{}{}
				<-gate
				return out
			}
			d := newTestDesk(t, a, e, withShelf(s))
			id := uuid.NewString()
			m, l := d.mustAdmit(t, a.leaf(id, 1, time.Now().Add(time.Hour)), WebSocket)
			m.Message(t.Context(), accepts(nil))
			<-asked
			mu.Lock()
			group = "db"
			mu.Unlock()
			c := change(id)
			c.Snapshot = d.Trust.Current()
			d.Changed(c)
			for range cap(gate) {
				gate <- struct{}{}
			}
			eventually(t, "it gets what its new group gives", func() bool {
				got := l.configurations()
				return len(got) > 0 && got[len(got)-1] == "second"
			})
		})
	}
}

// Somebody who changes his mind all the time costs a few reports and then one a minute.
func TestAnAgentThatChangesItsMindIsReportedNowAndThen(t *testing.T) {
	a, e, s := newAuthority(t), &engine{answer: grouped}, &shelf{}
	d := newTestDesk(t, a, e, withShelf(s))
	m, _ := d.mustAdmit(t, a.leaf(uuid.NewString(), 1, time.Now().Add(time.Hour)), WebSocket)
	began := time.Now()
	m.Message(t.Context(), accepts(nil))
	for n := range 200 {
		m.Message(t.Context(), says(RemoteStatus{Hash: delivery.Hash{31: 1}, State: RemoteFailed, Error: fmt.Sprint(n)}))
		if n%20 == 0 {
			eventually(t, "nothing is due", func() bool {
				d.reports.mu.Lock()
				defer d.reports.mu.Unlock()
				return len(d.reports.queue) == 0 || d.reports.queue[0].due.After(time.Now())
			})
		}
	}
	took := time.Since(began)
	if n, most := len(e.seen()), statusBurst+2+int(took.Seconds()*statusPerSecond)+int(took/reportEvery); n > most {
		t.Errorf("%d reports, want at most %d", n, most)
	}
}

func TestAnAgentWithoutRemoteConfigsCostsFewBytesMore(t *testing.T) {
	if most := uintptr(384); unsafe.Sizeof(member{}) > most {
		t.Errorf("a session has %d bytes, and there are very many", unsafe.Sizeof(member{}))
	}
}
