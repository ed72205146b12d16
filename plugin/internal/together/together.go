// Package together has writes done together that come while others are being done: one write to storage then serves many
// requests. Whoever comes alone writes at once, and alone. Nobody is answered before what it brought is written.
package together

import (
	"context"
	"errors"
	"sync"
)

// Writes is one kind of write. It is made by New and safe for concurrent use.
type Writes[T any] struct {
	put     func(context.Context, []T) error
	most    int // items in one write
	writers int // writes at a time; one that is slow must not hold up all others

	mu      sync.Mutex
	busy    int
	waiting []*waiting[T]
}

type waiting[T any] struct {
	item T
	lead chan struct{} // closed when it is this one's turn to write, for itself and those after it
	done chan error    // what became of the item, when another has written it
}

// New makes Writes that are done by put, with 'most' items at most in each, and so many writers at a time.
func New[T any](most, writers int, put func(context.Context, []T) error) *Writes[T] {
	return &Writes[T]{put: put, most: most, writers: writers}
}

var errAbandoned = errors.New("whoever wrote it together with others gave up")

// Do writes the item, and answers what became of the write that held it. The context is that of whoever writes.
func (w *Writes[T]) Do(ctx context.Context, item T) error {
	w.mu.Lock()
	if w.busy == w.writers {
		me := &waiting[T]{item: item, lead: make(chan struct{}), done: make(chan error, 1)}
		w.waiting = append(w.waiting, me)
		w.mu.Unlock()
		select {
		case err := <-me.done:
			return err
		case <-me.lead: // takes the place of the writer that is done
		}
		w.mu.Lock()
	} else {
		w.busy++
	}
	n := min(len(w.waiting), w.most-1)
	others := w.waiting[:n:n]
	w.waiting = w.waiting[n:]
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
		w.next()
	}()
	err = w.put(ctx, items)
	return err
}

// Waiting is how many wait for a writer.
func (w *Writes[T]) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

// next lets the first of those who wait write.
func (w *Writes[T]) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.busy--
		return
	}
	close(w.waiting[0].lead)
	w.waiting = w.waiting[1:]
}
