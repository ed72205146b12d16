package handover

import "github.com/ampora/ampora/plugin/apitype"

// SourceState is how far a handover has come on the side that the agent leaves.
type SourceState string

// The states of a source. In all after Moved the agent is active here again, as if there had been no handover.
const (
	Pending     SourceState = "handover_pending" // a token is out; the agent is served here
	Released    SourceState = "released"         // the target has it; here it is given its new home and nothing else
	Moved       SourceState = "moved_to_peer"    // it has arrived
	Cancelled   SourceState = "cancelled"        // by an operator, or with its peer
	Expired     SourceState = "expired"          // before the target redeemed
	Rotated     SourceState = "rotated"          // the agent has another leaf than the token says
	Revoked     SourceState = "revoked"          // the agent was
	LapsedThere SourceState = "lapsed"           // the target has given it up
	Forced      SourceState = "forced"           // taken back by an operator, for a target that is lost for good
)

// SourceStates lists them all.
func SourceStates() []SourceState {
	return []SourceState{Pending, Released, Moved, Cancelled, Expired, Rotated, Revoked, LapsedThere, Forced}
}

// Open reports whether the handover is under way: nobody may begin another one for the agent.
func (s SourceState) Open() bool { return s == Pending || s == Released }

// Away reports whether the agent is not served here: it is given its new home and nothing else.
func (s SourceState) Away() bool { return s == Released || s == Moved }

// Code is why a receipt is refused in a state in which the agent is active here, "" in the others.
func (s SourceState) Code() apitype.Code {
	switch s {
	case Cancelled:
		return apitype.HandoverCancelled
	case Expired:
		return apitype.HandoverExpired
	case Rotated:
		return apitype.FingerprintMismatch
	case Revoked:
		return apitype.AgentRevoked
	case LapsedThere:
		return apitype.HandoverLapsed
	case Forced:
		return apitype.HandoverForced
	}
	return ""
}

// SourceInput is what can happen to a handover at its source.
type SourceInput string

// The inputs of a source. The first three are receipts of the target.
const (
	GotRedeemed  SourceInput = "redeemed"
	GotConnected SourceInput = "connected"
	GotLapsed    SourceInput = "lapsed"
	DoCancel     SourceInput = "cancel"  // an operator, or the end of the peer
	DoForce      SourceInput = "force"   // an operator
	LeafRotated  SourceInput = "rotated" // the agent has asked for another leaf
	AgentRevoked SourceInput = "revoked"
	TimeUp       SourceInput = "time up" // the token has expired
)

// SourceInputs lists them all.
func SourceInputs() []SourceInput {
	return []SourceInput{GotRedeemed, GotConnected, GotLapsed, DoCancel, DoForce, LeafRotated, AgentRevoked, TimeUp}
}

// SourceStep is what an input does at the source.
type SourceStep struct {
	Next SourceState
	// Event is the action to record, "" for none: nothing has changed then, and nothing is stored.
	Event string
	// Answer is the receipt to answer with, "" when the input is no receipt.
	Answer Step
	// Code is why the input is refused: it stands in the answer Refused, or is the operator's error.
	Code apitype.Code
}

// On is the source's state table. timeUp says that the token has expired.
func (s SourceState) On(in SourceInput, timeUp bool) SourceStep {
	stay := SourceStep{Next: s}
	if code := s.Code(); code != "" {
		return s.over(in, code)
	}
	if s == Pending && timeUp && (in == GotRedeemed || in == GotConnected) {
		return SourceStep{Next: Expired, Event: apitype.ActionHandoverExpired, Answer: StepRefused, Code: apitype.HandoverExpired}
	}
	switch in {
	case GotRedeemed:
		if s == Pending {
			return SourceStep{Next: Released, Event: apitype.ActionHandoverReleased, Answer: StepReleased}
		}
		stay.Answer = StepReleased // said before, and the answer may have been lost
	case GotConnected:
		if s == Moved {
			stay.Answer = StepCompleted
			break
		}
		// Also when Pending: the target would not admit the agent before it had our release, so we have forgotten it (a restore).
		return SourceStep{Next: Moved, Event: apitype.ActionHandoverCompleted, Answer: StepCompleted}
	case GotLapsed:
		if s == Moved {
			stay.Answer, stay.Code = StepRefused, apitype.AgentMoved
			break
		}
		return SourceStep{Next: LapsedThere, Event: apitype.ActionHandoverLapsed, Answer: StepReturned}
	case DoCancel:
		return s.cancel()
	case DoForce:
		return s.force()
	case LeafRotated:
		if s == Pending {
			return SourceStep{Next: Rotated, Event: apitype.ActionHandoverRejected, Code: apitype.FingerprintMismatch}
		}
		stay.Code = apitype.AgentMoved // no leaf is given to an agent that is not served here
	case AgentRevoked:
		if s == Pending {
			return SourceStep{Next: Revoked, Event: apitype.ActionHandoverRejected, Code: apitype.AgentRevoked}
		}
	case TimeUp:
		if s == Pending {
			return SourceStep{Next: Expired, Event: apitype.ActionHandoverExpired}
		}
	}
	return stay
}

// over is every row of the table below Moved: the agent is active here, and stays so.
func (s SourceState) over(in SourceInput, code apitype.Code) SourceStep {
	stay := SourceStep{Next: s}
	switch in {
	case GotRedeemed, GotConnected:
		stay.Answer, stay.Code = StepRefused, code
	case GotLapsed:
		stay.Answer = StepReturned
	case DoCancel, DoForce:
		if (in == DoCancel && s != Cancelled) || (in == DoForce && s != Forced) {
			stay.Code = code
		} // doing it twice is no mistake
	}
	return stay
}

func (s SourceState) cancel() SourceStep {
	switch s {
	case Pending:
		return SourceStep{Next: Cancelled, Event: apitype.ActionHandoverCancelled}
	case Released:
		return SourceStep{Next: s, Code: apitype.HandoverPending}
	}
	return SourceStep{Next: s, Code: apitype.AgentMoved}
}

func (s SourceState) force() SourceStep {
	switch s {
	case Pending: // nobody else has it: cancelling is enough, and is what is meant
		return SourceStep{Next: Cancelled, Event: apitype.ActionHandoverCancelled}
	case Released:
		return SourceStep{Next: Forced, Event: apitype.ActionHandoverForced}
	}
	return SourceStep{Next: s, Code: apitype.AgentMoved}
}
