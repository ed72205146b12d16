package enroll

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// batchRow is batch/<shard>/<batch_id>: tokens that one request has issued, or several that came at the same time.
type batchRow struct {
	Each   tokenRow `json:"each,omitzero"`    // what the tokens of one request have in common
	Tokens []byte   `json:"tokens,omitempty"` // for each the hash and the agent's id, packedSize bytes

	ID   string      `json:"id,omitempty"`   // of a row for several requests; no token tells it
	Rows []*tokenRow `json:"rows,omitempty"` // the token of each
}

func (*batchRow) SchemaName() string { return "batch" }
func (*batchRow) SchemaVersion() int { return 1 }

const packedSize = len(token.Hash{}) + len(uuid.UUID{})

func (b *batchRow) add(secret token.Secret) {
	hash, agent := secret.Hash(), uuid.MustParse(secret.AgentID())
	b.Tokens = append(append(b.Tokens, hash[:]...), agent[:]...)
}

func (b *batchRow) id() string {
	if b.ID != "" {
		return b.ID
	}
	return b.Each.BatchID
}

func (b *batchRow) count() int { return len(b.Tokens)/packedSize + len(b.Rows) }

func (b *batchRow) hash(n int) token.Hash {
	return token.Hash(b.Tokens[n*packedSize:][:len(token.Hash{})])
}

func (b *batchRow) tokenID(n int) string {
	if b.Rows != nil {
		return b.Rows[n].TokenID
	}
	return b.hash(n).ID()
}

// token is the n-th token as if it had a row of its own.
func (b *batchRow) token(n int) *tokenRow {
	if b.Rows != nil {
		t := *b.Rows[n]
		t.inBatch = true
		return &t
	}
	t, hash := b.Each, b.hash(n)
	t.TokenID, t.Hash = hash.ID(), hash[:]
	t.AgentID = uuid.UUID(b.Tokens[n*packedSize+len(hash):][:len(uuid.UUID{})]).String()
	t.inBatch = true
	return &t
}

func (b *batchRow) records() []*audit.Record {
	if b.Rows == nil {
		return []*audit.Record{b.Each.Record}
	}
	var all []*audit.Record
	for _, t := range b.Rows {
		all = append(all, t.Record)
	}
	return all
}

// expiresAt is when the last of the tokens expires.
func (b *batchRow) expiresAt() time.Time {
	last := b.Each.ExpiresAt
	for _, t := range b.Rows {
		if t.ExpiresAt.After(last) {
			last = t.ExpiresAt
		}
	}
	return last
}

// batches is the memory of all tokens of batches that are not known to be spent: which stands where. It takes about 150
// bytes a token that was issued with others of its request, and 700 one that was issued at the same time as others.
type batches struct {
	mu     sync.Mutex
	loaded bool
	rows   map[string]*held
	tokens map[string]place // by token id
	sorted []string         // all token ids, nil when some have come or gone

	version uint64 // counts what comes and goes
}

type held struct {
	*batchRow
	left int // tokens that are not known to be spent
}

type place struct {
	batch *held
	n     int
	// unused means that no agent can have come of the token: this process has issued it, and not begun to redeem it.
	unused bool
}

// inBatch answers the token as it stands in its batch, or nil when it stands in none.
func (e *Enroller) inBatch(ctx context.Context, tokenID string) (*tokenRow, error) {
	b := &e.batches
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := e.loadBatches(ctx); err != nil {
		return nil, err
	}
	at, found := b.tokens[tokenID]
	if !found {
		return nil, nil
	}
	row := at.batch.token(at.n)
	row.unused = at.unused
	return row, nil
}

// batchTokens answers the ids of all tokens of batches in ascending order, beginning after the id 'after'.
func (e *Enroller) batchTokens(ctx context.Context, after string) ([]string, error) {
	sorted, err := e.sortedBatchTokens(ctx)
	if err != nil {
		return nil, err
	}
	n, found := slices.BinarySearch(sorted, after)
	if found {
		n++
	}
	return sorted[n:], nil
}

// sortedBatchTokens sorts without holding up those who look for a token meanwhile.
func (e *Enroller) sortedBatchTokens(ctx context.Context) ([]string, error) {
	b := &e.batches
	all, sorted, version, err := e.allBatchTokens(ctx)
	if err != nil || sorted {
		return all, err
	}
	slices.Sort(all)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.version == version {
		b.sorted = all
	}
	return all, nil
}

func (e *Enroller) allBatchTokens(ctx context.Context) (all []string, sorted bool, version uint64, err error) {
	b := &e.batches
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := e.loadBatches(ctx); err != nil || b.sorted != nil {
		return b.sorted, true, b.version, err
	}
	return slices.Collect(maps.Keys(b.tokens)), false, b.version, nil
}

// LoadBatches reads the batches in, so that the first request need not wait for it.
func (e *Enroller) LoadBatches(ctx context.Context) error {
	e.batches.mu.Lock()
	defer e.batches.mu.Unlock()
	return e.loadBatches(ctx)
}

// loadBatches reads every batch. The caller holds mu.
func (e *Enroller) loadBatches(ctx context.Context) error {
	b := &e.batches
	if b.loaded {
		return nil
	}
	b.rows, b.tokens = map[string]*held{}, map[string]place{}
	b.changed()
	err := e.Store.Walk(ctx, store.BatchPrefix, "", func(id string) (bool, error) {
		row, err := get[batchRow](ctx, e, store.BatchPrefix, id)
		if err != nil || row == nil {
			return true, err
		}
		if len(row.Tokens)%packedSize != 0 {
			return false, fmt.Errorf("batch %s is damaged", id)
		}
		b.add(row, false)
		return true, nil
	})
	b.loaded = err == nil
	return err
}

func (b *batches) add(row *batchRow, unused bool) {
	h := &held{batchRow: row, left: row.count()}
	b.rows[row.id()] = h
	for n := range h.left {
		b.tokens[row.tokenID(n)] = place{h, n, unused}
	}
	b.changed()
}

func (b *batches) remove(batchID string) {
	row := b.rows[batchID]
	if row == nil {
		return
	}
	for n := range row.count() {
		delete(b.tokens, row.tokenID(n))
	}
	delete(b.rows, batchID)
	b.changed()
}

// changed is said whenever a token has come or gone.
func (b *batches) changed() {
	b.sorted = nil
	b.version++
}

// use notes that a token is about to be redeemed. The caller holds the agent's lock.
func (b *batches) use(tokenID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, found := b.tokens[tokenID]; found {
		at.unused = false
		b.tokens[tokenID] = at
	}
}

// told drops a token's own record from memory: it is stored, or waits in the log. The batch's row goes on to carry it.
func (b *batches) told(tokenID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, found := b.tokens[tokenID]; found && at.batch.Rows != nil {
		at.batch.Rows[at.n].Record = nil
	}
}

// spend drops a token whose agent exists from memory, and answers its batch when that was the last one.
func (b *batches) spend(tokenID string) (finished string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, found := b.tokens[tokenID]
	if !found {
		return ""
	}
	delete(b.tokens, tokenID)
	b.changed()
	if at.batch.left--; at.batch.left > 0 {
		return ""
	}
	return at.batch.id()
}

// putBatch commits a batch. After a Put of unknown outcome memory is read in again.
func (e *Enroller) putBatch(ctx context.Context, row *batchRow) error {
	stored := false
	defer func() { // also after a panic underneath
		b := &e.batches
		b.mu.Lock()
		defer b.mu.Unlock()
		if stored && b.loaded {
			b.add(row, true)
		} else {
			b.loaded = false
		}
	}()
	err := e.Store.Put(ctx, store.Sharded(store.BatchPrefix, row.id()), row)
	stored = err == nil
	return err
}

// tellBatch stores the records that a batch carries.
func (e *Enroller) tellBatch(ctx context.Context, row *batchRow) error {
	if err := e.Log.Ensure(ctx, row.records()...); err != nil {
		return err
	}
	for _, t := range row.Rows {
		e.batches.told(t.TokenID)
	}
	return nil
}

// removeBatch removes a batch, after its records are stored.
func (e *Enroller) removeBatch(ctx context.Context, row *batchRow) error {
	if err := e.tellBatch(ctx, row); err != nil {
		return err
	}
	if err := e.Store.Delete(ctx, store.Sharded(store.BatchPrefix, row.id())); err != nil {
		e.Forget() // it may be gone
		return err
	}
	e.batches.mu.Lock()
	defer e.batches.mu.Unlock()
	e.batches.remove(row.id())
	return nil
}

// Forget drops what is remembered of batches and of how many tokens are outstanding, because rows changed behind our back.
func (e *Enroller) Forget() {
	e.batches.mu.Lock()
	e.batches.loaded = false
	e.batches.mu.Unlock()
	e.ForgetCounts()
}

// ForgetCounts drops what is remembered of how many tokens are outstanding.
func (e *Enroller) ForgetCounts() { e.tallies.forget() }
