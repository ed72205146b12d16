package edge_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

func (a *agent) id() string { return a.cert.Leaf.Subject.CommonName }

// reported lets the sessions be reported, so that what ends them afterwards is the feed and not the answer to a report.
func (w *world) reported() { time.Sleep(6 * quick.Report) }

func TestRevokingClosesTheLiveSessionAndKeepsItOut(t *testing.T) {
	for name, revoke := range map[string]func(*world, string) error{
		"revoked": func(w *world, id string) error {
			_, err := w.vault.RevokeAgent(w.t.Context(), id, apitype.RevokeRequest{Reason: "keyCompromise"})
			return err
		},
		"deleted": func(w *world, id string) error { return w.vault.DeleteAgent(w.t.Context(), id) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, other := w.enrolled(), w.enrolled()
			c, bystander := a.mustDial(), other.mustDial()
			c.send(a.message(withDescription("host-1")))
			c.receive()
			if _, refused := a.poll(a.message()); refused != nil {
				t.Fatalf("plain HTTP: %+v", refused)
			}
			w.reported()
			if err := revoke(w, a.id()); err != nil {
				t.Fatal(err)
			}
			if code, reason := c.closed(5 * time.Second); code != 1008 || reason != string(apitype.CertificateRevoked) {
				t.Errorf("closed with %d %s", code, reason)
			}
			a.mustRefuse(403, apitype.CertificateRevoked)
			if _, r := a.poll(a.message()); r == nil || r.code != apitype.CertificateRevoked {
				t.Errorf("plain HTTP: %+v", r)
			}
			if !contains(w.log.String(), "detail=\"the agent's certificate was revoked\" agent="+a.id()) {
				t.Error("the refusal's log line does not name the agent")
			}
			bystander.send(other.message(withDescription("host-1")))
			bystander.receive()
		})
	}
}

func TestACertificateThatPassesLeavesTheTokenUntouched(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	secret := w.token()
	a.bearer = "Bearer " + secret
	c := a.mustDial()
	id := a.id()
	c.send(a.message(withDescription("host-1"), a.withCSR()))
	if leaf := a.take(c.receive()); leaf.Subject.CommonName != id {
		t.Fatal("a known agent was made a new one")
	}
	a.bearer = "Bearer " + secret
	c.conn.Close()
	w.unspent(secret)

	if err := w.vault.DeleteAgent(t.Context(), a.id()); err != nil {
		t.Fatal(err)
	}
	old := a.id()
	w.eventually("the certificate yields to the token", 5*time.Second, func() bool {
		reply, refused := a.poll(a.message(a.withCSR()))
		if refused != nil || reply.ConnectionSettings == nil {
			return false
		}
		a.take(reply)
		return true
	})
	if a.id() == old {
		t.Error("the old agent came back to life")
	}
	a.mustDial()
}

func TestAResumedTLSSessionIsJudged(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	a.session = tls.NewLRUClientSessionCache(4)
	c := a.mustDial()
	c.send(a.message(withDescription("host-1")))
	c.receive()
	c.conn.Close()
	c = a.mustDial()
	if !c.conn.NetConn().(*tls.Conn).ConnectionState().DidResume {
		t.Fatal("the TLS session was not resumed: the test shows nothing")
	}
	w.reported()
	if err := w.vault.DeleteAgent(t.Context(), a.id()); err != nil {
		t.Fatal(err)
	}
	c.closed(5 * time.Second)
	a.mustRefuse(403, apitype.CertificateRevoked)

	fresh := &agent{w: w, uid: a.uid, session: a.session}
	fresh.mustRefuse(403, apitype.CertificateRevoked) // the ticket, not the key, brings the certificate back
}

func TestAForeignCertificateIsRefused(t *testing.T) {
	w := newWorld(t)
	elsewhere := newWorld(t)
	stranger := elsewhere.enrolled()
	stranger.w = w
	if r := stranger.mustRefuse(401, apitype.CertificateUntrusted); r.header.Get("WWW-Authenticate") == "" {
		t.Error("a 401 without a challenge")
	}
}

func TestAWrongInstanceUIDIsCorrected(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	right := a.uid
	expect := func(t *testing.T, m *protobufs.ServerToAgent) {
		t.Helper()
		if got, _ := uuid.FromBytes(m.GetAgentIdentification().GetNewInstanceUid()); got != right {
			t.Errorf("told %v, want %s", m, right)
		}
	}
	t.Run("pushed on a WebSocket", func(t *testing.T) {
		a.uid = uuid.Must(uuid.NewV7())
		c := a.mustDial()
		c.send(a.message(withDescription("host-1")))
		c.receive()
		expect(t, c.receive())
		c.conn.Close()
	})
	t.Run("with a later poll", func(t *testing.T) {
		a.uid = uuid.Must(uuid.NewV7())
		var told *protobufs.ServerToAgent
		w.eventually("the uid is told", 5*time.Second, func() bool {
			reply, refused := a.poll(a.message(withDescription("host-1")))
			if refused != nil {
				t.Fatalf("%+v", refused)
			}
			told = reply
			return reply.AgentIdentification != nil
		})
		expect(t, told)
	})
}

func TestFullStateIsAskedForOnce(t *testing.T) {
	const flag = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	w := newWorld(t)
	a := w.enrolled()
	c := a.mustDial()
	c.send(a.message())
	if reply := c.receive(); reply.Flags != flag {
		t.Errorf("the first answer is %v", reply)
	}
	c.send(a.message())
	if reply, err := c.next(500 * time.Millisecond); err == nil {
		t.Errorf("a heartbeat is answered with %v", reply)
	}
	b := w.enrolled()
	asked := 0
	for range 5 {
		reply, refused := b.poll(b.message())
		if refused != nil {
			t.Fatalf("%+v", refused)
		}
		if reply.Flags == flag {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("plain HTTP was asked %d times", asked)
	}
}

func TestWhatAnAgentSaysOfItselfReachesItsRow(t *testing.T) {
	w := newWorld(t)
	a := w.enrolled()
	c := a.mustDial()
	c.send(a.message(withDescription("another-name")))
	c.receive()
	w.eventually("the row knows the new name", 5*time.Second, func() bool {
		row, err := w.vault.Agent(t.Context(), a.id())
		return err == nil && row.DisplayName == "another-name" && strings.Contains(row.Description, "another-name")
	})
}

func TestTwoLiveSessionsOfOneCertificateAreServedAndCounted(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.Timing.Rival = time.Second })
	a := w.enrolled()
	one, two := a.mustDial(), a.mustDial()
	for _, c := range []*wire{one, two} {
		c.send(a.message(withDescription("host-1")))
		c.receive()
	}
	if got := w.metric("ampora_edge_duplicate_sessions_total"); got != "1" {
		t.Errorf("duplicates: %q", got)
	}
	if got := w.metric(`ampora_edge_sessions{kind="agent",transport="ws"}`); got != "2" {
		t.Errorf("sessions: %q", got)
	}
	w.eventually("the engine has heard of it once", 20*time.Second, func() bool {
		one.send(a.message(withDescription("host-1")))
		page, err := w.vault.Events(t.Context(), apitype.EventsRequest{Action: apitype.ActionCertificateSuspected})
		return err == nil && len(page.Events) == 1
	})
	one.conn.Close()
	two.conn.Close()
	w.eventually("both are gone", 5*time.Second, func() bool { return w.metric(`ampora_edge_sessions{kind="agent",transport="ws"}`) == "0" })
}

func TestVaultAway(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.MaxStaleness = 2 * time.Second })
	a := w.enrolled()
	live := a.mustDial()
	live.send(a.message(withDescription("host-1")))
	live.receive()
	w.engine.SetAway(true)
	a.mustDial() // known agents come in on the last snapshot
	w.eventually("the snapshot is too old", 8*time.Second, func() bool { status, _ := w.admin("/readyz"); return status == http.StatusServiceUnavailable })
	r := a.mustRefuse(503, apitype.VaultUnavailable)
	if r.header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	if code, reason := live.closed(8 * time.Second); code != 1008 || reason != string(apitype.VaultUnavailable) {
		t.Errorf("closed with %d %s", code, reason)
	}
	w.engine.SetAway(false)
	w.eventually("the edge is ready again", 40*time.Second, func() bool { status, _ := w.admin("/readyz"); return status == http.StatusOK })
	a.mustDial()
}
