package vaultgate

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// Calls about peers. What peers bring and what this edge carries have slots of their own, so that neither holds up the other,
// nor logins, nor the reverse. All are idempotent, so a connection that broke in an idle moment costs a second try.
const (
	receiptSlots    = 16
	receiptQueue    = 256
	federationSlots = 8
	federationQueue = 64
	handoverTries   = 2
)

type federationOperations struct{ card, peerBundle, receipt, answer, outbox operation }

func newFederationOperations(receipts, federation *slots, once func(string, time.Duration) operation) federationOperations {
	about := func(name string, s *slots) operation {
		op := once(name, answerTime)
		op.slots, op.tries = s, handoverTries
		return op
	}
	return federationOperations{
		card: about("federation_bundle", federation), peerBundle: about("peer_bundle", federation), outbox: about("handover_outbox", federation),
		answer: about("handover_answer", federation), receipt: about("handover_receipt", receipts),
	}
}

// FederationBundle is this installation's card.
func (g *Gate) FederationBundle(ctx context.Context) (*apitype.FederationBundle, error) {
	return perform(ctx, g, g.ops.card, g.client.FederationBundle)
}

// UpdatePeerBundle brings a newer bundle of a peer.
func (g *Gate) UpdatePeerBundle(ctx context.Context, name string, in apitype.PeerBundleRequest) (*apitype.Peer, error) {
	return perform(ctx, g, g.ops.peerBundle, func(ctx context.Context) (*apitype.Peer, error) {
		return g.client.UpdatePeerBundle(ctx, name, in)
	})
}

// Receipt brings a receipt that a peer has sent.
func (g *Gate) Receipt(ctx context.Context, in apitype.ReceiptRequest) (*apitype.ReceiptResponse, error) {
	return perform(ctx, g, g.ops.receipt, func(ctx context.Context) (*apitype.ReceiptResponse, error) {
		return g.client.Receipt(ctx, in)
	})
}

// Answer brings what a peer has answered to a receipt of ours.
func (g *Gate) Answer(ctx context.Context, in apitype.ReceiptRequest) (*apitype.ReceiptResponse, error) {
	return perform(ctx, g, g.ops.answer, func(ctx context.Context) (*apitype.ReceiptResponse, error) {
		return g.client.Receipt(ctx, in)
	})
}

// Outbox is what waits to be carried to peers.
func (g *Gate) Outbox(ctx context.Context) (*apitype.Outbox, error) {
	return perform(ctx, g, g.ops.outbox, g.client.Outbox)
}
