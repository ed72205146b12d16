package trust

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/go-hclog"
)

// Syncer is the secrets engine's change feed. An error means that nothing is known; the feed asks again.
type Syncer interface {
	Sync(ctx context.Context, in apitype.SyncRequest) (*apitype.SyncResponse, error)
}

// Change tells a listener what an answer of the feed has brought.
type Change struct {
	Snapshot *Snapshot
	// Revoked are the revocations added, Moves and Guests the entries of theirs that came or went. They are left out when
	// Whole is set.
	Revoked []apitype.SyncRevoked
	Moves   []apitype.SyncMove
	Guests  []apitype.SyncGuest
	// Reassigned are agents whose group or own configuration was changed, and Configurations says that groups or
	// configurations were. After a full snapshot, Full, any may have been.
	Reassigned     []string
	Configurations bool
	Full           bool
	// Whole means that anything may have changed: a full snapshot, or other issuers, ours or those of peers.
	Whole bool
}

// Feed follows the change feed. Current is safe for concurrent use.
type Feed struct {
	syncer  Syncer
	logger  hclog.Logger
	current atomic.Pointer[Snapshot]
	lastErr atomic.Pointer[string]

	mu        sync.Mutex
	listeners []func(Change)
}

const (
	pollWait    = 3 * time.Second  // the most that the engine holds a call open
	pollTimeout = 15 * time.Second // for one call, waiting included
	backoffMin  = 250 * time.Millisecond
	backoffMax  = 10 * time.Second
	// pollGap keeps a feed that answers at once, over and over, from becoming a busy loop.
	pollGap = 50 * time.Millisecond
)

// NewFeed makes a feed that has not asked yet.
func NewFeed(syncer Syncer, logger hclog.Logger) *Feed {
	return &Feed{syncer: syncer, logger: logger}
}

// Current is the newest snapshot, nil before the first.
func (f *Feed) Current() *Snapshot { return f.current.Load() }

// LastError is why the feed does not answer, empty while it does.
func (f *Feed) LastError() string {
	if text := f.lastErr.Load(); text != nil {
		return *text
	}
	return ""
}

// OnChange adds a listener. It is called after the new snapshot has become current, from the feed's own goroutine, and must
// not block. Answers that change nothing are not told.
func (f *Feed) OnChange(listener func(Change)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners = append(f.listeners, listener)
}

// Run follows the feed until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	backoff := backoffMin
	for ctx.Err() == nil {
		if err := f.poll(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			f.failed(err)
			pause(ctx, backoff/2+rand.N(backoff))
			backoff = min(backoff*2, backoffMax)
			continue
		}
		if f.lastErr.Swap(nil) != nil {
			f.logger.Info("sync works again", "revision", f.Current().Revision)
		}
		backoff = backoffMin
		pause(ctx, pollGap)
	}
}

// poll asks once and applies the answer.
func (f *Feed) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	prev := f.Current()
	request := apitype.SyncRequest{}
	if prev != nil {
		request.Since, request.Wait = prev.Revision, int64(pollWait/time.Second)
	}
	answer, err := f.syncer.Sync(ctx, request)
	if err != nil {
		return err
	}
	next, err := apply(prev, answer, time.Now())
	if err != nil {
		return err
	}
	f.current.Store(next)
	if answer.Full {
		what := "first trust snapshot"
		if prev != nil { // the plugin was started anew, or another node of Vault leads
			what = "whole trust snapshot again"
		}
		f.logger.Info(what, "revision", next.Revision, "issuers", len(next.Issuers), "revoked", next.RevokedCount())
	}
	change := Change{
		Snapshot: next, Revoked: answer.Revoked, Moves: answer.Moves, Guests: answer.Guests,
		Reassigned: answer.Reassigned, Configurations: answer.Configurations, Full: answer.Full,
		Whole: answer.Full || answer.Issuers != nil || answer.Peers != nil,
	}
	if change.Whole || answer.Settings != nil || answer.Configurations ||
		len(answer.Revoked)+len(answer.Moves)+len(answer.Guests)+len(answer.Reassigned) > 0 {
		f.tell(change)
	}
	return nil
}

func (f *Feed) tell(c Change) {
	if c.Whole {
		c.Revoked, c.Moves, c.Guests = nil, nil, nil
	}
	f.mu.Lock()
	listeners := f.listeners
	f.mu.Unlock()
	for _, listener := range listeners {
		listener(c)
	}
}

// failed notes why, and logs it once per reason.
func (f *Feed) failed(err error) {
	text := reason(err)
	if old := f.lastErr.Swap(&text); old == nil || *old != text {
		if f.Current() == nil {
			f.logger.Warn("no trust snapshot from Vault yet, trying again", "error", text)
			return
		}
		f.logger.Warn("sync fails, going on with the last snapshot", "error", text)
	}
}

func reason(err error) string {
	if code := apitype.CodeOf(err); code != "" {
		var e *apitype.Error
		errors.As(err, &e)
		return e.Error()
	}
	return err.Error()
}

// RevisionNumber is the n of "<epoch>.<n>", for a gauge.
func (s *Snapshot) RevisionNumber() float64 {
	_, n, _ := strings.Cut(s.Revision, ".")
	v, err := strconv.ParseFloat(n, 64)
	if err != nil {
		return 0
	}
	return v
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
