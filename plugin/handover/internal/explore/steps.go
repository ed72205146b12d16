package explore

import (
	"fmt"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// kind says who is behind a step.
type kind int

const (
	flow  kind = iota // messages that arrive, and time
	agent             // the agent comes
	other             // operators, faults, rotation, revocation
)

// name tells a step; it is written out only when somebody is to read it.
type name struct {
	who   string
	k     int
	what  string
	crash string
}

func (n name) crashing(when string) name {
	n.crash = ", and a crash " + when
	return n
}

func (n name) String() string { return fmt.Sprintf("%s %d: %s%s", n.who, n.k, n.what, n.crash) }

// step is one thing that can happen in a world.
type step struct {
	name name
	kind kind
	next world
	err  error // a rule that it breaks
}

// steps are all things that can happen in w.
func (t Tables) steps(w world) []step {
	var all []step
	for k := range w.begun() {
		all = t.messages(all, w, k)
		all = t.sourceInputs(all, w, k)
		all = t.targetInputs(all, w, k)
	}
	all = t.begin(all, w)
	if !w.Revoked && w.begun() > 0 {
		all = t.revoke(all, w)
	}
	return all
}

// messages: targets send theirs, and whatever was sent arrives now, or again. Nobody can count on any of it but on exchange.
func (t Tables) messages(all []step, w world, k int) []step {
	h := w.Hop[k]
	if send, found := t.sends(h); found {
		next := w
		next.Hop[k].Sent |= send.bit
		all = append(all, step{name{"target", k, "sends " + string(send.step), ""}, other, next, nil})
		all = t.exchange(all, w, k, send)
	}
	for _, r := range receipts {
		if h.Sent&r.bit != 0 {
			all = t.source(all, w, k, r.input, other)
		}
	}
	for _, a := range answers {
		if h.Sent&a.bit != 0 && h.Target != "" {
			all = t.target(all, w, k, a.input, a.forced, other)
		}
	}
	return all
}

// sends is the receipt that the target repeats.
func (t Tables) sends(h hop) (receipt, bool) {
	if h.Target != "" {
		for _, r := range receipts {
			if r.step == t.Sends(h.Target, h.Acked) {
				return r, true
			}
		}
	}
	return receipt{}, false
}

// exchange is what a target's repeating comes to in the end: the receipt arrives, and so does its answer.
func (t Tables) exchange(all []step, w world, k int, send receipt) []step {
	next := w
	next.Hop[k].Sent |= send.bit
	arrived := t.source(nil, next, k, send.input, flow)
	next = arrived[len(arrived)-1].next // without a crash
	answered := answer(t.Source(w.Hop[k].Source, send.input, w.Hop[k].TimeUp))
	for _, a := range answers {
		if a.bit == answered {
			arrived = t.target(nil, next, k, a.input, a.forced, flow)
			next = arrived[len(arrived)-1].next
		}
	}
	return append(all, step{name{"target", k, "sends " + string(send.step) + " until it is answered", ""}, flow, next, nil})
}

// sourceInputs are those that are no messages. Operators reach only the row's latest handover.
func (t Tables) sourceInputs(all []step, w world, k int) []step {
	if !w.Hop[k].TimeUp {
		next := w
		next.Hop[k].TimeUp = true
		all = append(all, step{name{"token", k, "expires", ""}, flow, next, nil})
	} else {
		all = t.source(all, w, k, handover.TimeUp, flow)
	}
	if later := w.begun() > k+1; later && w.fromHome(k) == w.fromHome(k+1) {
		return all
	}
	for _, in := range []handover.SourceInput{handover.DoCancel, handover.DoForce, handover.LeafRotated} {
		all = t.source(all, w, k, in, other)
	}
	return all
}

func (t Tables) targetInputs(all []step, w world, k int) []step {
	h := w.Hop[k]
	if h.Target == "" {
		next := w // a target whose clock runs late redeems an expired token, too
		next.Hop[k].Target = handover.AwaitingRelease
		return append(all, step{name{"target", k, "redeems", ""}, other, next, nil})
	}
	all = t.target(all, w, k, handover.TooLate, false, flow)
	all = t.target(all, w, k, handover.DoGiveUp, false, other)
	all = t.target(all, w, k, handover.RedeemedAgain, false, other)
	if !h.Stale {
		all = t.target(all, w, k, handover.AgentCame, false, agent)
	}
	return all
}

// begin starts another handover, from the side that serves the agent.
func (t Tables) begin(all []step, w world) []step {
	n := w.begun()
	if n == t.Handovers || w.Revoked {
		return all
	}
	if w.home() && !w.Hop[0].Source.Open() {
		next := w
		next.Hop[n] = hop{Source: handover.Pending}
		all = append(all, step{name{"home", n, "begins a handover", ""}, other, next, nil})
	}
	if w.Hop[0].Target == handover.Active {
		next := w
		next.Hop[n], next.Back = hop{Source: handover.Pending}, true
		all = append(all, step{name{"away", n, "begins a handover home", ""}, other, next, nil})
	}
	return all
}

// revoke revokes the agent at home, in whatever its last handover from there is.
func (t Tables) revoke(all []step, w world) []step {
	k := w.begun() - 1
	if w.Back {
		k = 0
	}
	h := w.Hop[k]
	s := t.Source(h.Source, handover.AgentRevoked, h.TimeUp)
	next := w
	next.Revoked = true
	for i := range next.Hop {
		if w.fromHome(i) && neverReleased(w.Hop[i].Source) {
			next.Hop[i].Dead = true
		}
	}
	next.Hop[k].Source = s.Next
	return append(all, step{name{"home", k, "revokes the agent", ""}, other, next, sourceRules(w, k, handover.AgentRevoked, s)})
}

// neverReleased are the states that only lead on from handover_pending.
func neverReleased(s handover.SourceState) bool {
	switch s {
	case handover.Pending, handover.Cancelled, handover.Expired, handover.Rotated, handover.Revoked:
		return true
	}
	return false
}

// source gives an input to a handover's source: done and answered, done with a crash before the answer, or not done at all,
// which changes nothing.
func (t Tables) source(all []step, w world, k int, in handover.SourceInput, by kind) []step {
	h := w.Hop[k]
	s := t.Source(h.Source, in, h.TimeUp)
	next := w
	to := &next.Hop[k]
	to.Source = s.Next
	if s.Next == handover.Forced {
		to.Forced = true
	}
	if in == handover.LeafRotated && s.Next == h.Source && s.Code != "" && s.Next.Away() {
		return append(all, step{name{"source", k, "refuses another leaf", ""}, by, w, nil})
	}
	if in == handover.LeafRotated {
		for i := range next.Hop {
			next.Hop[i].Stale = next.Hop[i].Stale || next.Hop[i].Source != "" && w.fromHome(i) == w.fromHome(k)
		}
	}
	done := name{"source", k, string(in), ""}
	err := sourceRules(w, k, in, s)
	crashed := next
	if to.Sent |= answer(s); to.Sent != h.Sent {
		all = append(all, step{done.crashing("before the answer"), other, crashed, err})
	}
	all = append(all, step{done.crashing("before the Put"), other, w, nil})
	return append(all, step{done, by, next, err})
}

// answer is the message that a source's step sends.
func answer(s handover.SourceStep) message {
	switch {
	case s.Answer == handover.StepReleased:
		return released
	case s.Answer == handover.StepRefused && s.Code == apitype.HandoverForced:
		return refusedForced
	case s.Answer == handover.StepRefused:
		return refused
	case s.Answer == handover.StepCompleted:
		return completed
	case s.Answer == handover.StepReturned:
		return returned
	}
	return 0
}

// target gives an input to a handover's target. It says nothing by itself: what it sends follows from its state.
func (t Tables) target(all []step, w world, k int, in handover.TargetInput, forced bool, by kind) []step {
	h := w.Hop[k]
	s := t.Target(h.Target, in, h.Acked, forced)
	next := w
	to := &next.Hop[k]
	to.Target, to.Acked = s.Next, s.Acked
	if s.Next == handover.Active {
		to.Came = true
	}
	done := name{"target", k, string(in), ""}
	all = append(all, step{done.crashing("before the Put"), other, w, nil})
	return append(all, step{done, by, next, t.targetRules(w, k, in, forced, s)})
}
