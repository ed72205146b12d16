package enroll_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// gate is a storage that holds up writes of tokens' own rows until each is let through.
type gate struct {
	logical.Storage
	arrived chan struct{}
	through chan struct{}
}

func (g *gate) Put(ctx context.Context, e *logical.StorageEntry) error {
	if strings.HasPrefix(e.Key, store.TokenPrefix) {
		g.arrived <- struct{}{}
		<-g.through
	}
	return g.Storage.Put(ctx, e)
}

// alone is how many tokens a crowd issues in rows of their own: those that are written while the others wait.
const alone = 1

// crowd issues tokens at the same time, and answers those that were written together, and what became of each. What is to
// happen once they wait for each other, and before they are written, is 'meanwhile'.
func crowd(w *world, n int, meanwhile func()) (together []apitype.IssuedToken, errs []error) {
	w.t.Helper()
	w.IssuePatiently()
	g := &gate{w.storage.Storage, make(chan struct{}, alone), make(chan struct{})}
	w.storage.Storage = g
	defer func() { w.storage.Storage = g.Storage }()
	all, errs := make([]apitype.IssuedToken, alone+n), make([]error, alone+n)
	var first, rest sync.WaitGroup
	issue := func(wg *sync.WaitGroup, i int) {
		wg.Go(func() {
			all[i], errs[i] = w.Issue(w.t.Context(), operator, apitype.TokenIssueRequest{Label: fmt.Sprint("machine ", i)})
		})
	}
	for i := range alone {
		issue(&first, i)
		<-g.arrived
	}
	for i := alone; i < len(all); i++ {
		issue(&rest, i)
	}
	for end := time.Now().Add(10 * time.Second); w.WaitingToIssue() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%d requests wait, want %d", w.WaitingToIssue(), n)
		}
	}
	meanwhile()
	g.through <- struct{}{} // one writer goes on with all who wait
	rest.Wait()
	close(g.through)
	first.Wait()
	return all[alone:], errs[alone:]
}

// issuedTogether are n tokens in one row.
func issuedTogether(w *world, n int) []apitype.IssuedToken {
	w.t.Helper()
	all, errs := crowd(w, n, func() {})
	for _, err := range errs {
		w.must(err)
	}
	if rows := batchRows(w); len(rows) != 1 {
		w.t.Fatalf("%d rows hold the tokens that were issued together, want 1", len(rows))
	}
	return all
}

// batchRows are the keys of rows that hold several tokens.
func batchRows(w *world) (keys []string) {
	w.t.Helper()
	shards, err := w.storage.Storage.List(w.t.Context(), store.BatchPrefix)
	w.must(err)
	for _, s := range shards {
		ids, err := w.storage.Storage.List(w.t.Context(), store.BatchPrefix+s)
		w.must(err)
		keys = append(keys, ids...)
	}
	return keys
}

// listed are the ids of all outstanding tokens.
func listed(w *world) map[string]apitype.TokenInfo {
	w.t.Helper()
	l, err := w.Tokens(w.t.Context(), "", apitype.Page{})
	w.must(err)
	return l.KeyInfo
}

// Whatever happens to the write that several requests share: all of them or none have a token, each is told once, and who
// was answered one has one.
func TestTokensIssuedAtTheSameTimeSurviveAFaultAtEveryStorageOperation(t *testing.T) {
	const n = 3
	for _, mode := range []int{storetest.Refuse, storetest.Apply} {
		for _, length := range []int{1, 2, storetest.Dead} {
			reached := 0
			for at := 1; at < 8; at++ {
				w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
				w.configure()
				w.events() // so that the log is loaded
				together, errs := crowd(w, n, func() { w.storage.Arm(at, mode, length) })
				if w.storage.Disarm() {
					reached++
				}
				if length == storetest.Dead {
					w = w.restart()
				} else {
					w.recover()
				}
				outstanding := listed(w)
				there := 0
				for i, issued := range together {
					_, found := outstanding[issued.TokenID]
					if errs[i] == nil && !found {
						t.Fatalf("operation %d: a token was answered that is not there", at)
					}
					if found {
						there++
						if _, err := w.Check(t.Context(), "", apitype.RedeemCheckRequest{Token: issued.Token}); err != nil {
							t.Fatalf("operation %d: %v", at, err)
						}
					}
				}
				inRows := 0
				for _, info := range outstanding {
					if !strings.HasSuffix(info.Label, " 0") {
						inRows++
					}
				}
				if inRows != 0 && inRows != n || there > inRows {
					t.Fatalf("operation %d: of %d tokens that were written together %d are there", at, n, inRows)
				}
				if told := w.restart().events()[apitype.ActionTokenIssued]; told != len(outstanding) {
					t.Fatalf("operation %d: %d tokens, %d told", at, len(outstanding), told)
				}
			}
			if reached < 3 {
				t.Errorf("faults hit only %d operations", reached)
			}
		}
	}
}

// togetherTransitions are those of tokens that share a row with others of other requests.
func togetherTransitions() []transition {
	redeem := func(w *world, f *fixture) error {
		_, err := w.Redeem(w.t.Context(), operator, "", f.redeem)
		return err
	}
	redeemed := func(rowsBefore, rowsAfter int) func(*world, *fixture) bool {
		return func(w *world, f *fixture) bool {
			l, err := w.Agents(w.t.Context(), "", apitype.Page{})
			w.must(err)
			_, err = w.Check(w.t.Context(), "", apitype.RedeemCheckRequest{Token: f.redeem.Token})
			_, outstanding := listed(w)[f.pooled[0].TokenID]
			rows := len(batchRows(w))
			switch {
			case err == nil && outstanding && rows == rowsBefore:
				return false
			// A row whose removal failed goes when its tokens have been expired for long enough.
			case apitype.CodeOf(err) == apitype.TokenRedeemed && !outstanding && (rows == rowsBefore || rows == rowsAfter):
				return true
			}
			w.t.Fatalf("neither nothing nor all happened: %d agents, check says %v, outstanding %v, %d rows", len(l.Keys), err, outstanding, rows)
			return false
		}
	}
	events := map[string]int{apitype.ActionTokenRedeemed: 1, apitype.ActionCertificateIssued: 1}
	together := func(n int) func(*world, *fixture) {
		return func(w *world, f *fixture) {
			f.pooled = issuedTogether(w, n)
			f.redeem.Token = f.pooled[0].Token
		}
	}
	return []transition{
		{name: "redeem one of those issued together", before: together(3), run: redeem, happened: redeemed(1, 1), events: events},
		{
			name: "redeem the last of those issued together", run: redeem, happened: redeemed(1, 0), events: events,
			before: func(w *world, f *fixture) {
				together(2)(w, f)
				_, err := w.Redeem(w.t.Context(), operator, "", apitype.RedeemRequest{Token: f.pooled[1].Token, CSR: newCSR(w.t)})
				w.must(err)
			},
		},
		{
			name: "revoke one of those issued together", before: together(3),
			run: func(w *world, f *fixture) error {
				_, err := w.RevokeToken(w.t.Context(), operator, "", f.pooled[0].TokenID, "leaked")
				return err
			},
			happened: func(w *world, f *fixture) bool {
				all := listed(w)
				for _, other := range f.pooled[1:] {
					if all[other.TokenID].State != apitype.TokenStateIssued {
						w.t.Fatalf("another token is %q", all[other.TokenID].State)
					}
				}
				return all[f.pooled[0].TokenID].State == apitype.TokenStateRevoked
			},
			events: map[string]int{apitype.ActionTokenRevoked: 1},
		},
	}
}

// A token that shares its row leaves no trace but its agent, and the row goes with its last one. A process that starts in
// between knows what is spent.
func TestARowOfTokensGoesWithItsLastToken(t *testing.T) {
	w := newWorld(t, &storetest.Faulty{Storage: &logical.InmemStorage{}})
	w.configure()
	all := issuedTogether(w, 3)
	redeem := func(issued apitype.IssuedToken) {
		t.Helper()
		_, err := w.Redeem(t.Context(), operator, "", apitype.RedeemRequest{Token: issued.Token, CSR: newCSR(t)})
		w.must(err)
	}
	refused := func(issued apitype.IssuedToken) {
		t.Helper()
		_, err := w.Redeem(t.Context(), operator, "", apitype.RedeemRequest{Token: issued.Token, CSR: newCSR(t)})
		if apitype.CodeOf(err) != apitype.TokenRedeemed {
			t.Fatalf("a spent token: %v", err)
		}
	}
	redeem(all[0])
	w = w.restart()
	refused(all[0])
	if left := listed(w); len(left) != alone+2 || left[all[0].TokenID].TokenID != "" {
		t.Errorf("outstanding are %v", left)
	}
	redeem(all[1])
	if rows := batchRows(w); len(rows) != 1 {
		t.Errorf("%d rows while a token is outstanding", len(rows))
	}
	redeem(all[2])
	if rows := batchRows(w); len(rows) != 0 {
		t.Errorf("%d rows when every token is spent", len(rows))
	}
	l, err := w.Agents(t.Context(), "", apitype.Page{})
	w.must(err)
	for _, id := range l.Keys {
		w.must(w.DeleteAgent(t.Context(), operator, "", id))
	}
	for _, issued := range all { // now the tombstone is all that is left
		refused(issued)
	}
	if told := w.restart().events(); told[apitype.ActionTokenIssued] != alone+3 || told[apitype.ActionTokenRedeemed] != 3 {
		t.Errorf("told: %v", told)
	}
}

// Many at once, as a fleet's first boot is: each gets its own token, and fewer writes are made than tokens.
func TestManyIssueAndRedeemAtOnce(t *testing.T) {
	counted := &putCounter{Storage: &logical.InmemStorage{}}
	w := newWorld(t, &storetest.Faulty{Storage: counted})
	w.configure()
	const workers, each = 32, 8
	tokens := make(chan apitype.IssuedToken, workers*each)
	run := func(do func()) {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					do()
				}
			})
		}
		wg.Wait()
	}
	run(func() {
		issued, err := w.Issue(t.Context(), operator, apitype.TokenIssueRequest{})
		if err != nil {
			t.Error(err)
		}
		tokens <- issued
	})
	close(tokens)
	if n := counted.tokens(); n > workers*each*3/4 {
		t.Errorf("%d writes for %d tokens", n, workers*each)
	}
	seen := sync.Map{}
	run(func() {
		issued := <-tokens
		if _, err := w.Check(t.Context(), "", apitype.RedeemCheckRequest{Token: issued.Token}); err != nil {
			t.Error(err)
		}
		id, err := w.Redeem(t.Context(), operator, "", apitype.RedeemRequest{Token: issued.Token, CSR: newCSR(t)})
		if err != nil {
			t.Error(err)
			return
		}
		if _, twice := seen.LoadOrStore(id.AgentID, nil); twice {
			t.Error("two tokens made one agent")
		}
	})
	if rows := batchRows(w); len(rows) != 0 || len(listed(w)) != 0 {
		t.Errorf("%d rows are left, %d tokens", len(rows), len(listed(w)))
	}
	page, _, err := w.Log.Page(t.Context(), audit.Query{Action: apitype.ActionTokenIssued, Limit: audit.MaxLimit})
	w.must(err)
	if len(page) != workers*each {
		t.Errorf("%d issues told", len(page))
	}
}

// putCounter counts writes of tokens.
type putCounter struct {
	logical.Storage
	mu sync.Mutex
	n  int
}

func (c *putCounter) Put(ctx context.Context, e *logical.StorageEntry) error {
	if strings.HasPrefix(e.Key, store.TokenPrefix) || strings.HasPrefix(e.Key, store.BatchPrefix) {
		c.mu.Lock()
		c.n++
		c.mu.Unlock()
		time.Sleep(time.Millisecond) // as long as Raft takes
	}
	return c.Storage.Put(ctx, e)
}

func (c *putCounter) tokens() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}
