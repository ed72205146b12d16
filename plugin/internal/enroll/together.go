package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/together"
	"github.com/google/uuid"
)

const (
	// maxTogether is how many tokens of requests that come at the same time one row may hold, and maxWriters how many such
	// rows are written at a time.
	maxTogether = 32
	maxWriters  = 2
)

// singles commits the tokens of requests for one token each. Under load one write serves many of them.
func (e *Enroller) singles() *together.Writes[*tokenRow] {
	e.once.Do(func() { e.alone = together.New(maxTogether, maxWriters, e.putTokens) })
	return e.alone
}

// putTokens commits tokens of requests that came at the same time.
func (e *Enroller) putTokens(ctx context.Context, rows []*tokenRow) error {
	// Before anybody can know of the tokens, and so write or look for these rows.
	for _, row := range rows {
		e.Store.Absent(store.Sharded(store.TokenPrefix, row.TokenID))
		e.Store.Absent(store.Sharded(store.AgentPrefix, row.AgentID))
	}
	if len(rows) > 1 {
		batch := &batchRow{ID: uuid.NewString(), Rows: rows}
		records := batch.records()
		if err := e.putBatch(ctx, batch); err != nil {
			return err
		}
		e.Log.Tell(ctx, records...)
		return nil
	}
	row := rows[0]
	return e.Store.Put(ctx, store.Sharded(store.TokenPrefix, row.TokenID), row)
}

// spend removes the row of a token whose agent exists. That of a batch goes with its last one.
func (e *Enroller) spend(ctx context.Context, t *tokenRow) error {
	if !t.inBatch {
		return e.Store.Delete(ctx, store.Sharded(store.TokenPrefix, t.TokenID))
	}
	id := e.batches.spend(t.TokenID)
	if id == "" {
		return nil
	}
	row, err := get[batchRow](ctx, e, store.BatchPrefix, id)
	if err != nil || row == nil {
		return err
	}
	return e.removeBatch(ctx, row)
}
