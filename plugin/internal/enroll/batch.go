package enroll

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// batchRow is batch/<shard>/<batch_id>: tokens that were issued together.
type batchRow struct {
	Each   tokenRow `json:"each"`   // what they have in common
	Tokens []byte   `json:"tokens"` // for each the hash and the agent's id, packedSize bytes
}

func (*batchRow) SchemaName() string { return "batch" }
func (*batchRow) SchemaVersion() int { return 1 }

const packedSize = len(token.Hash{}) + len(uuid.UUID{})

func (b *batchRow) add(secret token.Secret) {
	hash, agent := secret.Hash(), uuid.MustParse(secret.AgentID())
	b.Tokens = append(append(b.Tokens, hash[:]...), agent[:]...)
}

func (b *batchRow) count() int { return len(b.Tokens) / packedSize }

func (b *batchRow) hash(n int) token.Hash {
	return token.Hash(b.Tokens[n*packedSize:][:len(token.Hash{})])
}

// token is the n-th token as if it had a row of its own.
func (b *batchRow) token(n int) *tokenRow {
	t, hash := b.Each, b.hash(n)
	t.TokenID, t.Hash = hash.ID(), hash[:]
	t.AgentID = uuid.UUID(b.Tokens[n*packedSize+len(hash):][:len(uuid.UUID{})]).String()
	t.inBatch = true
	return &t
}

// batches is the memory of all batches: which token stands where. It takes about 150 bytes a token.
type batches struct {
	mu     sync.Mutex
	loaded bool
	rows   map[string]*batchRow
	tokens map[string]place // by token id
	sorted []string         // all token ids, nil when some have come or gone

	version uint64 // counts what comes and goes
}

type place struct {
	batch *batchRow
	n     int
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
	return at.batch.token(at.n), nil
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
	b.rows, b.tokens = map[string]*batchRow{}, map[string]place{}
	b.changed()
	err := e.Store.Walk(ctx, store.BatchPrefix, "", func(id string) (bool, error) {
		row, err := get[batchRow](ctx, e, store.BatchPrefix, id)
		if err != nil || row == nil {
			return true, err
		}
		if len(row.Tokens)%packedSize != 0 {
			return false, fmt.Errorf("batch %s is damaged", id)
		}
		b.add(row)
		return true, nil
	})
	b.loaded = err == nil
	return err
}

func (b *batches) add(row *batchRow) {
	b.rows[row.Each.BatchID] = row
	for n := range row.count() {
		b.tokens[row.hash(n).ID()] = place{row, n}
	}
	b.changed()
}

func (b *batches) remove(batchID string) {
	row := b.rows[batchID]
	if row == nil {
		return
	}
	for n := range row.count() {
		delete(b.tokens, row.hash(n).ID())
	}
	delete(b.rows, batchID)
	b.changed()
}

// changed is said whenever a token has come or gone.
func (b *batches) changed() {
	b.sorted = nil
	b.version++
}

// putBatch commits a batch. After a Put of unknown outcome memory is read in again.
func (e *Enroller) putBatch(ctx context.Context, row *batchRow) error {
	stored := false
	defer func() { // also after a panic underneath
		b := &e.batches
		b.mu.Lock()
		defer b.mu.Unlock()
		if stored && b.loaded {
			b.add(row)
		} else {
			b.loaded = false
		}
	}()
	err := e.Store.Put(ctx, store.Sharded(store.BatchPrefix, row.Each.BatchID), row)
	stored = err == nil
	return err
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
