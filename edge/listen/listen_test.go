package listen

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

func accepted(t *testing.T, o Options, send string) (server, client net.Conn) {
	t.Helper()
	l, err := Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if _, err := io.WriteString(client, send); err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, client
}

func TestAWriteToAPeerThatDoesNotReadEnds(t *testing.T) {
	server, _ := accepted(t, Options{WriteTimeout: 200 * time.Millisecond}, "")
	block := make([]byte, 1<<20)
	for range 100 {
		_ = server.SetWriteDeadline(time.Time{}) // as the WebSocket library does before each frame
		if _, err := server.Write(block); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the write ended with %v", err)
			}
			return
		}
	}
	t.Fatal("100 MiB were written to nobody")
}

func TestANearerDeadlineCounts(t *testing.T) {
	server, _ := accepted(t, Options{}, "")
	_ = server.SetDeadline(time.Now().Add(-time.Second))
	if _, err := server.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a passed deadline gives %v", err)
	}
}

func TestProxyProtocol(t *testing.T) {
	here := Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	elsewhere := Options{ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	const header = "PROXY TCP4 203.0.113.7 192.0.2.1 56324 4320\r\n"

	t.Run("a trusted balancer says where the agent is", func(t *testing.T) {
		server, _ := accepted(t, here, header+"hello")
		buf := make([]byte, 5)
		if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "hello" {
			t.Fatalf("read %q, %v", buf, err)
		}
		if got := server.RemoteAddr().String(); got != "203.0.113.7:56324" {
			t.Fatalf("remote address is %s", got)
		}
	})
	t.Run("a trusted balancer must say it", func(t *testing.T) {
		server, _ := accepted(t, here, "hello, who is there?")
		if n, err := server.Read(make([]byte, 5)); err == nil {
			t.Fatalf("%d bytes without a header were accepted", n)
		}
	})
	t.Run("nobody else is believed", func(t *testing.T) {
		server, client := accepted(t, elsewhere, header)
		buf := make([]byte, 5)
		if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "PROXY" {
			t.Fatalf("read %q, %v", buf, err)
		}
		if server.RemoteAddr().String() != client.LocalAddr().String() {
			t.Fatal("a stranger chose the remote address")
		}
	})
}
