package client

import (
	"context"

	"github.com/ampora/ampora/plugin/apitype"
)

// Receipt brings a receipt of a peer. The same one may be brought any number of times.
func (c *Client) Receipt(ctx context.Context, in apitype.ReceiptRequest) (*apitype.ReceiptResponse, error) {
	return write[apitype.ReceiptResponse](ctx, c, apitype.PathHandoverReceipt, in)
}

// Outbox is what waits to be carried to peers.
func (c *Client) Outbox(ctx context.Context) (*apitype.Outbox, error) {
	return read[apitype.Outbox](ctx, c, apitype.PathHandoverOutbox, nil)
}
