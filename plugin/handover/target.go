package handover

import "github.com/ampora/ampora/plugin/apitype"

// TargetState is how far a handover has come on the side that the agent goes to.
type TargetState string

// The states of a target.
const (
	AwaitingRelease   TargetState = "awaiting_release"   // redeemed; the source has not let go, and nobody is admitted
	AwaitingReconnect TargetState = "awaiting_reconnect" // the agent is expected
	Active            TargetState = "active"             // it has come
	Lapsed            TargetState = "lapsed"             // given up, by time or by an operator: never again for this token
	Rejected          TargetState = "rejected"           // the source does not let go
)

// TargetStates lists them all.
func TargetStates() []TargetState {
	return []TargetState{AwaitingRelease, AwaitingReconnect, Active, Lapsed, Rejected}
}

// Open reports whether the agent may still come by this handover.
func (s TargetState) Open() bool { return s == AwaitingRelease || s == AwaitingReconnect }

// Sends is the receipt that the target repeats until the source has answered it, "" for none. acked says that it has.
func (s TargetState) Sends(acked bool) Step {
	switch {
	case s == AwaitingRelease:
		return StepRedeemed
	case s == Active && !acked:
		return StepConnected
	case s == Lapsed && !acked:
		return StepLapsed
	}
	return ""
}

// TargetInput is what can happen to a handover at its target.
type TargetInput string

// The inputs of a target. The first four are answers of the source.
const (
	GotReleased   TargetInput = "released"
	GotRefused    TargetInput = "refused"
	GotCompleted  TargetInput = "completed"
	GotReturned   TargetInput = "returned"
	AgentCame     TargetInput = "agent came"     // with the leaf that the token names
	DoGiveUp      TargetInput = "give up"        // an operator, or the end of the peer
	TooLate       TargetInput = "too late"       // LapseAfter has passed since the last step
	RedeemedAgain TargetInput = "redeemed again" // the same token
)

// TargetInputs lists them all.
func TargetInputs() []TargetInput {
	return []TargetInput{GotReleased, GotRefused, GotCompleted, GotReturned, AgentCame, DoGiveUp, TooLate, RedeemedAgain}
}

// TargetStep is what an input does at the target.
type TargetStep struct {
	Next TargetState
	// Event is the action to record, "" for none.
	Event string
	// Acked says that the receipt which Sends names need not be repeated any more.
	Acked bool
	// Code is why the input is refused.
	Code apitype.Code
}

// On is the target's state table. acked is what Sends takes; forced says that a refusal has the code handover_forced. Nothing
// is to be stored when the step changes neither state nor acked.
func (s TargetState) On(in TargetInput, acked, forced bool) TargetStep {
	stay := TargetStep{Next: s, Acked: acked}
	switch in {
	case GotReleased:
		if s == AwaitingRelease {
			return TargetStep{Next: AwaitingReconnect, Event: apitype.ActionHandoverReleased}
		}
	case GotRefused:
		return s.refused(stay, forced)
	case GotCompleted:
		stay.Acked = acked || s == Active
	case GotReturned:
		stay.Acked = acked || s == Lapsed
	case AgentCame:
		switch s {
		case AwaitingReconnect:
			return TargetStep{Next: Active, Event: apitype.ActionHandoverConnected}
		case AwaitingRelease:
			stay.Code = apitype.HandoverPending
		case Lapsed:
			stay.Code = apitype.HandoverLapsed
		case Rejected:
			stay.Code = apitype.HandoverCancelled
		}
	case DoGiveUp, TooLate:
		switch {
		case s.Open():
			return TargetStep{Next: Lapsed, Event: apitype.ActionHandoverLapsed}
		case s == Active && in == DoGiveUp:
			stay.Code = apitype.HandoverFinished
		}
	case RedeemedAgain:
		if !s.Open() {
			stay.Code = apitype.HandoverReplayed
		}
	}
	return stay
}

// refused: until the agent has come the source decides. Afterwards it is ours, unless an operator there has taken it back.
func (s TargetState) refused(stay TargetStep, forced bool) TargetStep {
	switch {
	case s.Open(), s == Active && forced:
		return TargetStep{Next: Rejected, Event: apitype.ActionHandoverRejected, Acked: true}
	case s == Active && !stay.Acked: // the source knows of no release: it was restored, and people must know
		stay.Event = apitype.ActionHandoverRejected
	}
	stay.Acked = stay.Acked || s == Active || s == Lapsed
	return stay
}
