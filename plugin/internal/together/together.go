// Package together has writes done together that come while another is being done: one write to storage then serves many
// requests. Whoever comes alone writes at once, and alone. Nobody is answered before what it brought is written.
package together

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// patience is how long one waits for the write before its own. A write to Raft takes a few milliseconds; one that hangs
	// must not hold up all others.
	patience = 50 * time.Millisecond
	// maxWriters is how many writes are done at a time when they are slow.
	maxWriters = 4
)

// Writes is one kind of write. It is made by New and safe for concurrent use.
type Writes[T any] struct {
	Patience time.Duration // for tests

	most  int
	put   func(context.Context, []T) error
	after func(context.Context, []T)

	mu      sync.Mutex
	writers int
	waiting []*waiting[T]
}

type waiting[T any] struct {
	item T
	lead chan struct{} // closed when it is this one's turn to write, for itself and those after it
	done chan error    // what became of the item, when another has written it
}

// New makes Writes that are done by put, each of at most so many items. What is to follow a write that worked, before those
// whom it serves are answered, is 'after', or nil; the next write need not wait for it.
func New[T any](most int, put func(context.Context, []T) error, after func(context.Context, []T)) *Writes[T] {
	return &Writes[T]{Patience: patience, most: most, put: put, after: after}
}

var errAbandoned = errors.New("whoever wrote it together with others gave up")

// Do writes the item, and answers what became of the write that held it. The context is that of whoever writes.
func (w *Writes[T]) Do(ctx context.Context, item T) error {
	w.mu.Lock()
	if w.writers > 0 {
		me := &waiting[T]{item: item, lead: make(chan struct{}), done: make(chan error, 1)}
		w.waiting = append(w.waiting, me)
		w.mu.Unlock()
		if written, err := w.wait(me); written {
			return err
		}
		w.mu.Lock()
	} else {
		w.writers++
	}
	n := min(len(w.waiting), w.most-1)
	others := slices.Clone(w.waiting[:n])
	w.waiting = slices.Delete(w.waiting, 0, n)
	w.mu.Unlock()

	items := []T{item}
	for _, o := range others {
		items = append(items, o.item)
	}
	err := errAbandoned
	defer func() { // also after a panic underneath
		for _, o := range others {
			o.done <- err
		}
	}()
	outcome := w.write(ctx, items)
	if outcome == nil && w.after != nil {
		w.after(ctx, items)
	}
	err = outcome
	return err
}

// wait waits until another has written, or until it is this one's turn to.
func (w *Writes[T]) wait(me *waiting[T]) (written bool, err error) {
	enough := time.NewTimer(w.Patience)
	defer enough.Stop()
	for {
		select {
		case err := <-me.done:
			return true, err
		case <-me.lead: // in the place of the writer that is done
			return false, nil
		case <-enough.C:
			if w.leave(me) {
				return false, nil
			}
		}
	}
}

// leave makes a writer of one that has waited for long enough, unless another serves it already or there are too many.
func (w *Writes[T]) leave(me *waiting[T]) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.waiting, me)
	if i < 0 || w.writers == maxWriters {
		return false
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	w.writers++
	return true
}

func (w *Writes[T]) write(ctx context.Context, items []T) error {
	defer w.next()
	return w.put(ctx, items)
}

// next lets the first of those who wait write.
func (w *Writes[T]) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.writers--
		return
	}
	close(w.waiting[0].lead)
	w.waiting = slices.Delete(w.waiting, 0, 1)
}

// Waiting is how many wait for a write.
func (w *Writes[T]) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}
