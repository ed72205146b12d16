package enroll

import (
	"context"

	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/ampora/ampora/plugin/internal/together"
	"github.com/google/uuid"
)

// maxTogether is how many tokens of requests that come at the same time one row may hold. Two rows hold their events.
const maxTogether = 20

// single is the token of a request for one, with the record of it: the row is others' as well once it is committed.
type single struct {
	row    *tokenRow
	record *audit.Record
}

// singles commits the tokens of requests for one token each. Under load one write serves many of them.
func (e *Enroller) singles() *together.Writes[single] {
	e.once.Do(func() { e.alone = together.New(maxTogether, e.putSingles, e.tellSingles) })
	return e.alone
}

func (e *Enroller) putSingles(ctx context.Context, all []single) error {
	var rows []*tokenRow
	for _, s := range all {
		rows = append(rows, s.row)
		// Said before anybody can know of the token, and so write or look for these rows.
		e.Store.Absent(store.Sharded(store.TokenPrefix, s.row.TokenID))
		e.Store.Absent(store.Sharded(store.AgentPrefix, s.row.AgentID))
	}
	if len(rows) == 1 {
		return e.Store.Put(ctx, store.Sharded(store.TokenPrefix, rows[0].TokenID), rows[0])
	}
	return e.putBatch(ctx, &batchRow{ID: uuid.NewString(), Rows: rows})
}

func (e *Enroller) tellSingles(ctx context.Context, all []single) {
	var records []*audit.Record
	for _, s := range all {
		records = append(records, s.record)
	}
	e.Log.Tell(ctx, records...)
	for _, s := range all {
		e.batches.told(s.row.TokenID)
	}
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
