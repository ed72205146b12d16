package relay

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"
)

// server answers every line with its name and the line.
func server(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintln(c, name, lines.Text())
				}
			}()
		}
	}()
	return l.Addr().String()
}

type caller struct {
	net.Conn
	lines *bufio.Scanner
}

func dial(t *testing.T, r *Relay) *caller {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &caller{Conn: c, lines: bufio.NewScanner(c)}
}

func (c *caller) say(t *testing.T, text string) {
	t.Helper()
	_, err := fmt.Fprintln(c, text)
	must(t, err)
}

func (c *caller) hear(t *testing.T) string {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	if !c.lines.Scan() {
		t.Fatalf("nothing was answered: %v", c.lines.Err())
	}
	return c.lines.Text()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConnectionsGoToTheTargetsInTurn(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed.Close()
	r, err := New(server(t, "a"), closed.Addr().String(), server(t, "b"))
	must(t, err)
	defer r.Close()
	seen := map[string]int{}
	for range 6 {
		c := dial(t, r)
		c.say(t, "x")
		seen[c.hear(t)]++
	}
	if seen["a x"] != 2 || seen["b x"] != 4 {
		t.Errorf("the targets were asked %v, want b to stand in for the closed one", seen)
	}
}

func TestADownRelayBreaksAndRefusesAndComesBackAtItsAddress(t *testing.T) {
	r, err := New(server(t, "a"))
	must(t, err)
	defer r.Close()
	c := dial(t, r)
	c.say(t, "1")
	c.hear(t)
	r.Down()
	must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	if c.lines.Scan() {
		t.Errorf("a broken connection said %q", c.lines.Text())
	}
	if late, err := net.Dial("tcp", r.Addr()); err == nil {
		late.Close()
		t.Error("a relay that is down takes connections")
	}
	must(t, r.Up())
	c = dial(t, r)
	c.say(t, "2")
	if got := c.hear(t); got != "a 2" {
		t.Errorf("heard %q", got)
	}
}

func TestWhatIsHeldArrivesLaterAndOthersDoNotWait(t *testing.T) {
	var names = make(chan string, 3)
	r, err := Named(func(net.Conn) string { return <-names }, server(t, "a"))
	must(t, err)
	defer r.Close()
	names <- "bad"
	bad := dial(t, r)
	bad.say(t, "1")
	bad.hear(t)
	names <- "good"
	good := dial(t, r)
	r.Hold(func(from string) bool { return from == "bad" })
	bad.say(t, "2")
	for range 3 { // later than the held line, and answered all the same
		good.say(t, "3")
		good.hear(t)
	}
	must(t, bad.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	var one [1]byte
	if n, err := bad.Read(one[:]); n != 0 || err == nil {
		t.Fatal("a held connection carries something")
	}
	r.Hold(nil)
	if got := bad.hear(t); got != "a 2" {
		t.Errorf("afterwards came %q", got)
	}
}
