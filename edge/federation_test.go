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
	"github.com/ampora/ampora/plugin/plugintest"
)

// swift are timings for tests, see quick.
var swift = federation.Timing{
	Bundle: 200 * time.Millisecond, Outbox: time.Second, Expect: 100 * time.Millisecond, Spread: 10 * time.Millisecond,
	Retry: 20 * time.Millisecond, LastRetry: 200 * time.Millisecond, CRL: 100 * time.Millisecond, Card: 10 * time.Millisecond,
}

// newRegion is a world that others can federate with: an installation with an edge, whose card names that edge.
func newRegion(t *testing.T, peerID string, change ...func(*edge.Options)) *world {
	t.Helper()
	engine := plugintest.Start(t)
	w := &world{t: t, engine: engine, vault: engine.Client(t)}
	noError(t, w.vault.UpdateConfig(t.Context(), map[string]any{
		"peer_id": peerID, "trust_domain": peerID + ".example", "endpoint": "wss://127.0.0.1:4320/v1/opamp", "edge_allowed_domains": []string{"localhost", "127.0.0.1"},
	}))
	must(w.vault.CARoot(t.Context(), apitype.CARootRequest{}))(t)
	w.startEdge(append([]func(*edge.Options){func(o *edge.Options) { o.Federation = swift }}, change...)...)
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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	noError(t, west.edge.Stop(ctx))
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
