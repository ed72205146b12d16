package enroll

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/internal/store"
)

// LiveLeaves counts the certificates that an issuer has signed for agents and that are still good: current or next, neither
// expired nor revoked. It answers also when the last of them expires. A row that cannot be read is an error.
//
// Whoever signs a leaf chooses the issuer and stores the leaf within one shared hold of the mount. Taking the mount once for
// oneself waits for them, so an issuer that signs no more when this is called has no leaf that is not counted.
func (e *Enroller) LiveLeaves(ctx context.Context, issuerID string) (count int, last time.Time, err error) {
	e.Locks.Mount()()
	ctx, now := store.InPassing(ctx), e.Now()
	err = e.Store.Walk(ctx, store.AgentPrefix, "", func(id string) (bool, error) {
		row, err := get[agentRow](ctx, e, store.AgentPrefix, id)
		if err != nil || row == nil {
			return err == nil, err
		}
		var good []leafRow
		for _, l := range row.good() {
			if l.IssuerID == issuerID && l.NotAfter.After(now) {
				good = append(good, l)
			}
		}
		if len(good) == 0 {
			return true, nil
		}
		revoked, err := get[revokedRow](ctx, e, store.RevokedPrefix, id)
		if err != nil {
			return false, err
		}
		for _, l := range good {
			if revoked.covers(l.Generation) {
				continue
			}
			count++
			if l.NotAfter.After(last) {
				last = l.NotAfter
			}
		}
		return true, nil
	})
	return count, last, err
}
