package revocation

import (
	"context"
	"math/big"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/internal/store"
)

// ahead is how far the stored ceiling lies above a number, in numbers, which are Unix milliseconds: one small Put is enough
// for ten minutes.
const ahead = int64(10 * time.Minute / time.Millisecond)

// numberRow is crl/<issuer id>: no list of the issuer has a number above Ceiling.
type numberRow struct {
	Ceiling int64 `json:"ceiling"`
}

func (*numberRow) SchemaName() string { return "CRL number" }
func (*numberRow) SchemaVersion() int { return 1 }

// numbers gives each issuer's lists their numbers, which only go up (RFC 5280 section 5.2.3): also over a restart, and on a
// node whose clock is behind that of the last one. It is safe for concurrent use.
type numbers struct {
	rows *store.Store

	mu sync.Mutex
	by map[string]*numbering
}

type numbering struct {
	last    int64
	ceiling int64 // as stored; 0 when that is not known
}

func newNumbers(rows *store.Store) *numbers {
	return &numbers{rows: rows, by: map[string]*numbering{}}
}

// next is the number of the issuer's next list: the time in Unix milliseconds, or one more than the last.
func (n *numbers) next(ctx context.Context, issuerID string, now time.Time) (*big.Int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of := n.by[issuerID]
	if of == nil {
		of = &numbering{}
		n.by[issuerID] = of
	}
	key := store.CRLPrefix + issuerID
	if of.ceiling == 0 {
		var row numberRow
		if _, err := n.rows.Get(ctx, key, &row); err != nil {
			return nil, err
		}
		of.ceiling, of.last = row.Ceiling, max(of.last, row.Ceiling) // any number up to it may have been given
	}
	number := max(of.last+1, now.UnixMilli())
	if number > of.ceiling {
		row := &numberRow{Ceiling: number + ahead}
		of.ceiling = 0 // what is stored is unknown until the Put is known to have worked
		if err := n.rows.Put(ctx, key, row); err != nil {
			return nil, err
		}
		of.ceiling = row.Ceiling
	}
	of.last = number
	return big.NewInt(number), nil
}

// forget has the rows read again. What was given by this process stays known.
func (n *numbers) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, of := range n.by {
		of.ceiling = 0
	}
}
