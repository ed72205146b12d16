package federation

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/ampora/ampora/edge/metrics"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

const (
	deliveriesAtOnce = 4  // to one peer
	deliveryBatch    = 64 // of one look into the outbox: then it is looked again, for other edges deliver as well
	forgetAfter      = time.Hour
)

// outbox carries what waits in Vault to the peers. The order does not matter: of one handover there is one message at most.
type outbox struct {
	*Handler
	wake chan struct{} // holds one when there may be something
	soon chan struct{} // the same, and nobody else has been told
	// Of run's goroutine alone:
	vault retry
}

// post is what a peer is owed.
type post struct {
	cancel  context.CancelFunc
	busy    bool  // a batch is under way
	retry   retry // of the peer as a whole
	letters map[letter]retry
}

// letter names a message.
type letter struct {
	id   string
	step string
}

func (p *post) note(m apitype.OutboxMessage, r retry) {
	if p.letters == nil {
		p.letters = map[letter]retry{}
	}
	p.letters[letter{m.ID, m.Step}] = r
}

func newOutbox(h *Handler) *outbox {
	return &outbox{Handler: h, wake: make(chan struct{}, 1), soon: make(chan struct{}, 1)}
}

// hurry has the outbox looked into, a little later than now: all edges are told at the same time.
func (o *outbox) hurry() { poke(o.wake) }

// run looks into the outbox until ctx ends.
func (o *outbox) run(ctx context.Context) {
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	for ctx.Err() == nil {
		next := time.Now().Add(o.Timing.LastRetry) // after a panic
		_ = o.guard("the outbox", func() { next = o.round(ctx, &deliveries) })
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-o.soon:
		case <-o.wake:
			pause(ctx, rand.N(o.Timing.Spread))
		}
		timer.Stop()
	}
}

// round starts the deliveries that are due, and says when to look again.
func (o *outbox) round(ctx context.Context, deliveries *sync.WaitGroup) (next time.Time) {
	next = time.Now().Add(around(o.Timing.Outbox))
	view := o.View()
	if view == nil || len(o.all()) == 0 {
		return next // a change of the snapshot wakes us
	}
	if time.Now().Before(o.vault.at) {
		return o.vault.at
	}
	box, err := o.Engine.Outbox(ctx)
	if err != nil {
		return o.failed(ctx, err)
	}
	o.vault = retry{}
	waiting := map[string][]apitype.OutboxMessage{}
	for _, m := range box.Messages {
		waiting[m.Peer] = append(waiting[m.Peer], m)
	}
	for _, row := range view.Peers {
		if row.Waiting && len(waiting[row.Name]) == 0 && !row.Suspended { // Vault will say so in a moment
			next = earlier(next, time.Now().Add(around(o.Timing.Expect)))
		}
	}
	for name, messages := range waiting {
		if p := o.peer(name); p != nil {
			next = earlier(next, p.deliver(ctx, messages, deliveries))
		}
	}
	return next
}

// failed puts the outbox off, and logs why, once.
func (o *outbox) failed(ctx context.Context, err error) time.Time {
	was := o.vault.why
	o.vault = o.vault.after(vaultgate.Cause(err), o.Timing, 0)
	if was != o.vault.why && ctx.Err() == nil {
		o.Logger.Warn("Vault does not say which receipts wait for peers", "error", o.vault.why)
	}
	return o.vault.at
}

// deliver starts a batch of what is due, and says when something else will be. The end of a batch wakes the outbox.
func (p *peer) deliver(ctx context.Context, messages []apitype.OutboxMessage, deliveries *sync.WaitGroup) (next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	next = now.Add(p.Timing.Outbox)
	switch {
	case p.post.busy || p.line == nil:
		return next
	case now.Before(p.post.retry.at):
		return p.post.retry.at
	}
	var due []apitype.OutboxMessage
	for _, m := range messages {
		if p.row.Suspended && m.Step != string(handover.StepLapsed) {
			continue
		}
		if r := p.post.letters[letter{m.ID, m.Step}]; now.Before(r.at) {
			next = earlier(next, r.at)
			continue
		}
		due = append(due, m)
	}
	if len(due) == 0 {
		return next
	}
	// Each edge begins elsewhere.
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	due = due[:min(len(due), deliveryBatch)]
	p.post.busy = true
	line := p.line
	deliveries.Go(func() {
		defer p.delivered()
		_ = p.guard("a delivery", func() { p.carryAll(ctx, line, due) })
	})
	return next
}

// delivered is the end of a batch.
func (p *peer) delivered() {
	p.mu.Lock()
	p.post.busy = false
	for l, r := range p.post.letters { // what has been gone for long
		if time.Since(r.at) > forgetAfter {
			delete(p.post.letters, l)
		}
	}
	p.mu.Unlock()
	poke(p.outbox.soon)
}

// carryAll carries a batch, and stops when the peer is not there.
func (p *peer) carryAll(ctx context.Context, l *line, batch []apitype.OutboxMessage) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work := make(chan apitype.OutboxMessage)
	var workers sync.WaitGroup
	for range min(deliveriesAtOnce, len(batch)) {
		workers.Go(func() {
			for m := range work {
				there := false
				if p.guard("a delivery", func() { there = p.carry(ctx, l, m) }) != nil {
					p.putOff(m, metrics.ReceiptPutOff, "this edge failed", 0)
				}
				if !there {
					stop()
				}
			}
		})
	}
	for _, m := range batch {
		select {
		case work <- m:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
}

// carry brings one receipt to the peer and the answer to Vault, and reports whether the peer is there.
func (p *peer) carry(ctx context.Context, l *line, m apitype.OutboxMessage) (there bool) {
	if ctx.Err() != nil {
		return false
	}
	reply, err := p.call(ctx, l, request{path: pathReceipts, body: m.Receipt, most: maxReceipt})
	if ctx.Err() != nil {
		return false
	}
	if f, failed := errors.AsType[*fault](err); failed {
		return p.undelivered(m, f)
	}
	p.mu.Lock()
	p.post.retry = retry{}
	p.mu.Unlock()
	if reply.status != http.StatusOK || reply.media != jose {
		p.putOff(m, metrics.ReceiptRefused, "the peer does not answer with a receipt", 0)
		return true
	}
	// Also when this edge goes down: what the peer has said is not to be asked for twice.
	got, err := p.Engine.Answer(context.WithoutCancel(ctx), apitype.ReceiptRequest{Receipt: string(reply.body)})
	code := apitype.CodeOf(err)
	switch {
	case err == nil:
		p.counts.Receipts.WithLabelValues(metrics.ReceiptAnswered).Inc()
		p.Logger.Info("a peer has answered a receipt", "peer", p.name, "handover_id", m.ID, "step", m.Step, "state", got.State)
		p.rest(m)
	case code == "" || code.VaultStatus() >= 500:
		p.putOff(m, metrics.ReceiptPutOff, "Vault does not take the answer now: "+vaultgate.Cause(err), 0)
	default:
		p.putOff(m, metrics.ReceiptAnswerRefused, "Vault refuses the answer: "+vaultgate.Cause(err), 0)
	}
	return true
}

// undelivered is a receipt that did not arrive, or that the peer has refused.
func (p *peer) undelivered(m apitype.OutboxMessage, f *fault) (there bool) {
	if f.answered {
		p.putOff(m, metrics.ReceiptRefused, "the peer refuses the receipt: "+f.text, f.wait)
		return true
	}
	p.counts.Receipts.WithLabelValues(metrics.ReceiptPutOff).Inc()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.post.retry.at.Before(time.Now()) { // else another one of the batch has found out as well
		p.post.retry = p.post.retry.after(why(f), p.Timing, f.wait)
	}
	return false
}

// rest leaves alone what has been settled: should it still wait in the outbox, it is tried again, but not at once.
func (p *peer) rest(m apitype.OutboxMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.post.note(m, p.post.letters[letter{m.ID, m.Step}].after("", p.Timing, 0))
}

// putOff has a message tried again later, and logs why, once.
func (p *peer) putOff(m apitype.OutboxMessage, result, text string, wait time.Duration) {
	p.counts.Receipts.WithLabelValues(result).Inc()
	p.mu.Lock()
	was := p.post.letters[letter{m.ID, m.Step}]
	p.post.note(m, was.after(text, p.Timing, wait))
	p.mu.Unlock()
	if was.why != text {
		p.Logger.Warn("a receipt could not be settled with a peer, and is tried again", "peer", p.name, "handover_id", m.ID, "step", m.Step, "error", text)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
