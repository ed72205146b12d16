// Package federation keeps the peers, which are other installations that agents move to and come from, and makes our own signed
// card for them.
//
// What a peer's documents are checked with is the bundle that is pinned in its row: certificates of its issuers. It changes by
// an operator's hand, or by a newer bundle that a pinned key has signed; addresses change by hand only.
package federation
