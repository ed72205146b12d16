// Package relay passes TCP connections on, as a balancer does, and as a bad network does: it can be down, or silent.
package relay

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Relay listens on loopback and passes each connection on to the next of its targets that takes it. It looks at no byte of
// what it carries. Its methods are safe for concurrent use.
type Relay struct {
	addr    string
	targets []string
	from    func(net.Conn) string // who opened the connection, for Hold; may be nil

	mu       sync.Mutex
	changed  *sync.Cond // held has changed, or a pair has ended
	listener net.Listener
	next     int
	open     map[*pair]bool
	held     func(from string) bool
	running  sync.WaitGroup
}

// pair is one connection: the half that somebody opened and the one to the target.
type pair struct {
	from  string
	conns [2]net.Conn
	ended bool // guarded by the relay's lock
}

// dialPatience is how long a target may take to accept before the next one is tried.
const dialPatience = 5 * time.Second

// New listens on a free port and relays to the targets, host:port each, in turn.
func New(targets ...string) (*Relay, error) { return Named(nil, targets...) }

// Named is New for a relay that asks who opened each connection, so that Hold can tell them apart.
func Named(from func(net.Conn) string, targets ...string) (*Relay, error) {
	r := &Relay{addr: "127.0.0.1:0", targets: targets, from: from, open: map[*pair]bool{}}
	r.changed = sync.NewCond(&r.mu)
	return r, r.Up()
}

// Addr is where the relay listens, host:port. It stays the same over Down and Up.
func (r *Relay) Addr() string { return r.addr }

// Up listens (again).
func (r *Relay) Up() error {
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		return errors.Join(errors.New("relay: it is up"), l.Close())
	}
	r.listener, r.addr = l, l.Addr().String()
	r.running.Go(func() { r.accept(l) })
	return nil
}

// Down refuses connections from now on and breaks those that there are.
func (r *Relay) Down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	for p := range r.open {
		r.end(p)
	}
}

// Hold keeps the bytes of those connections for which which answers true, old ones and new ones, as a network does that
// loses every packet: nothing arrives, and nobody is told. Hold(nil) lets everything go on from where it was.
func (r *Relay) Hold(which func(from string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = which
	r.changed.Broadcast()
}

// Close ends the relay with everything that it carries.
func (r *Relay) Close() {
	r.Down()
	r.running.Wait()
}

func (r *Relay) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.carry(l, c) })
	}
}

// carry finds a target for a connection and copies until one side ends.
func (r *Relay) carry(l net.Listener, c net.Conn) {
	p := &pair{conns: [2]net.Conn{c, nil}}
	if r.from != nil {
		p.from = r.from(c)
	}
	var err error
	if p.conns[1], err = r.dial(); err != nil {
		c.Close()
		return
	}
	r.mu.Lock()
	r.open[p] = true
	if r.listener != l { // it went down meanwhile
		r.end(p)
	}
	r.mu.Unlock()
	var both sync.WaitGroup
	for i := range p.conns {
		both.Go(func() { r.copy(p, p.conns[i], p.conns[1-i]) })
	}
	both.Wait()
}

func (r *Relay) dial() (net.Conn, error) {
	r.mu.Lock()
	first := r.next
	r.next++
	r.mu.Unlock()
	err := errors.New("relay: there is no target")
	for i := range r.targets {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", r.targets[(first+i)%len(r.targets)], dialPatience); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// copy carries one direction. At its end, in whatever way, it ends the pair.
func (r *Relay) copy(p *pair, from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && r.pass(p) {
			_, wrote := to.Write(buffer[:n])
			err = errors.Join(err, wrote)
		}
		if err != nil {
			break
		}
	}
	r.pass(p) // the end of a connection is news as well
	r.mu.Lock()
	r.end(p)
	r.mu.Unlock()
}

// pass waits while the pair is held, and reports whether it still goes on.
func (r *Relay) pass(p *pair) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !p.ended && r.held != nil && r.held(p.from) {
		r.changed.Wait()
	}
	return !p.ended
}

// end needs the lock.
func (r *Relay) end(p *pair) {
	p.ended = true
	delete(r.open, p)
	for _, c := range p.conns {
		c.Close()
	}
	r.changed.Broadcast()
}
