package session

import "sync"

// news wakes whoever waits for it.
type news struct {
	mu sync.Mutex
	ch chan struct{} // nil while nobody waits
}

// next is closed when there is some.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}
