package explore

import "github.com/ampora/ampora/plugin/handover"

// Tables are the functions to drive.
type Tables struct {
	Source func(s handover.SourceState, in handover.SourceInput, timeUp bool) handover.SourceStep
	Target func(s handover.TargetState, in handover.TargetInput, acked, forced bool) handover.TargetStep
	Sends  func(s handover.TargetState, acked bool) handover.Step
	// Handovers is how many there may be, 1 or 2.
	Handovers int
}

// Real are those of package handover.
func Real() Tables {
	return Tables{Handovers: most, Source: handover.SourceState.On, Target: handover.TargetState.On, Sends: handover.TargetState.Sends}
}

// A message of one handover, as a bit of the set of those that were sent.
type message uint8

const (
	redeemed message = 1 << iota
	connected
	lapsed
	released
	refused
	refusedForced // refused with the code handover_forced
	completed
	returned
)

// receipt is a target's message, and what it is for the source.
type receipt struct {
	bit   message
	step  handover.Step
	input handover.SourceInput
}

var receipts = []receipt{
	{redeemed, handover.StepRedeemed, handover.GotRedeemed},
	{connected, handover.StepConnected, handover.GotConnected},
	{lapsed, handover.StepLapsed, handover.GotLapsed},
}

// answers are a source's messages, and what each is for the target.
var answers = []struct {
	bit    message
	input  handover.TargetInput
	forced bool
}{
	{released, handover.GotReleased, false},
	{refused, handover.GotRefused, false},
	{refusedForced, handover.GotRefused, true},
	{completed, handover.GotCompleted, false},
	{returned, handover.GotReturned, false},
}

// hop is one handover, on both sides.
type hop struct {
	Source handover.SourceState // "" when it was not begun
	Target handover.TargetState // "" when its token was not redeemed
	Acked  bool
	Sent   message
	TimeUp bool // its token has expired
	Stale  bool // the agent has another leaf than the token says
	Forced bool // an operator has taken the agent back after its release
	Came   bool // the target was active once
	Dead   bool // the agent was revoked at the source before the release
}

// most is the number of handovers.
const most = 2

// world is everything. It is comparable, so that a state is met once.
type world struct {
	Hop [most]hop
	// Back says that the second handover brings the agent home; else it is one more from home to away.
	Back bool
	// Revoked says that the agent was revoked at home.
	Revoked bool
}

// start is a world without a handover: home serves the agent.
func start() world { return world{} }

// begun is how many handovers there were.
func (w *world) begun() int {
	n := 0
	for n < most && w.Hop[n].Source != "" {
		n++
	}
	return n
}

// fromHome reports whether the k-th handover's source is home.
func (w *world) fromHome(k int) bool { return k == 0 || !w.Back }

// home reports whether home serves the agent. Its row has the last handover away from it, and the last one back: while that is
// active the agent is here, else it is where the one away has put it.
func (w *world) home() bool {
	if w.Revoked {
		return false
	}
	if w.Back && w.Hop[1].Target == handover.Active {
		return true
	}
	last := w.Hop[0].Source
	if !w.Back && w.Hop[1].Source != "" {
		last = w.Hop[1].Source
	}
	return !last.Away()
}

// away reports whether the other side serves the agent, in one of the rows that handovers have made there.
func (w *world) away() bool {
	for k := range w.Hop {
		if w.fromHome(k) && w.Hop[k].Target == handover.Active && !(w.Back && w.Hop[1].Source.Away()) {
			return true
		}
	}
	return false
}

// forced reports whether an operator has interfered by force.
func (w *world) forced() bool { return w.Hop[0].Forced || w.Hop[1].Forced }
