// Package explore checks the protocol of handovers by going through every state that two installations and an agent can get
// into. It drives the transition functions of package handover themselves, so that there is no second description of the
// tables that could differ.
//
// # The model
//
// Home has the agent at first, Away is the other installation. There are up to two handovers: one from home to away, and
// after it either another one of the same kind (when the first came to nothing) or one that brings the agent back. Each has
// its state at its source, its state at its target, and the set of messages that were ever sent for it. A message that was
// sent can come at any later time, any number of times, in any order, or never; that is loss, doubling and reordering. An
// installation can crash before its Put (nothing has happened) and after it (the state has changed, nothing was said). At
// any time an operator cancels, forces, gives up, redeems again or begins a new handover, a token's time ends, a target's
// patience ends, the agent comes to either side, gets another leaf or is revoked at its source.
//
// # What is checked
//
// In every state and step: the rules of check.go. From every state, when nobody interferes, messages arrive in the end and
// time passes: all ways end in states where nothing happens any more, whether the agent ever comes or not; there the agent is
// served on exactly one side, no receipt is repeated and no handover is open.
//
// The test prints the number of states:
//
//	go test -v -run TestExplore ./plugin/handover/internal/explore
package explore
