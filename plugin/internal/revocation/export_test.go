package revocation

import (
	"context"
	"math/big"
	"time"

	"github.com/ampora/ampora/plugin/internal/store"
)

// Numbers are the numbers of lists.
type Numbers struct{ of *numbers }

// NewNumbers is those of a new process.
func NewNumbers(rows *store.Store) Numbers { return Numbers{newNumbers(rows)} }

// Next is the number of the issuer's next list.
func (n Numbers) Next(ctx context.Context, issuerID string, now time.Time) (*big.Int, error) {
	return n.of.next(ctx, issuerID, now)
}

// Forget has the rows read again.
func (n Numbers) Forget() { n.of.forget() }
