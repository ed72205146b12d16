package delivery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/trust"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// source answers as a test wants.
type source struct {
	mu     sync.Mutex
	since  []string
	answer apitype.EdgeConfigurations
	err    error
	reads  map[string]int
	body   func(tenant, name string) (*apitype.EdgeConfiguration, error)
}

func (s *source) EdgeConfigurations(_ context.Context, in apitype.EdgeConfigurationsRequest) (*apitype.EdgeConfigurations, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = append(s.since, in.Since)
	answer := s.answer
	return &answer, s.err
}

func (s *source) EdgeConfiguration(_ context.Context, tenant, name string) (*apitype.EdgeConfiguration, error) {
	s.mu.Lock()
	if s.reads == nil {
		s.reads = map[string]int{}
	}
	s.reads[tenant+"/"+name]++
	body := s.body
	s.mu.Unlock()
	return body(tenant, name)
}

func (s *source) set(answer apitype.EdgeConfigurations, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.err = answer, err
}

func (s *source) readsOf(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads[key]
}

func newDelivery(t *testing.T, s *source, maxBytes int) *Delivery {
	t.Helper()
	m, err := metrics.New(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Source: s, Metrics: m, Logger: hclog.NewNullLogger(), MaxBytes: maxBytes})
}

func hashOf(n byte) Hash { return Hash{31: n} }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("never: " + what)
}

func TestTheOwnConfigurationStandsBeforeThatOfTheGroup(t *testing.T) {
	d := newDelivery(t, &source{}, 0)
	if err := d.table.apply(&apitype.EdgeConfigurations{
		Revision: "e.1", Full: true,
		Groups: []apitype.SyncGroup{{Name: "web", Configuration: "base"}, {Name: "empty"}, {Name: "broken", Configuration: "gone"}, {Tenant: "acme", Name: "web", Configuration: "own"}},
		Configurations: []apitype.SyncConfiguration{
			{Name: "base", Hash: hashOf(1).String()}, {Name: "own", Hash: hashOf(2).String()}, {Tenant: "acme", Name: "own", Hash: hashOf(3).String()},
		},
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		a    Assignment
		want Target
	}{
		{"a group", Assignment{Group: "web"}, Target{Name: "base", Hash: hashOf(1)}},
		{"of its own", Assignment{Group: "web", Own: "own"}, Target{Name: "own", Hash: hashOf(2)}},
		{"without a group", Assignment{Own: "own"}, Target{Name: "own", Hash: hashOf(2)}},
		{"a tenant's group", Assignment{Tenant: "acme", Group: "web"}, Target{Tenant: "acme", Name: "own", Hash: hashOf(3)}},
		{"nothing", Assignment{}, Target{}},
		{"a group that gives none", Assignment{Group: "empty"}, Target{}},
		{"a group that is not there", Assignment{Group: "nosuch"}, Target{}},
		{"a configuration that is not there", Assignment{Group: "broken"}, Target{}},
		{"an own one that is not there", Assignment{Group: "web", Own: "nosuch"}, Target{}},
		{"another tenant's", Assignment{Tenant: "umbrella", Group: "web", Own: "own"}, Target{}},
	} {
		got, found := d.Target(c.a)
		if found != (c.want != Target{}) || found && got != c.want {
			t.Errorf("%s: %+v %v", c.name, got, found)
		}
	}
}

func TestChangesAreFollowedAndABadAnswerChangesNothing(t *testing.T) {
	s := &source{}
	d := newDelivery(t, s, 0)
	changed := make(chan struct{}, 16)
	d.OnChange(func() { changed <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()

	web := Assignment{Group: "web"}
	s.set(apitype.EdgeConfigurations{Revision: "e.1", Full: true, Groups: []apitype.SyncGroup{{Name: "web", Configuration: "base"}},
		Configurations: []apitype.SyncConfiguration{{Name: "base", Hash: hashOf(1).String()}}}, nil)
	d.Changed(trust.Change{}) // of something else
	d.Changed(trust.Change{Full: true})
	<-changed
	if got, _ := d.Target(web); got.Hash != hashOf(1) {
		t.Errorf("%+v", got)
	}
	s.set(apitype.EdgeConfigurations{Revision: "e.2", Configurations: []apitype.SyncConfiguration{{Name: "other", Hash: "AB"}}}, nil)
	d.Changed(trust.Change{Configurations: true})
	eventually(t, "a bad answer is asked for again", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.since) > 2 })
	s.set(apitype.EdgeConfigurations{}, errors.New("Vault is away"))
	if got, _ := d.Target(web); got.Hash != hashOf(1) {
		t.Errorf("%+v", got)
	}
	s.set(apitype.EdgeConfigurations{Revision: "e.3", Configurations: []apitype.SyncConfiguration{{Name: "base", Hash: hashOf(2).String()}, {Name: "other", Deleted: true}}}, nil)
	<-changed
	if got, _ := d.Target(web); got.Hash != hashOf(2) {
		t.Errorf("%+v", got)
	}
	s.set(apitype.EdgeConfigurations{Revision: "e.4", Groups: []apitype.SyncGroup{{Name: "web", Deleted: true}}}, nil)
	d.Changed(trust.Change{Configurations: true})
	<-changed
	if got, found := d.Target(web); found {
		t.Errorf("%+v", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since[0] != "" || s.since[1] != "e.1" || s.since[len(s.since)-1] != "e.3" {
		t.Errorf("asked since %v", s.since)
	}
}

// named answers with what the name says: its hash, and how long it is.
func named(_, name string) (*apitype.EdgeConfiguration, error) {
	var n byte
	var size int
	if _, err := fmt.Sscanf(name, "c%d-%d", &n, &size); err != nil {
		return nil, err
	}
	return &apitype.EdgeConfiguration{Name: name, Hash: hashOf(n).String(), ContentType: "text/yaml", Body: strings.Repeat("x", size)}, nil
}

func TestABodyIsReadOnceHoweverManyWait(t *testing.T) {
	gate := make(chan struct{})
	s := &source{body: func(tenant, name string) (*apitype.EdgeConfiguration, error) { <-gate; return named(tenant, name) }}
	d := newDelivery(t, s, 0)
	target := Target{Name: "c1-10", Hash: hashOf(1)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Body(ctx, target); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if c, err := d.Body(t.Context(), target); err != nil || len(c.Body) != 10 || c.Hash != target.Hash || c.ContentType != "text/yaml" {
				t.Errorf("%+v %v", c, err)
			}
		})
	}
	close(gate)
	all.Wait()
	if n := s.readsOf("/c1-10"); n != 1 {
		t.Errorf("read %d times", n)
	}
}

func TestBodiesAreBoundedInBytes(t *testing.T) {
	s := &source{body: named}
	d := newDelivery(t, s, 10_000)
	get := func(n byte, size int) {
		t.Helper()
		if _, err := d.Body(t.Context(), Target{Name: fmt.Sprintf("c%d-%d", n, size), Hash: hashOf(n)}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range byte(20) {
		get(n, 2000)
		if bytes, n := held(d); bytes > 10_000 || n > 4 {
			t.Fatalf("%d bytes in %d bodies", bytes, n)
		}
	}
	get(18, 2000) // one of the last ones
	if s.readsOf("/c18-2000") != 1 {
		t.Error("it was forgotten")
	}
	get(0, 2000)
	if s.readsOf("/c0-2000") != 2 {
		t.Error("it was remembered")
	}
	get(30, 50_000) // larger than all together may be: it is served, and the others go
	if _, n := held(d); n != 1 {
		t.Errorf("%d bodies", n)
	}
	get(0, 2000)
	if bytes, _ := held(d); bytes != 2000+rememberBy {
		t.Errorf("%d bytes", bytes)
	}
}

func held(d *Delivery) (bytes, n int) {
	d.bodies.mu.Lock()
	defer d.bodies.mu.Unlock()
	return d.bodies.bytes, d.bodies.lru.Len()
}

func TestAFailureIsEverybodysForAMoment(t *testing.T) {
	for name, fail := range map[string]func(string, string) (*apitype.EdgeConfiguration, error){
		"an error":     func(string, string) (*apitype.EdgeConfiguration, error) { return nil, errors.New("Vault is away") },
		"another hash": func(string, string) (*apitype.EdgeConfiguration, error) { return named("", "c9-1") },
		"a panic":      func(string, string) (*apitype.EdgeConfiguration, error) { panic("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			s := &source{body: fail}
			d := newDelivery(t, s, 0)
			target := Target{Name: "c1-10", Hash: hashOf(1)}
			began := time.Now()
			for range 50 {
				if _, err := d.Body(t.Context(), target); err == nil {
					t.Fatal("it was read")
				}
			}
			if n, most := s.readsOf("/c1-10"), 1+int(time.Since(began)/failedFor); n > most {
				t.Errorf("read %d times, at most %d are right", n, most)
			}
			s.mu.Lock()
			s.body = named
			s.mu.Unlock()
			eventually(t, "it can be read again", func() bool { _, err := d.Body(t.Context(), target); return err == nil })
		})
	}
}

func TestAHashIsLowerCaseHex(t *testing.T) {
	for _, bad := range []string{"", "00", strings.Repeat("0", 66), strings.Repeat("g", 64)} {
		if h, err := ParseHash(bad); err == nil {
			t.Errorf("%q is %s", bad, h)
		}
	}
	if h, err := ParseHash(hashOf(7).String()); err != nil || h != hashOf(7) {
		t.Errorf("%s %v", h, err)
	}
}
