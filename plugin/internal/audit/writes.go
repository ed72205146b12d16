package audit

import (
	"context"
	"errors"
	"sync"
)

const (
	// maxTogether is how many records one row may hold. Its key names them all, and must be short enough for every storage
	// that Vault has: one whose keys are files allows 255 characters.
	maxTogether = 6
	// maxWriters is how many rows are written at a time. One that is slow must not hold up all others.
	maxWriters = 2
)

// writes has records written together that come while others are being written. Whoever comes alone writes at once, and
// alone; under load one write to storage serves many. Nobody is answered before its record is stored.
type writes struct {
	mu      sync.Mutex
	writers int
	waiting []*waiting
}

type waiting struct {
	record *Record
	lead   chan struct{} // closed when it is this one's turn to write, for itself and those after it
	done   chan error    // what became of the record, when another has written it
}

var errAbandoned = errors.New("audit: whoever wrote the record gave up")

// write stores the record by put, which takes it with others.
func (w *writes) write(ctx context.Context, r *Record, put func(context.Context, []*Record) error) error {
	w.mu.Lock()
	if w.writers == maxWriters {
		me := &waiting{record: r, lead: make(chan struct{}), done: make(chan error, 1)}
		w.waiting = append(w.waiting, me)
		w.mu.Unlock()
		select {
		case err := <-me.done:
			return err
		case <-me.lead: // takes the place of the writer that is done
		}
		w.mu.Lock()
	} else {
		w.writers++
	}
	n := min(len(w.waiting), maxTogether-1)
	others := w.waiting[:n:n]
	w.waiting = w.waiting[n:]
	w.mu.Unlock()

	records := []*Record{r}
	for _, o := range others {
		records = append(records, o.record)
	}
	err := errAbandoned
	defer func() { // also after a panic underneath
		for _, o := range others {
			o.done <- err
		}
		w.next()
	}()
	err = put(ctx, records)
	return err
}

// next lets the first of those who wait write.
func (w *writes) next() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.writers--
		return
	}
	close(w.waiting[0].lead)
	w.waiting = w.waiting[1:]
}
