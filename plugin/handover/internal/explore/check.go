package explore

import (
	"fmt"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// stateRules hold in every state.
func stateRules(w world) error {
	if w.home() && w.away() && !w.forced() {
		return fmt.Errorf("the agent is served on both sides")
	}
	for k, h := range w.Hop {
		switch {
		case h.Dead && h.Came:
			return fmt.Errorf("handover %d: an agent that was revoked before its release has become active", k)
		case h.Stale && h.Source.Away() && !h.Came:
			return fmt.Errorf("handover %d: the agent was let go with a leaf that it does not have", k)
		}
	}
	return nil
}

// answersTo are the good answers to receipts.
var answersTo = map[handover.SourceInput]handover.Step{
	handover.GotRedeemed: handover.StepReleased, handover.GotConnected: handover.StepCompleted, handover.GotLapsed: handover.StepReturned,
}

// sourceRules hold for every step of a source.
func sourceRules(w world, k int, in handover.SourceInput, s handover.SourceStep) error {
	h := w.Hop[k]
	wants, receipt := answersTo[in]
	switch {
	case receipt && s.Answer != wants && s.Answer != handover.StepRefused:
		return fmt.Errorf("source %d leaves a receipt without its answer", k)
	case !receipt && s.Answer != "":
		return fmt.Errorf("source %d answers what was no receipt", k)
	case s.Answer == handover.StepReleased && !s.Next.Away():
		return fmt.Errorf("source %d says released and serves the agent", k)
	case s.Answer == handover.StepCompleted && s.Next != handover.Moved:
		return fmt.Errorf("source %d says completed and has not noted the arrival", k)
	case s.Answer == handover.StepReturned && (s.Next.Away() || s.Next.Open()):
		return fmt.Errorf("source %d says returned and goes on with the handover", k)
	case s.Answer == handover.StepRefused && (s.Next.Open() || s.Code == ""):
		return fmt.Errorf("source %d refuses without a reason, or for now only", k)
	case h.Source != handover.Released && s.Next == handover.Released && h.TimeUp:
		return fmt.Errorf("source %d lets the agent go with an expired token", k)
	case !h.Source.Open() && s.Next != h.Source:
		return fmt.Errorf("source %d: a handover that is over has changed", k)
	case h.Source == handover.Released && s.Next != h.Source && in != handover.GotConnected && in != handover.GotLapsed && in != handover.DoForce:
		return fmt.Errorf("source %d takes back alone what it has released", k)
	case s.Next == handover.Forced && h.Source != handover.Forced && (in != handover.DoForce || h.Source != handover.Released):
		return fmt.Errorf("source %d speaks of force where there was none", k)
	case s.Answer == handover.StepRefused && h.Source == handover.Forced && s.Code != apitype.HandoverForced:
		return fmt.Errorf("source %d hides that it was forced", k)
	case (in == handover.LeafRotated || in == handover.AgentRevoked) && h.Source == handover.Pending && s.Next.Open():
		return fmt.Errorf("source %d goes on with a leaf that is over", k)
	case in == handover.DoCancel && h.Source == handover.Pending && (s.Next.Open() || s.Next.Away()):
		return fmt.Errorf("source %d: cancelling does not help", k)
	case in == handover.DoCancel && h.Source == handover.Released && s.Code == "":
		return fmt.Errorf("source %d: it is not said why it cannot be cancelled", k)
	case in == handover.DoForce && h.Source.Open() && (s.Next.Open() || s.Next.Away()):
		return fmt.Errorf("source %d: force does not help", k)
	}
	return nil
}

// targetRules hold for every step of a target.
func (t Tables) targetRules(w world, k int, in handover.TargetInput, forced bool, s handover.TargetStep) error {
	h := w.Hop[k]
	waits := t.Sends(h.Target, false) != t.Sends(h.Target, true)
	switch {
	case s.Next != h.Target && !mayBecome(h.Target, in, forced, s.Next):
		return fmt.Errorf("target %d becomes %s by %s", k, s.Next, in)
	case s.Next == h.Target && mustBecome(h.Target, in, forced):
		return fmt.Errorf("target %d stays as it is", k)
	case s.Next == h.Target && waits && h.Acked && !s.Acked:
		return fmt.Errorf("target %d forgets that it was answered", k)
	case waits && !h.Acked && s.Acked && in != handover.GotCompleted && in != handover.GotReturned && in != handover.GotRefused:
		return fmt.Errorf("target %d takes something else for an answer", k)
	case s.Next != h.Target && s.Acked && t.Sends(s.Next, false) != "":
		return fmt.Errorf("target %d has its answer before it has asked", k)
	case in == handover.RedeemedAgain && !h.Target.Open() && s.Code == "":
		return fmt.Errorf("target %d takes a used token", k)
	case in == handover.AgentCame && s.Next != handover.Active && s.Code == "":
		return fmt.Errorf("target %d turns the agent away without a reason", k)
	case in == handover.DoGiveUp && h.Target == handover.Active && s.Code == "":
		return fmt.Errorf("target %d does not say why it cannot give up", k)
	}
	return nil
}

// mayBecome are all changes that there are. None leads out of lapsed or rejected: a token works once.
func mayBecome(from handover.TargetState, in handover.TargetInput, forced bool, to handover.TargetState) bool {
	switch to {
	case handover.AwaitingReconnect:
		return from == handover.AwaitingRelease && in == handover.GotReleased
	case handover.Active:
		return from == handover.AwaitingReconnect && in == handover.AgentCame
	case handover.Lapsed:
		return from.Open() && (in == handover.TooLate || in == handover.DoGiveUp)
	case handover.Rejected:
		return in == handover.GotRefused && (from.Open() || from == handover.Active && forced)
	}
	return false
}

// mustBecome are the inputs that nobody may wait after.
func mustBecome(from handover.TargetState, in handover.TargetInput, forced bool) bool {
	switch in {
	case handover.TooLate, handover.DoGiveUp:
		return from.Open()
	case handover.GotRefused:
		return from.Open() || from == handover.Active && forced
	}
	return false
}

// endRules hold in every state in which nothing happens any more.
func (t Tables) endRules(w world) error {
	for k := range w.begun() {
		h := w.Hop[k]
		if h.Source.Open() {
			return fmt.Errorf("handover %d is open for good", k)
		}
		if h.Target.Open() {
			return fmt.Errorf("handover %d: the target waits for good", k)
		}
		if h.Target != "" && t.Sends(h.Target, h.Acked) != "" {
			return fmt.Errorf("handover %d: the target repeats its receipt for good", k)
		}
	}
	if !w.Revoked && w.home() == w.away() {
		return fmt.Errorf("the agent ends on both sides, or on none (home: %v, away: %v)", w.home(), w.away())
	}
	return nil
}
