// Package ca makes keys and issuers, takes in CSRs, and signs.
//
// It is a domain package: plain Go values in and out, no storage, no clock of its own and no idea of Vault. The caller
// passes the time, keeps what comes back, and decides who may ask.
//
// An issuer signs leaves directly and nothing else that is a CA: its certificate itself is the trust anchor, never its
// parents (see the identity package for what a leaf says). From a CSR the public key is used, after its self-signature has
// shown that the sender holds the private one; names, extensions and attributes are never looked at.
//
// Errors towards whoever sent the input are *apitype.Error with a code; they name the fault and never quote the input.
// Any other error is a fault of ours.
package ca
