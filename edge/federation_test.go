package edge_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/edge/federation"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/hashicorp/vault/sdk/logical"
)

// swift are timings for tests, see quick.
var swift = federation.Timing{
	Bundle: 200 * time.Millisecond, Outbox: time.Second, Expect: 100 * time.Millisecond, Spread: 10 * time.Millisecond,
	Retry: 20 * time.Millisecond, LastRetry: 200 * time.Millisecond, CRL: 100 * time.Millisecond, Card: 10 * time.Millisecond,
}

func withSwift(o *edge.Options) { o.Federation = swift }

// newRegion is a world that others can federate with: an installation with an edge, whose card names that edge.
func newRegion(t *testing.T, peerID string, change ...func(*edge.Options)) *world {
	t.Helper()
	return newRegionOn(t, plugintest.Start(t), peerID, change...)
}

func newRegionOn(t *testing.T, engine *plugintest.Server, peerID string, change ...func(*edge.Options)) *world {
	t.Helper()
	w := &world{t: t, engine: engine, vault: engine.Client(t)}
	noError(t, w.vault.UpdateConfig(t.Context(), map[string]any{
		"peer_id": peerID, "trust_domain": peerID + ".example", "endpoint": "wss://127.0.0.1:4320/v1/opamp", "edge_allowed_domains": []string{"localhost", "127.0.0.1"},
	}))
	must(w.vault.CARoot(t.Context(), apitype.CARootRequest{}))(t)
	w.startEdge(append(change, withSwift)...)
	noError(t, w.vault.UpdateConfig(t.Context(), map[string]any{
		"endpoint": "wss://" + w.addr + "/v1/opamp", "federation_url": "https://" + w.addr + "/federation",
	}))
	return w
}

// card is what the region's edge serves.
func (w *world) card() (apitype.FederationBundle, error) {
	var card apitype.FederationBundle
	resp, body := w.fetch(w.overTLS(), http.MethodGet, "https://"+w.addr+"/federation/bundle", nil)
	if resp.StatusCode != http.StatusOK {
		return card, &apitype.Error{Code: apitype.NotReady, Detail: string(body)}
	}
	return card, json.Unmarshal(body, &card)
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// knows makes the other region a peer of this one, by the card that the other's edge serves.
func (w *world) knows(name string, other *world) {
	w.t.Helper()
	var card apitype.FederationBundle
	other.eventually("the card names the edge", patience, func() (ok bool) {
		var err error
		card, err = other.card()
		return err == nil && strings.Contains(card.FederationURL, other.addr)
	})
	must(w.vault.WritePeer(w.t.Context(), name, apitype.PeerRequest{
		PeerID: &card.PeerID, TrustDomain: &card.TrustDomain, Endpoint: &card.Endpoint, EndpointCABundle: &card.EndpointCABundle,
		FederationURL: &card.FederationURL, CABundle: &card.CABundle, BundleJWS: &card.BundleJWS,
	}))(w.t)
}

// newPeers are two regions that know each other as "west" and "east".
func newPeers(t *testing.T, change ...func(*edge.Options)) (east, west *world) {
	t.Helper()
	east, west = newRegion(t, "east", change...), newRegion(t, "west", change...)
	east.knows("west", west)
	west.knows("east", east)
	return east, west
}

func (w *world) peer(name string) *apitype.Peer {
	w.t.Helper()
	return must(w.vault.Peer(w.t.Context(), name))(w.t)
}

// activate makes a new issuer the active one, and the last one a trusted one.
func (w *world) activate() {
	w.t.Helper()
	next := must(w.vault.CARoot(w.t.Context(), apitype.CARootRequest{}))(w.t)
	must(w.vault.SetIssuerState(w.t.Context(), next.IssuerID, apitype.IssuerRequest{State: "active"}))(w.t)
}

func TestAPeerIsReachedAndItsRowShowsIt(t *testing.T) {
	east, west := newPeers(t)
	for name, w := range map[string]*world{"west": east, "east": west} {
		w.eventually("the row shows it", patience, func() bool {
			reached := w.peer(name).Reachability
			return len(reached) == 1 && reached[0].Up && reached[0].Edge == "edge-1" && reached[0].Error == ""
		})
		if w.metric(`ampora_edge_peer_up{peer="`+name+`"}`) != "1" {
			t.Error("the metric does not say so")
		}
	}
	west.end()
	east.eventually("the row shows that it is gone, and why", patience, func() bool {
		reached := east.peer("west").Reachability
		return len(reached) == 1 && !reached[0].Up && strings.Contains(reached[0].Error, "refused")
	})
	if east.metric(`ampora_edge_peer_up{peer="west"}`) != "0" {
		t.Error("the metric does not say so")
	}
	noError(t, east.vault.DeletePeer(t.Context(), "west"))
	east.eventually("it is forgotten", patience, func() bool { return east.metric(`ampora_edge_peer_up{peer="west"}`) == "" })
}

func TestAPeersChangeOfItsCAIsFollowedWithoutHands(t *testing.T) {
	east, west := newPeers(t)
	was := east.peer("west")
	west.activate()
	east.eventually("both issuers are pinned", patience, func() bool {
		is := east.peer("west")
		return is.BundleSequence > was.BundleSequence && strings.Count(is.CABundle, "BEGIN CERTIFICATE") == 2
	})
	east.eventually("edges hear of it", patience, func() bool { return strings.Contains(east.log.String(), "Vault has taken it") })
	if _, err := east.vault.UpdatePeerBundle(t.Context(), "west", apitype.PeerBundleRequest{BundleJWS: must(west.card())(t).BundleJWS}); err != nil {
		t.Errorf("the same again: %v", err)
	}
}

func TestTheListsOfAllIssuersAreServedToPeers(t *testing.T) {
	east := newRegion(t, "east")
	east.activate()
	east.eventually("there are two lists", patience, func() bool {
		resp, body := east.fetch(east.overTLS(), http.MethodGet, "https://"+east.addr+"/federation/crls", nil)
		return resp.StatusCode == http.StatusOK && resp.Header.Get("ETag") != "" && strings.Count(string(body), "BEGIN X509 CRL") == 2
	})
	if resp, body := east.fetch(east.overTLS(), http.MethodGet, "https://"+east.addr+"/federation/", nil); resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "/federation/crls") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// anotherEdge starts one more edge of the region, which goes on as the world's edge; the first one goes on as well.
func (w *world) anotherEdge(name string) {
	w.t.Helper()
	w.startEdge(withSwift, func(o *edge.Options) { o.Name = name })
}

// end stops the world's edge. It has nothing that would go on from where it was.
func (w *world) end() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	noError(w.t, w.edge.Stop(ctx))
}

// leaving is an agent of the region that can move.
func (w *world) leaving() *agent {
	w.t.Helper()
	a := w.enrolled()
	a.greeted()
	w.eventually("the row says what the agent can do", patience, func() bool {
		return must(w.vault.Agent(w.t.Context(), a.id()))(w.t).Capabilities&apitype.CapabilityAcceptsOpAMP != 0
	})
	return a
}

// handOver makes the token for the agent here and redeems it there. It answers the handover's id.
func (w *world) handOver(a *agent, peer string, target *world) (id string) {
	w.t.Helper()
	issued := must(w.vault.Handover(w.t.Context(), a.id(), apitype.HandoverRequest{Peer: peer}))(w.t)
	must(target.vault.RedeemHandover(w.t.Context(), apitype.HandoverRedeemRequest{Token: issued.HandoverToken}))(w.t)
	return issued.HandoverID
}

// reaches waits until this side has the handover in that state with no receipt left to carry.
func (w *world) reaches(id string, state string) {
	w.t.Helper()
	w.eventually("the handover is "+state, patience, func() bool {
		h := must(w.vault.HandoverInfo(w.t.Context(), id))(w.t)
		return h.State == state && h.Receipt == ""
	})
}

func TestReceiptsOfAHandoverAreCarriedByTheEdges(t *testing.T) {
	east, west := newPeers(t)
	east.anotherEdge("edge-2")
	west.anotherEdge("edge-2")
	id := east.handOver(east.leaving(), "west", west)
	began := time.Now()
	west.reaches(id, string(handover.AwaitingReconnect))
	t.Logf("released after %s", time.Since(began).Round(time.Millisecond))
	east.reaches(id, string(handover.Released))

	noError(t, west.vault.EndHandover(t.Context(), id))
	west.reaches(id, string(handover.Lapsed))
	east.reaches(id, string(handover.LapsedThere))
	for _, w := range []*world{east, west} {
		w.eventually("nothing is left to be said", patience, func() bool { return len(must(w.vault.Outbox(t.Context()))(t).Messages) == 0 })
	}
	for name, w := range map[string]*world{"west": east, "east": west} {
		if p := w.peer(name); p.AcknowledgedSequence == 0 {
			t.Errorf("%s is not known to have our bundle", name)
		}
	}
}

func TestAnEdgeThatEndsBeforeTheSourceAnswersIsMadeUpFor(t *testing.T) {
	east, west := newPeers(t)
	a := east.leaving()
	issued := must(east.vault.Handover(t.Context(), a.id(), apitype.HandoverRequest{Peer: "west"}))(t)
	east.engine.SetAway(true)
	must(west.vault.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: issued.HandoverToken}))(t)
	west.eventually("it is tried", patience, func() bool { return west.metric(`ampora_edge_receipts_sent_total{result="put_off"}`) != "0" })
	west.end()
	east.engine.SetAway(false)
	west.anotherEdge("edge-2")
	west.reaches(issued.HandoverID, string(handover.AwaitingReconnect))
	east.reaches(issued.HandoverID, string(handover.Released))
}

func TestAnEdgeThatEndsBeforeTheAnswerIsStoredIsMadeUpFor(t *testing.T) {
	storage := plugintest.NewCounting(&logical.InmemStorage{})
	east, west := newRegionOn(t, plugintest.Start(t, plugintest.WithStorage(storage)), "east"), newRegion(t, "west")
	east.knows("west", west)
	west.knows("east", east)
	a := east.leaving()
	issued := must(east.vault.Handover(t.Context(), a.id(), apitype.HandoverRequest{Peer: "west"}))(t)
	east.engine.SetAway(true)
	must(west.vault.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: issued.HandoverToken}))(t)
	storage.Before(func(_ context.Context, op plugintest.Op) error {
		if op.Kind == "put" && strings.Contains(op.Key, a.id()) { // the release is being stored
			west.engine.SetAway(true)
		}
		return nil
	})
	east.engine.SetAway(false)
	east.reaches(issued.HandoverID, string(handover.Released))
	west.end()
	storage.Before(nil)
	west.engine.SetAway(false)
	if h := must(west.vault.HandoverInfo(t.Context(), issued.HandoverID))(t); h.State != string(handover.AwaitingRelease) {
		t.Errorf("the answer was stored: %+v", h)
	}
	west.anotherEdge("edge-2")
	west.reaches(issued.HandoverID, string(handover.AwaitingReconnect))
	east.reaches(issued.HandoverID, string(handover.Released))
}

func TestASourceThatIsAwayForLongIsAskedWhenItIsBack(t *testing.T) {
	east, west := newPeers(t)
	issued := must(east.vault.Handover(t.Context(), east.leaving().id(), apitype.HandoverRequest{Peer: "west"}))(t)
	east.end()
	must(west.vault.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: issued.HandoverToken}))(t)
	west.eventually("nobody is there", patience, func() bool { return west.metric(`ampora_edge_peer_up{peer="east"}`) == "0" })
	if h := must(west.vault.HandoverInfo(t.Context(), issued.HandoverID))(t); h.State != string(handover.AwaitingRelease) || h.Receipt == "" {
		t.Errorf("%+v", h)
	}
	address := east.addr
	east.startEdge(withSwift, func(o *edge.Options) { o.Name, o.Listen = "edge-2", address })
	west.reaches(issued.HandoverID, string(handover.AwaitingReconnect))
}

func TestALeafThatItsSourceHasRevokedIsRefusedByTheTarget(t *testing.T) {
	east, west := newPeers(t)
	a := east.leaving()
	west.reaches(east.handOver(a, "west", west), string(handover.AwaitingReconnect))
	must(east.vault.RevokeAgent(t.Context(), a.id(), apitype.RevokeRequest{}))(t)
	west.eventually("the edge knows", patience, func() bool { return west.metric(`ampora_edge_peer_crl_entries{peer="east"}`) == "1" })
	a.w, a.session = west, nil
	a.mustRefuse(http.StatusForbidden, apitype.CertificateRevoked)
}
