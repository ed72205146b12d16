package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/configuration"
	"github.com/ampora/ampora/plugin/internal/enroll"
	"github.com/ampora/ampora/plugin/internal/epoch"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/feed"
	"github.com/ampora/ampora/plugin/internal/group"
	"github.com/ampora/ampora/plugin/internal/named"
	"github.com/ampora/ampora/plugin/internal/pool"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// world is one process of the engine over a storage that outlives it.
type world struct {
	t *testing.T
	*enroll.Enroller
	groups         *group.Groups
	configurations *configuration.Configurations
	peers          *federation.Peers
	storage        *storetest.Faulty
	ledger         *ledger
}

// newWorld starts a process; nothing runs in the background, so operations can be counted.
func newWorld(t *testing.T, storage *storetest.Faulty) *world {
	return newWorldAt(t, storage, time.Now)
}

func newWorldAt(t *testing.T, storage *storetest.Faulty, now func() time.Time) *world {
	rows := store.New(store.NewCache(storage))
	log, locks := audit.NewLog(rows, now, 90*24*time.Hour), store.NewLocks()
	w := &world{t: t, storage: storage, Enroller: &enroll.Enroller{
		Store: rows, Locks: locks, Log: log, Now: now,
		Settings: settings.New(rows, log, now), Authority: authority.New(rows, log, now),
		Epoch:     epoch.New(rows, log, locks, now),
		Unsettled: func(string, error) {},
	}}
	ground := named.Ground{Store: rows, Log: log, Locks: locks, Settings: w.Settings, Now: now}
	w.configurations = configuration.New(ground)
	w.groups = group.New(ground, w.configurations)
	w.ledger = &ledger{}
	w.Dead, w.RenewProofOf = w.ledger, w.groups.RenewProof
	w.HoldGroup, w.HoldConfiguration, w.ConfigurationOf = w.groups.Hold, w.configurations.Hold, w.groups.Configuration
	w.Pools = &pool.Pools{Store: rows, Locks: locks, Log: log, Settings: w.Settings, Epoch: w.Epoch, Now: now, HoldGroup: w.groups.Hold}
	w.groups.ReferredBy(w.Pools.InGroup, w.TokensInGroup, w.AgentsInGroup)
	w.configurations.ReferredBy(w.AgentsWithConfiguration)
	w.peers = federation.New(ground, w.Authority)
	w.Peers, w.peers.PeerGone = w.peers, w.PeerGone
	w.Feed = feed.New(t.Context(), feed.Sources{Revoked: w.Revoked, Places: w.Places, Now: now,
		Issuers:  func(context.Context) ([]apitype.SyncIssuer, error) { return nil, nil },
		Settings: func(context.Context) (apitype.SyncSettings, error) { return apitype.SyncSettings{}, nil }})
	return w
}

var operator = audit.Origin{Actor: apitype.Actor{DisplayName: "operator"}, RequestID: "request"}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) configure() {
	_, err := w.Settings.Update(w.t.Context(), operator, false, func(c *apitype.Config) []string {
		c.TrustDomain = "test.example"
		return []string{"trust_domain"}
	})
	w.must(err)
	_, err = w.Authority.NewRoot(w.t.Context(), operator, apitype.CARootRequest{})
	w.must(err)
}

// restart is a new process over the same storage, after its recovery.
func (w *world) restart() *world {
	next := newWorld(w.t, w.storage)
	next.recover()
	return next
}

func (w *world) recover() {
	w.t.Helper()
	w.must(w.Log.Retell(w.t.Context()))
	w.must(w.Settings.Settle(w.t.Context()))
	w.must(w.Authority.Settle(w.t.Context()))
	w.must(w.Epoch.Settle(w.t.Context()))
	w.must(w.Pools.Settle(w.t.Context()))
	w.must(w.configurations.Sweep(w.t.Context()))
	w.must(w.groups.Sweep(w.t.Context()))
	w.must(w.CarryOn(w.t.Context()))
	w.must(w.peers.Sweep(w.t.Context()))
	w.must(w.Sweep(w.t.Context()))
	w.must(w.SweepHandovers(w.t.Context()))
}

func (w *world) events() map[string]int {
	w.t.Helper()
	page, _, err := w.Log.Page(w.t.Context(), audit.Query{Limit: audit.MaxLimit})
	w.must(err)
	count := map[string]int{}
	for _, e := range page {
		count[e.Action]++
	}
	return count
}

func newCSR(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// fixture is what a transition works on, made before the fault is armed.
type fixture struct {
	issued   apitype.IssuedToken
	redeem   apitype.RedeemRequest
	identity *apitype.Identity
	next     *apitype.Identity
	other    string // CSR for another key
	pool     apitype.Pool
	pooled   []apitype.IssuedToken // of the pool: those of a batch first, then one that was issued alone
}

func prepare(w *world, redeemed bool) *fixture {
	w.configure()
	f := &fixture{}
	body := "one"
	_, err := w.configurations.Write(w.t.Context(), operator, "", "base", apitype.ConfigurationRequest{Body: &body})
	w.must(err)
	makeGroup(w, "web")
	f.issued, err = w.Issue(w.t.Context(), operator, apitype.TokenIssueRequest{Group: "web"})
	w.must(err)
	f.redeem = apitype.RedeemRequest{Token: f.issued.Token, CSR: newCSR(w.t), IdempotencyKey: "0123456789abcdef"}
	if redeemed {
		f.identity, err = w.Redeem(w.t.Context(), operator, "", f.redeem)
		w.must(err)
	}
	return f
}

// otherCSR is for another key than the agent's, and always the same.
func (f *fixture) otherCSR(t *testing.T) string {
	if f.other == "" {
		f.other = newCSR(t)
	}
	return f.other
}

func makeGroup(w *world, name string) {
	_, err := w.groups.Write(w.t.Context(), operator, "", name, apitype.GroupRequest{})
	w.must(err)
}

// transition is one state change and how to tell that it happened.
type transition struct {
	name     string
	redeemed bool // the fixture's token has made its agent before
	pooled   bool // there is a pool with tokens
	before   func(*world, *fixture)
	run      func(*world, *fixture) error
	happened func(*world, *fixture) bool
	events   map[string]int // that it tells, and the fixture does not
}

func transitions() []transition {
	state := func(w *world, f *fixture) apitype.Agent {
		a, _ := w.Agent(w.t.Context(), "", f.identity.AgentID)
		return a
	}
	group, configuration := "blue", "base"
	makeBlue := func(w *world, _ *fixture) { makeGroup(w, group) }
	return []transition{
		{
			name: "issue",
			run: func(w *world, _ *fixture) error {
				_, err := w.Issue(w.t.Context(), operator, apitype.TokenIssueRequest{})
				return err
			},
			happened: func(w *world, _ *fixture) bool {
				l, err := w.Tokens(w.t.Context(), "", apitype.Page{})
				w.must(err)
				return len(l.Keys) == 2
			},
			events: map[string]int{apitype.ActionTokenIssued: 1},
		},
		{
			name: "revoke a token",
			run: func(w *world, f *fixture) error {
				_, err := w.RevokeToken(w.t.Context(), operator, "", f.issued.TokenID, "leaked")
				return err
			},
			happened: func(w *world, f *fixture) bool {
				i, err := w.Token(w.t.Context(), "", f.issued.TokenID)
				w.must(err)
				return i.State == apitype.TokenStateRevoked
			},
			events: map[string]int{apitype.ActionTokenRevoked: 1},
		},
		{
			name: "redeem",
			run: func(w *world, f *fixture) error {
				_, err := w.Redeem(w.t.Context(), operator, "", f.redeem)
				return err
			},
			happened: func(w *world, f *fixture) bool {
				l, err := w.Agents(w.t.Context(), "", apitype.Page{})
				w.must(err)
				_, err = w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.redeem.Token})
				tokens, listErr := w.Tokens(w.t.Context(), "", apitype.Page{})
				w.must(listErr)
				switch {
				case len(l.Keys) == 0 && err == nil && len(tokens.Keys) == 1:
					return false
				case len(l.Keys) == 1 && apitype.CodeOf(err) == apitype.TokenRedeemed && len(tokens.Keys) == 0:
					return true
				}
				w.t.Fatalf("neither nothing nor all happened: %d agents, check says %v, %d tokens", len(l.Keys), err, len(tokens.Keys))
				return false
			},
			events: map[string]int{apitype.ActionTokenRedeemed: 1, apitype.ActionCertificateIssued: 1},
		},
		{
			name: "update an agent", redeemed: true, before: makeBlue,
			run: func(w *world, f *fixture) error {
				_, err := w.UpdateAgent(w.t.Context(), operator, "", f.identity.AgentID, apitype.AgentUpdateRequest{Group: &group, Configuration: &configuration})
				return err
			},
			happened: func(w *world, f *fixture) bool {
				a := state(w, f)
				if (a.Group == group) != (a.Configuration == configuration) {
					w.t.Fatalf("half changed: %+v", a)
				}
				return a.Group == group
			},
			events: map[string]int{apitype.ActionAgentUpdated: 1},
		},
		{
			name: "assign an agent", redeemed: true, before: makeBlue,
			run: func(w *world, f *fixture) error {
				_, err := w.Assign(w.t.Context(), operator, "", apitype.AssignRequest{AgentIDs: []string{f.identity.AgentID}, Group: group})
				return err
			},
			happened: func(w *world, f *fixture) bool { return state(w, f).Group == group },
			events:   map[string]int{apitype.ActionAgentUpdated: 1},
		},
		{
			name: "revoke an agent", redeemed: true,
			run: func(w *world, f *fixture) error {
				_, err := w.RevokeAgent(w.t.Context(), operator, "", f.identity.AgentID, "keyCompromise")
				return err
			},
			happened: func(w *world, f *fixture) bool {
				all, err := w.Revoked(w.t.Context())
				w.must(err)
				revoked := state(w, f).State == apitype.AgentStateRevoked
				if revoked != (len(all) == 1) {
					w.t.Fatal("the row and the revocations disagree")
				}
				return revoked
			},
			events: map[string]int{apitype.ActionCertificateRevoked: 1},
		},
		{
			name: "delete an agent", redeemed: true,
			run: func(w *world, f *fixture) error {
				return w.DeleteAgent(w.t.Context(), operator, "", f.identity.AgentID)
			},
			happened: func(w *world, f *fixture) bool {
				_, err := w.Agent(w.t.Context(), "", f.identity.AgentID)
				all, revokedErr := w.Revoked(w.t.Context())
				w.must(revokedErr)
				if _, again := w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.redeem.Token}); apitype.CodeOf(again) != apitype.TokenRedeemed {
					w.t.Fatalf("the token of an agent lives: %v", again)
				}
				gone := apitype.CodeOf(err) == apitype.AgentUnknown
				if gone != (len(all) == 1) {
					w.t.Fatal("the row and the tombstone disagree")
				}
				return gone
			},
			events: map[string]int{apitype.ActionAgentDeleted: 1, apitype.ActionCertificateRevoked: 1},
		},
		{
			name: "change the configuration",
			run: func(w *world, _ *fixture) error {
				_, err := w.Settings.Update(w.t.Context(), operator, true, func(c *apitype.Config) []string { c.TokenTTL = 7200; return nil })
				return err
			},
			happened: func(w *world, _ *fixture) bool {
				c, err := w.Settings.Get(w.t.Context())
				w.must(err)
				return c.TokenTTL == 7200
			},
			events: map[string]int{apitype.ActionConfigUpdated: 1},
		},
		{
			name: "make an issuer",
			run: func(w *world, _ *fixture) error {
				_, err := w.Authority.NewRoot(w.t.Context(), operator, apitype.CARootRequest{})
				return err
			},
			happened: func(w *world, _ *fixture) bool {
				set, err := w.Authority.Set(w.t.Context())
				w.must(err)
				return len(set.Describe()) == 2
			},
			events: map[string]int{apitype.ActionIssuerCreated: 1},
		},
	}
}

// Every transition, with a fault at its n-th storage operation for every n: applied or not, passing after one or two operations or
// deadly. Afterwards,
// in the same process or after a restart, it has happened with its event told once, or not at all; asked again it happens.
func TestEveryTransitionSurvivesAFaultAtEveryStorageOperation(t *testing.T) {
	for _, tr := range slices.Concat(transitions(), leafTransitions(), poolTransitions(), togetherTransitions()) {
		for _, mode := range []int{storetest.Refuse, storetest.Apply} {
			for _, length := range []int{1, 2, storetest.Dead} {
				t.Run(fmt.Sprintf("%s, applied %v, %d failing", tr.name, mode == storetest.Apply, length), func(t *testing.T) {
					n := 1
					for ; ; n++ {
						if !faultAt(t, tr, n, mode, length) {
							break
						}
					}
					if n < 3 {
						t.Fatalf("only %d operations seen", n-1)
					}
				})
			}
		}
	}
}

// faultAt runs the transition with a fault at operation n, and reports whether it came that far.
func faultAt(t *testing.T, tr transition, n, mode, length int) bool {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	f := prepare(w, tr.redeemed)
	if tr.pooled {
		pooledFixture(w, f)
	}
	if tr.before != nil {
		tr.before(w, f)
	}
	w.ledger.load(w)
	// Half the runs meet a process that has everything in memory, half a fresh one that must read first.
	if n%2 == 0 {
		w = newWorld(t, w.storage)
	}
	before := w.events()
	w.storage.Arm(n, mode, length)
	err := tr.run(w, f)
	fired := w.storage.Disarm()
	if !fired && err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	if length == storetest.Dead {
		w = w.restart()
	} else {
		w.recover()
	}
	w.ledger.compare(w)
	happened := tr.happened(w, f)
	if err == nil && !happened {
		t.Fatalf("operation %d: success was answered and nothing happened", n)
	}
	checkEvents(t, tr, n, before, w.events(), happened)
	if !happened {
		if err := tr.run(w, f); err != nil || !tr.happened(w, f) {
			t.Fatalf("operation %d: asked again: %v", n, err)
		}
		checkEvents(t, tr, n, before, w.events(), true)
	}
	// And a process that starts now tells nothing twice.
	checkEvents(t, tr, n, before, w.restart().events(), true)
	return fired
}

func checkEvents(t *testing.T, tr transition, n int, before, after map[string]int, happened bool) {
	t.Helper()
	for action, count := range after {
		want := before[action]
		if happened {
			want += tr.events[action]
		}
		if count != want {
			t.Fatalf("operation %d: happened %v, %s told %d times instead of %d", n, happened, action, count, want)
		}
	}
	for action := range tr.events {
		if happened && after[action] == 0 {
			t.Fatalf("operation %d: %s was not told", n, action)
		}
	}
}

// A redemption that was interrupted at any operation ends with the same agent when it is asked again with the same
// idempotency key, in the same process and in the next.
func TestAnInterruptedRedemptionEndsWhenAskedAgainWithTheSameKey(t *testing.T) {
	for _, server := range []bool{false, true} {
		for _, mode := range []int{storetest.Refuse, storetest.Apply} {
			for _, length := range []int{1, 2, storetest.Dead} {
				for n, fired := 1, true; fired; n++ {
					w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
					f := prepare(w, false)
					if server {
						f.redeem.CSR, f.redeem.GenerateKey = "", true
					}
					w.storage.Arm(n, mode, length)
					first, _ := w.Redeem(t.Context(), operator, "", f.redeem)
					fired = w.storage.Disarm()
					if length == storetest.Dead {
						w = newWorld(t, w.storage) // the retry may come before recovery does
					}
					again, err := w.Redeem(t.Context(), operator, "", f.redeem)
					if err != nil {
						t.Fatalf("server key %v, operation %d: %v", server, n, err)
					}
					if first != nil && !server && first.Certificate != again.Certificate {
						t.Fatalf("operation %d: two certificates for one request", n)
					}
					w.recover()
					l, err := w.Agents(t.Context(), "", apitype.Page{})
					if err != nil || len(l.Keys) != 1 || l.Keys[0] != again.AgentID {
						t.Fatalf("operation %d: agents %v, %v", n, l.Keys, err)
					}
					events := w.events()
					if events[apitype.ActionTokenRedeemed] != 1 || events[apitype.ActionTokenIssued] != 1 {
						t.Fatalf("operation %d: %v", n, events)
					}
					if issued := events[apitype.ActionCertificateIssued]; !server && issued != 1 || server && issued != int(again.SerialNumber[len(again.SerialNumber)-1]-'0') {
						t.Fatalf("operation %d: %d certificates told, the newest is %s", n, issued, again.SerialNumber)
					}
				}
			}
		}
	}
}

func TestOneTokenRedeemed64TimesAtOnceMakesOneAgent(t *testing.T) {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	f := prepare(w, false)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, refused := 0, 0
	for i := range 64 {
		csr := newCSR(t)
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := w.Redeem(t.Context(), operator, "", apitype.RedeemRequest{
				Token: f.issued.Token, CSR: csr, IdempotencyKey: strings.Repeat("k", 16) + fmt.Sprint(i),
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case apitype.CodeOf(err) == apitype.TokenRedeemed:
				refused++
			default:
				t.Errorf("unexpected: %v", err)
			}
		}()
	}
	wg.Wait()
	l, err := w.Agents(t.Context(), "", apitype.Page{})
	w.must(err)
	if made != 1 || refused != 63 || len(l.Keys) != 1 || w.events()[apitype.ActionTokenRedeemed] != 1 {
		t.Fatalf("%d made, %d refused, %d agents", made, refused, len(l.Keys))
	}
}
