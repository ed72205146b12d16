package edge_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestAnAgentComesInWithATokenAndLeavesWithACertificate(t *testing.T) {
	w := newWorld(t)
	secret := w.token()
	a := w.newAgent("Bearer " + secret)
	c := a.mustDial()
	c.send(a.message(withDescription("host-1"), a.withCSR()))
	reply := c.receive()
	leaf := a.take(reply)
	if len(reply.GetConnectionSettings().GetOpamp().GetCertificate().GetPrivateKey()) != 0 {
		t.Error("a key came back for a CSR")
	}
	if got := reply.GetConnectionSettings().GetOpamp().GetDestinationEndpoint(); got != "wss://127.0.0.1:4320/v1/opamp" {
		t.Errorf("destination is %s", got)
	}
	if reply.Capabilities == 0 {
		t.Error("the first message does not say what this server can do")
	}
	if code, _ := c.closed(5 * time.Second); code != 1000 {
		t.Errorf("the bootstrap session closed with %d, want 1000", code)
	}

	row, err := w.vault.Agent(t.Context(), leaf.Subject.CommonName)
	if err != nil {
		t.Fatal(err)
	}
	if row.InstanceUID != a.uid.String() || row.DisplayName != "host-1" || row.Capabilities != a.caps || row.SourceIP != "127.0.0.1" {
		t.Errorf("the row is %+v", row)
	}

	known := a.mustDial()
	known.send(a.message(withDescription("host-1")))
	if reply := known.receive(); reply.ConnectionSettings != nil || reply.ErrorResponse != nil || reply.Flags != 0 || reply.Capabilities == 0 {
		t.Errorf("a known agent is told %v", reply)
	}
	w.eventually("the session is reported", 5*time.Second, func() bool {
		row, err := w.vault.Agent(t.Context(), leaf.Subject.CommonName)
		return err == nil && row.Edge == "edge-1"
	})

	again := w.newAgent("Bearer " + secret)
	again.mustRefuse(401, apitype.TokenRedeemed)
}
