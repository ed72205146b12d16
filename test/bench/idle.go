package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// idle are agents that stay, with nothing to say but heartbeats.
type idle struct {
	fleet   *fleet
	url     string
	returns bool
	places  []place
	lost    atomic.Int64 // connections that ended before disconnect
	trouble tally        // of those that come back

	life  context.Context // ends with disconnect
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// place is one agent of the group.
type place struct {
	conn  atomic.Pointer[websocket.Conn] // nil while there is none
	ended atomic.Int64                   // when the last connection ended, Unix nanoseconds
	back  atomic.Int64                   // when the agent was back, Unix nanoseconds; 0 if it has never been away
}

func (f *fleet) group(url string) *idle {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.idle[url]
}

func (f *fleet) connect(o order) (int, error) {
	if o.Agents > len(f.all) {
		return 0, fmt.Errorf("%d agents are wanted, there are %d", o.Agents, len(f.all))
	}
	g := &idle{fleet: f, url: o.URL, returns: o.Return, places: make([]place, o.Agents)}
	g.life, g.stop = context.WithCancel(context.Background())
	f.mu.Lock()
	f.idle[o.URL] = g
	f.mu.Unlock()
	var next, count atomic.Int64
	var once sync.Once
	var first error
	var wg sync.WaitGroup
	for range max(o.Parallel, 8) {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= o.Agents {
					return
				}
				conn, err := f.enter(o.URL, f.all[n])
				if err != nil {
					once.Do(func() { first = err })
					continue
				}
				count.Add(1)
				g.places[n].conn.Store(conn)
				g.tasks.Go(func() { g.stay(n, conn) })
			}
		})
	}
	wg.Wait()
	g.tasks.Go(func() { g.beat(o.Heartbeat) })
	return int(count.Load()), first
}

// stay reads until the connection ends, and then comes back if it should.
func (g *idle) stay(n int, conn *websocket.Conn) {
	p := &g.places[n]
	for {
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				break
			}
		}
		now := time.Now()
		conn.Close()
		if g.life.Err() != nil {
			return
		}
		g.lost.Add(1)
		p.conn.Store(nil)
		p.ended.Store(now.UnixNano())
		if !g.returns {
			return
		}
		err := insist(g.life, func() (err error) {
			conn, err = g.fleet.enter(g.url, g.fleet.all[n])
			return err
		}, g.trouble.add)
		if err != nil {
			return
		}
		p.conn.Store(conn)
		p.back.Store(time.Now().UnixNano())
		if g.life.Err() != nil { // disconnect did not see this connection
			conn.Close()
			return
		}
	}
}

// beat sends each agent's heartbeats, one agent after the other.
func (g *idle) beat(every time.Duration) {
	if every <= 0 || len(g.places) == 0 {
		return
	}
	tick := time.NewTicker(max(every/time.Duration(len(g.places)), time.Millisecond))
	defer tick.Stop()
	for n := 0; ; n = (n + 1) % len(g.places) {
		select {
		case <-g.life.Done():
			return
		case <-tick.C:
			if conn := g.places[n].conn.Load(); conn != nil {
				_ = conn.WriteMessage(websocket.BinaryMessage, g.fleet.all[n].beat) // the reader counts those that are lost
			}
		}
	}
}

// look says how many agents are there, how many connections have been lost so far, and when those that are not there ended.
func (g *idle) look() (there, lost int, ended []int64) {
	if g == nil {
		return 0, 0, nil
	}
	ended = make([]int64, len(g.places))
	for n := range g.places {
		if g.places[n].conn.Load() != nil {
			there++
		} else {
			ended[n] = g.places[n].ended.Load()
		}
	}
	return there, int(g.lost.Load()), ended
}

// returned waits until all agents are there, at most so long, and says when each that was away was back.
func (g *idle) returned(patience time.Duration) (out outcome, err error) {
	if g == nil {
		return out, nil
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		out.Done, _, _ = g.look()
		if out.Done == len(g.places) {
			break
		}
		if time.Now().After(end) {
			g.trouble.tell(&out)
			return out, fmt.Errorf("after %v only %d of %d agents are there; refused: %s; failed: %s",
				patience, out.Done, len(g.places), counts(out.Refused), counts(out.Broken))
		}
	}
	for n := range g.places {
		if at := g.places[n].back.Load(); at > 0 {
			out.Times = append(out.Times, at)
		}
	}
	g.trouble.tell(&out)
	return out, nil
}

// disconnect ends a group.
func (f *fleet) disconnect(url string) {
	g := f.group(url)
	if g == nil {
		return
	}
	f.mu.Lock()
	delete(f.idle, url)
	f.mu.Unlock()
	g.stop()
	for n := range g.places {
		if conn := g.places[n].conn.Load(); conn != nil {
			conn.Close()
		}
	}
	g.tasks.Wait()
}
