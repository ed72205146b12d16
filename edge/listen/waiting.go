package listen

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Waiting bounds how many connections stand open on which nothing is being asked: those without a whole first request yet, and
// those between two requests. When there are too many, the one that has waited longest is cut off. Whoever means to ask
// something takes a moment for it, so it is the silent ones that go: they could use up the files that the process may open, and
// nobody else would get in. It is safe for concurrent use.
type Waiting struct {
	most int
	full func() // called for each that is cut off; may be nil

	mu     sync.Mutex
	order  *list.List // of net.Conn, the one that has waited longest first
	places map[net.Conn]*list.Element
}

// NewWaiting makes a bound of so many connections, at least one.
func NewWaiting(most int, full func()) *Waiting {
	return &Waiting{most: max(most, 1), full: full, order: list.New(), places: map[net.Conn]*list.Element{}}
}

// Track is to be the ConnState of an http.Server.
func (w *Waiting) Track(c net.Conn, state http.ConnState) {
	longest := w.note(c, state)
	if longest == nil {
		return
	}
	if w.full != nil {
		w.full()
	}
	if t, secured := longest.(*tls.Conn); secured {
		longest = t.NetConn() // a farewell in TLS would wait for a peer that does not read
	}
	_ = longest.Close()
}

// note answers the connection that is one too many, if there is one.
func (w *Waiting) note(c net.Conn, state http.ConnState) (longest net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget(c)
	if state != http.StateNew && state != http.StateIdle {
		return nil
	}
	w.places[c] = w.order.PushBack(c)
	if w.order.Len() <= w.most {
		return nil
	}
	longest = w.order.Front().Value.(net.Conn)
	w.forget(longest)
	return longest
}

// forget is called under the lock.
func (w *Waiting) forget(c net.Conn) {
	if place, waits := w.places[c]; waits {
		w.order.Remove(place)
		delete(w.places, c)
	}
}
