package trust

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
)

func serial(t *testing.T, id string, generation uint32) identity.Serial {
	t.Helper()
	s, err := identity.LeafSerial(id, generation)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func revoked(id string, generation uint32) apitype.SyncRevoked {
	return apitype.SyncRevoked{AgentID: id, Generation: generation, NotAfter: time.Now().Add(time.Hour).Unix()}
}

func TestASnapshotNeverChanges(t *testing.T) {
	id := uuid.NewString()
	first, err := apply(nil, &apitype.SyncResponse{Revision: "a.1", Full: true, Settings: &apitype.SyncSettings{TrustDomain: "x"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	second, err := apply(first, &apitype.SyncResponse{Revision: "a.2", Revoked: []apitype.SyncRevoked{revoked(id, 2)}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if first.Revoked(serial(t, id, 1)) {
		t.Error("the older snapshot has changed")
	}
	if !second.Revoked(serial(t, id, 1)) || !second.Revoked(serial(t, id, 2)) || second.Revoked(serial(t, id, 3)) {
		t.Error("not the generations up to the one named are revoked")
	}
	if second.Settings.TrustDomain != "x" {
		t.Error("a change has lost the settings")
	}
	whole, err := apply(second, &apitype.SyncResponse{Revision: "b.1", Full: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if whole.Revoked(serial(t, id, 1)) || whole.Settings.TrustDomain != "" {
		t.Error("a whole snapshot keeps something of the one before")
	}
}

func TestALowerGenerationNeverWins(t *testing.T) {
	id := uuid.NewString()
	s := &Snapshot{}
	for _, generation := range []uint32{1, 5, 3} {
		var err error
		if s, err = apply(s, &apitype.SyncResponse{Revoked: []apitype.SyncRevoked{revoked(id, generation), revoked(id, 1)}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Revoked(serial(t, id, 5)) {
		t.Error("a revocation was taken back")
	}
}

func TestManyRevocationsAreFoldedAndNoneIsLost(t *testing.T) {
	const n = 3*foldAt + 7
	s := &Snapshot{}
	var ids []string
	for range n {
		id := uuid.NewString()
		ids = append(ids, id)
		var err error
		if s, err = apply(s, &apitype.SyncResponse{Revoked: []apitype.SyncRevoked{revoked(id, 1)}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if s.RevokedCount() != n || len(s.revoked.recent) > foldAt {
		t.Errorf("%d revoked, %d in the small layer", s.RevokedCount(), len(s.revoked.recent))
	}
	for _, id := range ids {
		if !s.Revoked(serial(t, id, 1)) {
			t.Fatal("a revocation was lost")
		}
	}
}

func TestAHundredThousandRevocationsAreSmall(t *testing.T) {
	const n, most = 100_000, 20 << 20
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	set := func() []apitype.SyncRevoked {
		all := make([]apitype.SyncRevoked, n)
		for i := range all {
			all[i] = revoked(uuid.NewString(), 1)
		}
		return all
	}
	before := heap()
	whole, err := apply(nil, &apitype.SyncResponse{Revision: "a.1", Full: true, Revoked: set()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// The set is kept once, however many snapshots follow it.
	s := whole
	for range 3 {
		if s, err = apply(s, &apitype.SyncResponse{Revoked: []apitype.SyncRevoked{revoked(uuid.NewString(), 1)}}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	took := heap() - before
	t.Logf("%.1f MB", float64(took)/1e6)
	if took > most || s.RevokedCount() != n+3 {
		t.Errorf("%d revocations take %d bytes", s.RevokedCount(), took)
	}
	runtime.KeepAlive(whole)
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	for name, in := range map[string]*apitype.SyncResponse{
		"a change before a snapshot": {Revision: "a.2"},
		"an agent without a UUID":    {Full: true, Revoked: []apitype.SyncRevoked{{AgentID: "x"}}},
		"a move without a UUID":      {Full: true, Moves: []apitype.SyncMove{{AgentID: "x"}}},
		"a move without a leaf":      {Full: true, Moves: []apitype.SyncMove{{AgentID: uuid.NewString()}}},
		"a leaf that is cut":         {Full: true, Moves: []apitype.SyncMove{{AgentID: uuid.NewString(), Fingerprint: "00ff"}}},
		"a guest of no leaf":         {Full: true, Guests: []apitype.SyncGuest{{AgentID: uuid.NewString(), Fingerprint: "x"}}},
		"an issuer that is no PEM":   {Full: true, Issuers: []apitype.SyncIssuer{{Certificate: "x"}}},
		"an issuer that is garbage":  {Full: true, Issuers: []apitype.SyncIssuer{{Certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}},
	} {
		if s, err := apply(nil, in, time.Now()); err == nil {
			t.Errorf("%s gives %+v", name, s)
		}
	}
}

// TestTheFeedFollowsTheEngine runs on the real engine.
func TestTheFeedFollowsTheEngine(t *testing.T) {
	engine := plugintest.Start(t)
	c := engine.Client(t)
	feed := NewFeed(c, hclog.NewNullLogger())
	var mu sync.Mutex
	var told []Change
	feed.OnChange(func(c Change) { mu.Lock(); defer mu.Unlock(); told = append(told, c) })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { feed.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	eventually := func(what string, ok func(*Snapshot) bool) {
		t.Helper()
		for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if s := feed.Current(); s != nil && ok(s) {
				return
			}
		}
		t.Fatal("never: " + what)
	}
	engine.Configure(t, "wss://edge.example:4320/v1/opamp")
	eventually("issuer and settings", func(s *Snapshot) bool {
		return len(s.Issuers) == 1 && s.Settings.Endpoint == "wss://edge.example:4320/v1/opamp" && s.Trusts(s.Issuers[0])
	})
	issued, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := c.Redeem(t.Context(), apitype.RedeemRequest{Token: issued.Token, GenerateKey: true})
	if err != nil {
		t.Fatal(err)
	}
	leaf, ok := identity.ParseSerialText(agent.SerialNumber)
	if !ok || feed.Current().Revoked(leaf) {
		t.Fatal("revoked at birth")
	}
	start := time.Now()
	if err := c.DeleteAgent(t.Context(), agent.AgentID); err != nil {
		t.Fatal(err)
	}
	eventually("the revocation", func(s *Snapshot) bool { return s.Revoked(leaf) })
	if d := time.Since(start); d > time.Second {
		t.Errorf("a revocation took %v", d)
	}
	engine.SetAway(true)
	for end := time.Now().Add(10 * time.Second); feed.LastError() == "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	if s := feed.Current(); feed.LastError() == "" || !s.Revoked(leaf) || s.RevisionNumber() == 0 {
		t.Errorf("while Vault is away: %q, %+v", feed.LastError(), s)
	}
	mu.Lock()
	defer mu.Unlock()
	last := told[len(told)-1]
	if !told[0].Whole || last.Whole || len(last.Revoked) != 1 || last.Revoked[0].AgentID != agent.AgentID {
		t.Errorf("listeners were told %+v", told)
	}
}

func TestTheReasonIsTheCatalogues(t *testing.T) {
	e := apitype.Errorf(apitype.NotReady, "x")
	if got := reason(fmt.Errorf("a: %w", e)); got != e.Error() {
		t.Error(got)
	}
	if got := reason(errors.New("x")); got != "x" {
		t.Error(got)
	}
}
