package audit

import (
	"context"
	"fmt"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/identity"
)

// side is one of the two installations that agents move between: as an operator sees it, who may be a tenant's, and its edge.
type side struct{ operator, edge *client.Client }

// newSouth makes a peer to be: a mount of its own in the same Vault, which knows north. What is done there is no call of the
// table, and its lines and events are not looked at.
func (w *world) newSouth() side {
	w.Helper()
	ctx := w.Context()
	must(w.T, w.vault.EnableSecrets(ctx, "south", pluginName, w.version))
	south, err := client.New(w.vault.Client(), "south")
	must(w.T, err)
	must(w.T, south.UpdateConfig(ctx, map[string]any{
		"peer_id": "south", "trust_domain": "south.example", "endpoint": "wss://edge.south.example:4320/v1/opamp",
	}))
	must(w.T, only(south.CARoot(ctx, apitype.CARootRequest{})))
	north, err := w.engine.FederationBundle(ctx)
	must(w.T, err)
	must(w.T, only(south.WritePeer(ctx, "north", cardOf(north))))
	return side{operator: south, edge: south}
}

// cardOf is what one installation writes of another.
func cardOf(b *apitype.FederationBundle) apitype.PeerRequest {
	return apitype.PeerRequest{
		PeerID: &b.PeerID, TrustDomain: &b.TrustDomain, Endpoint: &b.Endpoint, EndpointCABundle: &b.EndpointCABundle,
		CABundle: &b.CABundle, BundleJWS: &b.BundleJWS,
	}
}

// callsOfPeers make south a peer. Peers belong to no tenant.
func (w *world) callsOfPeers(south side) []call {
	c := w.engine
	write := func(ctx context.Context) error {
		card, err := south.operator.FederationBundle(ctx)
		if err != nil {
			return err
		}
		return only(c.WritePeer(ctx, "south", cardOf(card)))
	}
	bundle := func(ctx context.Context) error {
		card, err := south.operator.FederationBundle(ctx)
		if err != nil {
			return err
		}
		return only(w.edge.UpdatePeerBundle(ctx, "south", apitype.PeerBundleRequest{BundleJWS: card.BundleJWS}))
	}
	return []call{
		{"make a peer", "Peer.Created", false, write},
		{"write the same again", "", false, write},
		{"change it", "Peer.Updated", false, func(ctx context.Context) error {
			return only(c.WritePeer(ctx, "south", apitype.PeerRequest{AllowedGroups: &[]string{"web"}}))
		}},
		{"bring the bundle that is pinned", "", false, bundle},
		{"bring a newer one", "Peer.Updated", false, func(ctx context.Context) error {
			made, err := south.operator.CARoot(ctx, apitype.CARootRequest{})
			if err != nil {
				return err
			}
			if err := activate(ctx, south.operator, made.IssuerID); err != nil {
				return err
			}
			return bundle(ctx)
		}},
		{"bring what is no bundle", "", true, func(ctx context.Context) error {
			return only(w.edge.UpdatePeerBundle(ctx, "south", apitype.PeerBundleRequest{BundleJWS: "a.b.c"}))
		}},
	}
}

// callsThatPart end it with the peer, when nothing is under way any more: what the engine then ends by itself has no request.
func (w *world) callsThatPart() []call {
	c := w.engine
	suspend := func(yes bool) func(context.Context) error {
		return func(ctx context.Context) error {
			return only(c.WritePeer(ctx, "south", apitype.PeerRequest{Suspended: &yes}))
		}
	}
	remove := func(ctx context.Context) error { return c.DeletePeer(ctx, "south") }
	return []call{
		{"suspend a peer", "Peer.Suspended", false, suspend(true)},
		{"suspend it again", "", false, suspend(true)},
		{"let it in again", "Peer.Updated", false, suspend(false)},
		{"delete it", "Peer.Deleted", false, remove},
		{"delete it again", "", false, remove},
	}
}

// callsOfHandovers move agents of a tenant, or of none, away and here.
func (w *world) callsOfHandovers(tenant string, south side) []call {
	north := side{operator: w.engine.ForTenant(tenant), edge: w.edge}
	if tenant != "" { // the edge's policy is for the paths without a tenant
		north.edge = north.operator
	}
	return append(w.callsOfDepartures(north, south), w.callsOfArrivals(north, south)...)
}

// callsOfDepartures let the same agent go again and again, each time with another end, until it has moved.
func (w *world) callsOfDepartures(north, south side) []call {
	var (
		c      = north.operator
		csr    = newCSR(w.T)
		token  string
		agent  *apitype.Identity
		id     string // of the handover
		listed *apitype.HandoverManifest
		moving string
	)
	issue := func(ctx context.Context) error {
		issued, err := c.IssueToken(ctx, apitype.TokenIssueRequest{})
		if err == nil {
			token = issued.Token
		}
		return err
	}
	redeem := func(ctx context.Context) (err error) {
		agent, err = north.edge.Redeem(ctx, apitype.RedeemRequest{Token: token, CSR: csr, Capabilities: apitype.CapabilityAcceptsOpAMP})
		return err
	}
	renew := func(ctx context.Context) error {
		return only(north.edge.Renew(ctx, agent.AgentID, apitype.RenewRequest{Fingerprint: agent.Fingerprint, CSR: csr, SourceIP: "192.0.2.7"}))
	}
	let := func(ctx context.Context) error {
		given, err := c.Handover(ctx, agent.AgentID, apitype.HandoverRequest{Peer: "south"})
		if err == nil {
			id, moving = given.HandoverID, given.HandoverToken
		}
		return err
	}
	carry := func(ctx context.Context) error { return exchange(ctx, south, north, id) }
	take := func(ctx context.Context) error {
		if err := only(south.operator.RedeemHandover(ctx, apitype.HandoverRedeemRequest{Token: moving})); err != nil {
			return err
		}
		return carry(ctx)
	}
	cancel := func(ctx context.Context) error { return c.EndHandover(ctx, id) }
	return []call{
		{"issue a token for one that will move", "Token.Issued", false, issue},
		{"redeem it", "Token.Redeemed Certificate.Issued", false, redeem},
		{"hand it over to nobody", "", true, func(ctx context.Context) error {
			return only(c.Handover(ctx, agent.AgentID, apitype.HandoverRequest{Peer: "west"}))
		}},
		{"hand it over", "Handover.Issued", false, let},
		{"hand it over twice", "", true, let},
		{"cancel that", "Handover.Cancelled", false, cancel},
		{"cancel it again", "", false, cancel},

		{"hand it over once more", "Handover.Issued", false, let},
		{"hear that the peer has redeemed", "Handover.Released", false, take},
		{"cancel what is released", "", true, cancel},
		{"force it", "Handover.Forced", false, func(ctx context.Context) error { return only(c.ForceHandover(ctx, id)) }},

		{"hand it over after that", "Handover.Issued", false, let},
		{"hear that the peer has redeemed that, too", "Handover.Released", false, take},
		{"hear that the peer has given it up", "Handover.Lapsed", false, func(ctx context.Context) error {
			if err := south.operator.EndHandover(ctx, id); err != nil {
				return err
			}
			return carry(ctx)
		}},

		{"hand over a part of a group", "Handover.Issued", false, func(ctx context.Context) error {
			part, err := c.IssueHandovers(ctx, apitype.HandoverIssueRequest{Peer: "south", AgentIDs: []string{agent.AgentID}})
			if err == nil && len(part.Tokens) != 1 {
				err = fmt.Errorf("%+v", part)
			}
			if err == nil {
				id, moving = part.Tokens[0].HandoverID, part.Tokens[0].HandoverToken
			}
			return err
		}},
		{"list it", "", false, func(ctx context.Context) (err error) {
			listed, err = c.HandoverManifest(ctx, apitype.HandoverManifestRequest{Peer: "south", HandoverIDs: []string{id}})
			return err
		}},
		{"ask how far it is", "", false, func(ctx context.Context) error {
			return only(c.HandoverProgress(ctx, apitype.HandoverProgressRequest{Manifest: listed.Manifest}))
		}},
		{"hear that the peer has redeemed it", "Handover.Released", false, take},
		{"hear that it has come there", "Handover.Completed", false, func(ctx context.Context) error {
			if err := arrive(ctx, south, south.edge, id); err != nil {
				return err
			}
			return carry(ctx)
		}},
		{"renew what has moved", "", true, renew},

		{"issue a token for one that will stay", "Token.Issued", false, issue},
		{"redeem that", "Token.Redeemed Certificate.Issued", false, redeem},
		{"hand that over", "Handover.Issued", false, let},
		{"renew meanwhile", "Handover.Rejected Certificate.Renewed", false, renew},
	}
}

// callsOfArrivals take the same agent of south's again and again, until it has come.
func (w *world) callsOfArrivals(north, south side) []call {
	var (
		c     = north.operator
		agent = w.movable(south)
		given *apitype.HandoverToken
	)
	take := func(ctx context.Context) error {
		return only(c.RedeemHandover(ctx, apitype.HandoverRedeemRequest{Token: given.HandoverToken}))
	}
	let := func(ctx context.Context) (err error) {
		if given, err = south.operator.Handover(ctx, agent, apitype.HandoverRequest{Peer: "north"}); err != nil {
			return err
		}
		return take(ctx)
	}
	carry := func(ctx context.Context) error { return exchange(ctx, north, south, given.HandoverID) }
	return []call{
		{"redeem a handover", "Handover.Redeemed", false, let},
		{"redeem it again", "", false, take},
		{"look at it", "", false, func(ctx context.Context) error {
			return only(c.InspectHandover(ctx, apitype.HandoverRedeemRequest{Token: given.HandoverToken}))
		}},
		{"hear that the peer has cancelled it", "Handover.Rejected", false, func(ctx context.Context) error {
			if err := south.operator.EndHandover(ctx, given.HandoverID); err != nil {
				return err
			}
			return carry(ctx)
		}},

		{"redeem the next", "Handover.Redeemed", false, let},
		{"give it up", "Handover.Lapsed", false, func(ctx context.Context) error { return c.EndHandover(ctx, given.HandoverID) }},
		{"redeem what was given up", "", true, take},
		{"hear that the peer has the agent back", "", false, carry},

		{"redeem the last", "Handover.Redeemed", false, let},
		{"hear that the peer has let go", "Handover.Released", false, carry},
		{"report that the agent has come", "Handover.Connected", false, func(ctx context.Context) error {
			return arrive(ctx, north, w.engine, given.HandoverID)
		}},
		{"hear that the peer knows", "", false, carry},
		{"bring what is no receipt", "", true, func(ctx context.Context) error {
			return only(w.edge.Receipt(ctx, apitype.ReceiptRequest{Receipt: "a.b.c"}))
		}},
	}
}

// movable is an agent that can move to a peer.
func (w *world) movable(at side) string {
	w.Helper()
	issued, err := at.operator.IssueToken(w.Context(), apitype.TokenIssueRequest{})
	must(w.T, err)
	agent, err := at.edge.Redeem(w.Context(), apitype.RedeemRequest{Token: issued.Token, CSR: newCSR(w.T), Capabilities: apitype.CapabilityAcceptsOpAMP})
	must(w.T, err)
	return agent.AgentID
}

// exchange carries what the target of a handover has to say to its source, and the answer back, as edges do. It is one call that
// changes something on each side.
func exchange(ctx context.Context, target, source side, id string) error {
	is, err := target.operator.HandoverInfo(ctx, id)
	if err != nil {
		return err
	}
	answer, err := source.edge.Receipt(ctx, apitype.ReceiptRequest{Receipt: is.Receipt})
	if err != nil {
		return err
	}
	return only(target.edge.Receipt(ctx, apitype.ReceiptRequest{Receipt: answer.Receipt}))
}

// arrive reports the session of the agent that a handover brings, under the serial that its leaf has there. The feed is read as
// somebody of no tenant.
func arrive(ctx context.Context, target side, feed *client.Client, id string) error {
	is, err := target.operator.HandoverInfo(ctx, id)
	if err != nil {
		return err
	}
	told, err := feed.Sync(ctx, apitype.SyncRequest{})
	if err != nil {
		return err
	}
	for _, g := range told.Guests {
		if g.AgentID != is.AgentID {
			continue
		}
		serial, err := identity.LeafSerial(g.AgentID, g.Generation)
		if err != nil {
			return err
		}
		return only(target.edge.Report(ctx, apitype.ReportRequest{Name: "one", Sessions: []apitype.SessionReport{{AgentID: g.AgentID, SerialNumber: serial.String()}}}))
	}
	return fmt.Errorf("the feed does not tell of agent %s", is.AgentID)
}
