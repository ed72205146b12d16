// Package vaultgate is the edge's only door to Vault.
//
// A Gate logs in to Vault, keeps the login alive and carries the edge's calls. It holds one token, in memory only, and
// nothing that an agent could be let in with.
//
// # Failures
//
// A refusal by the engine comes back as the *apitype.Error that it is. Everything that means "Vault could not answer"
// (network, sealed, overloaded, a plugin that crashed, our own token refused) comes back as vault_unavailable, whose text
// is safe to show to an agent; Cause tells the log what lies behind it. Redeem and Renew alone repeat a call, always with the
// same idempotency key, because a lost answer must never cost an agent; when even the repetitions leave open what happened
// they answer outcome_unknown.
//
// # Login
//
// One goroutine logs in, renews at two thirds of the token's life, and logs in anew when a token cannot be renewed any
// further, has died, or was refused. A call that gets a 403 has the token looked up: a dead one is replaced and the call
// repeated, a live one means that a policy says no. Vault being away is no error: the Gate starts without it, keeps trying
// with growing pauses of at most 30 seconds, and needs no restart when Vault is back.
//
// # Fairness
//
// Bootstrap calls (RedeemCheck, Redeem), renewals (Renew), those for holders of pool secrets (IssueWithSecret), questions about
// certificates (OCSP) and the edge's own (Sync, Report, EdgeCertificate, CRL) have slots of their own, so that neither a
// thousand agents with tokens nor a flood of secrets or questions can hold up a revocation, or each other. Queues are bounded
// in length and time.
package vaultgate
