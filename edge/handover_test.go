package edge_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/test/fleet"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// passFor makes a handover token for an agent.
func (w *world) passFor(agentID, peer string) *apitype.HandoverToken {
	w.t.Helper()
	return must(w.vault.Handover(w.t.Context(), agentID, apitype.HandoverRequest{Peer: peer}))(w.t)
}

// redeem takes the agent over.
func (w *world) redeem(token *apitype.HandoverToken) *apitype.HandoverRedemption {
	w.t.Helper()
	return must(w.vault.RedeemHandover(w.t.Context(), apitype.HandoverRedeemRequest{Token: token.HandoverToken}))(w.t)
}

// poised are two regions, and an agent of the first that has told all there is to tell.
func poised(t *testing.T, change ...func(*edge.Options)) (east, west *world, a *agent, c *wire) {
	t.Helper()
	east, west = newPeers(t, change...)
	a = east.enrolled()
	c = a.greeted()
	east.eventually("its row has its capabilities", patience, func() bool {
		row, err := east.vault.Agent(t.Context(), a.id())
		return err == nil && row.Capabilities&apitype.CapabilityAcceptsOpAMP != 0 && row.Fingerprint == identity.Fingerprint(a.cert.Leaf.Raw)
	})
	return east, west, a, c
}

// moveTo has the agent go where an offer sends it.
func (a *agent) moveTo(w *world, m *protobufs.ServerToAgent) {
	a.w.t.Helper()
	if got := m.GetConnectionSettings().GetOpamp().GetDestinationEndpoint(); !strings.Contains(got, w.addr) {
		w.t.Fatalf("sent to %q", got)
	}
	before := a.cert.Leaf
	a.w = w
	if leaf := a.take(m); !leaf.Equal(before) || len(m.ConnectionSettings.Opamp.Certificate.PrivateKey) != 0 {
		w.t.Error("the offer of its new home holds another certificate than its own, or a key")
	}
}

func TestAnAgentMovesLiveAndSettlesIn(t *testing.T) {
	east, west, a, c := poised(t)
	id := a.id()
	token := east.passFor(id, "west")
	row := west.redeem(token)
	offer := c.receive()
	a.moveTo(west, offer)
	guest := a.cert.Leaf
	there := a.greeted()
	west.reaches(token.HandoverID, string(handover.Active))
	east.reaches(token.HandoverID, string(handover.Moved))
	if got := east.metric(`ampora_edge_handover_offers_total{result="offered"}`); got != "1" {
		t.Errorf("offers counted: %q", got)
	}
	// A leaf of its new home comes by itself.
	next, err := there.next(patience)
	for err == nil && next.GetConnectionSettings() == nil {
		next, err = there.next(patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	if leaf := a.take(next); leaf.Subject.CommonName != row.AgentID || leaf.Equal(guest) {
		t.Errorf("it is offered a leaf of %s", leaf.Subject.CommonName)
	}
	a.greeted(withStatus(next.ConnectionSettings.Hash, applied))
	if code, _ := there.closed(patience); code != 1008 {
		t.Errorf("the session of the leaf that it came with ends with %d", code)
	}
	west.eventually("the leaf that it came with counts no longer", patience, func() bool {
		old := *a
		old.cert = &tls.Certificate{Certificate: [][]byte{guest.Raw}, PrivateKey: a.key, Leaf: guest}
		_, r := old.dial()
		return r != nil && (r.code == apitype.CertificateUntrusted || r.code == apitype.CertificateRevoked)
	})
	if got, err := east.vault.Agent(t.Context(), id); err != nil || got.State != string(handover.Moved) || !strings.Contains(got.StateText, "west") {
		t.Errorf("its row at home: %+v, %v", got, err)
	}
}

func TestAPollingAgentMoves(t *testing.T) {
	east, west := newPeers(t)
	a := east.enrolled()
	must2(a.poll(a.message(withDescription("host-1"))))(t)
	token := east.passFor(a.id(), "west")
	west.redeem(token)
	var offer *protobufs.ServerToAgent
	east.eventually("a poll brings the offer", patience, func() bool {
		offer = must2(a.poll(a.message()))(t)
		return offer.ConnectionSettings != nil
	})
	if got := offer.ConnectionSettings.Opamp.DestinationEndpoint; !strings.HasPrefix(got, "https://") {
		t.Errorf("sent to %s", got)
	}
	a.moveTo(west, offer)
	must2(a.poll(a.message()))(t)
	west.reaches(token.HandoverID, string(handover.Active))
	east.reaches(token.HandoverID, string(handover.Moved))
}

func must2(m *protobufs.ServerToAgent, r *refusal) func(*testing.T) *protobufs.ServerToAgent {
	return func(t *testing.T) *protobufs.ServerToAgent {
		t.Helper()
		if r != nil {
			t.Fatalf("refused: %d %s", r.status, r.code)
		}
		return m
	}
}

func TestAnAgentThatTakesNoOfferStaysAndIsGivenNothingElse(t *testing.T) {
	east, west, a, c := poised(t)
	token := east.passFor(a.id(), "west")
	west.redeem(token)
	if offer := c.receive(); offer.ConnectionSettings == nil {
		t.Fatalf("got %v", offer)
	}
	c.send(a.message(a.withCSR()))
	c.mustError(apitype.AgentMoved)
	again := a.mustDial() // it is let in, for the offer, which it has had
	again.send(a.message(withDescription("another")))
	if reply := again.receive(); reply.ConnectionSettings != nil || reply.Flags != 0 || reply.Capabilities == 0 {
		t.Errorf("told %v", reply)
	}
	east.reaches(token.HandoverID, string(handover.Released))
	west.reaches(token.HandoverID, string(handover.AwaitingReconnect))
	// The target gives up: it is served where it is.
	noError(t, west.vault.EndHandover(t.Context(), token.HandoverID))
	east.reaches(token.HandoverID, string(handover.LapsedThere))
	east.eventually("it is given a leaf again", patience, func() bool {
		again.send(a.message(a.withCSR()))
		return again.receive().GetConnectionSettings() != nil
	})
	a.w = west
	west.eventually("the other side has heard that it is not to come", patience, func() bool {
		_, r := a.dial() // until then it is let in, and given nothing
		return r != nil && r.code == apitype.CertificateUntrusted
	})
}

func TestALeafThatIsNotTheTokensIsAMismatch(t *testing.T) {
	east, west, a, c := poised(t, func(o *edge.Options) { o.Timing.Refused = 100 * time.Millisecond })
	token := east.passFor(a.id(), "west")
	c.send(a.message(a.withCSR())) // it has another leaf before the token is redeemed
	a.take(c.receive())
	east.end() // or the target would be told
	row := west.redeem(token)
	a.w = west
	west.eventually("it is refused as another one than expected", patience, func() bool {
		_, r := a.dial()
		return r != nil && r.status == http.StatusForbidden && r.code == apitype.FingerprintMismatch
	})
	west.eventually("the trail tells", patience, func() bool {
		events, err := west.vault.Events(t.Context(), apitype.EventsRequest{AgentID: row.AgentID, Action: apitype.ActionHandoverRejected})
		return err == nil && len(events.Events) == 1 && events.Events[0].Details["presented_fingerprint"] == identity.Fingerprint(a.cert.Leaf.Raw)
	})
}

// withOpampGo starts an agent on opamp-go's client at a region.
func (w *world) withOpampGo(scheme string) *fleet.TestAgent {
	w.t.Helper()
	dir := w.t.TempDir()
	bundle := must(w.vault.CABundle(w.t.Context()))(w.t)
	ca := filepath.Join(dir, "ca.pem")
	noError(w.t, os.WriteFile(ca, []byte(bundle.Bundle), 0o600))
	a := fleet.StartTestAgent(w.t, scheme+"://"+w.addr+"/v1/opamp", w.token(), ca, filepath.Join(dir, "state"))
	a.AwaitEnrolled()
	return a
}

func TestAnAgentOnOpampGoMovesThereAndBack(t *testing.T) {
	for _, scheme := range []string{"wss", "https"} {
		t.Run(scheme, func(t *testing.T) {
			east, west := newPeers(t)
			for _, w := range []*world{east, west} {
				noError(t, w.vault.UpdateConfig(t.Context(), map[string]any{"heartbeat_interval": 1}))
			}
			a := east.withOpampGo(scheme)
			home := a.Pair().Leaf.Subject.CommonName
			from, to, id := east, west, home
			for _, peer := range []string{"west", "east"} {
				from.eventually("the agent may move", patience, func() bool {
					row, err := from.vault.Agent(t.Context(), id)
					return err == nil && row.Capabilities&apitype.CapabilityAcceptsOpAMP != 0 && row.NextSerialNumber == "" && row.Fingerprint == identity.Fingerprint(a.Pair().Leaf.Raw)
				})
				skip := len(a.All())
				token := from.passFor(id, peer)
				there := to.redeem(token)
				a.Await("it goes to its new home", time.Minute, skip, func(e fleet.AgentEvent) bool {
					return e.Event == "saved" && strings.Contains(e.Endpoint, to.addr) && e.AgentID == id
				})
				to.reaches(token.HandoverID, string(handover.Active))
				from.reaches(token.HandoverID, string(handover.Moved))
				a.Await("it has a leaf of its new home", time.Minute, skip, func(e fleet.AgentEvent) bool {
					return e.Event == "saved" && e.AgentID == there.AgentID
				})
				from, to, id = to, from, there.AgentID
			}
			if id != home {
				t.Errorf("it came home as %s, and was %s", id, home)
			}
		})
	}
}

func TestWhyAnAgentCannotGoIsInTheLog(t *testing.T) {
	for name, c := range map[string]struct {
		peer   func(east, west *world) apitype.PeerRequest
		reason string
	}{
		"another CA than its edges'": {func(east, west *world) apitype.PeerRequest {
			bundle := must(east.vault.CABundle(east.t.Context()))(east.t).Bundle
			return apitype.PeerRequest{EndpointCABundle: &bundle}
		}, "certificate"},
		"an endpoint where nobody is": {func(_, west *world) apitype.PeerRequest {
			nowhere := "wss://127.0.0.1:1/v1/opamp"
			return apitype.PeerRequest{Endpoint: &nowhere}
		}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			east, west := newPeers(t)
			must(east.vault.WritePeer(t.Context(), "west", c.peer(east, west)))(t)
			a := east.withOpampGo("wss")
			id := a.Pair().Leaf.Subject.CommonName
			east.eventually("the agent may move", patience, func() bool {
				row, err := east.vault.Agent(t.Context(), id)
				return err == nil && row.Capabilities&apitype.CapabilityAcceptsOpAMP != 0
			})
			token := east.passFor(id, "west")
			west.redeem(token)
			a.Await("it cannot go", time.Minute, 0, func(e fleet.AgentEvent) bool { return e.Event == "rejected" })
			east.eventually("the log says why", time.Minute, func() bool {
				for _, line := range strings.Split(east.log.String(), "\n") {
					if strings.Contains(line, "the agent cannot go to its new home") && strings.Contains(line, c.reason) && strings.Contains(line, id) {
						return true
					}
				}
				return false
			})
			if got := east.metric(`ampora_edge_handover_offers_total{result="failed"}`); got != "1" {
				t.Errorf("counted %q", got)
			}
			west.reaches(token.HandoverID, string(handover.AwaitingReconnect))
		})
	}
}
