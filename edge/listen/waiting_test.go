package listen

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheConnectionThatHasWaitedLongestGoes(t *testing.T) {
	const most = 5
	var cut atomic.Int64
	asked, answer := make(chan struct{}), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(asked)
			<-answer
		}
	}))
	s.Config.ConnState = NewWaiting(most, func() { cut.Add(1) }).Track
	s.StartTLS()
	defer s.Close()
	addr := s.Listener.Addr().String()

	// Who is being answered does not wait, however long it takes.
	done := make(chan error, 1)
	go func() {
		resp, err := s.Client().Get(s.URL + "/slow")
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	<-asked
	var silent []net.Conn
	for range 4 * most {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	for i, c := range silent[:3*most] { // the last ones may stay, and newcomers take the place of some
		_ = c.SetReadDeadline(time.Now().Add(15 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("silent connection %d is still open: %v", i, err)
		}
	}
	for range 3 {
		client := s.Client().Transport.(*http.Transport).Clone()
		client.DisableKeepAlives = true
		req, _ := http.NewRequest(http.MethodGet, s.URL, nil)
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatalf("a good client beside them: %v", err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	close(answer)
	if err := <-done; err != nil {
		t.Errorf("a request that was being answered was cut off: %v", err)
	}
	if n := cut.Load(); n < 3*most {
		t.Errorf("%d were cut off", n)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
