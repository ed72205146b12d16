package enroll_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/storetest"
)

// moveStep is one transition of a handover, on the side whose storage fails.
type moveStep struct {
	name   string
	at     string // eu or west
	before func(p *pair)
	run    func(p *pair, w *world) error
	events string // that it tells, in alphabetical order
	gone   bool   // nobody is to serve the agent in the end
	due    bool   // whoever looks at the handover takes the step
}

func (p *pair) side(name string) **world {
	if name == "eu" {
		return &p.eu
	}
	return &p.west
}

// keep takes what waits at one side for later.
func (p *pair) keep(at *world) {
	p.t.Helper()
	if p.receipts = p.waiting(at); len(p.receipts) != 1 {
		p.t.Fatalf("%d receipts wait", len(p.receipts))
	}
}

// answerTo carries what waits at one side to the other and keeps the answer.
func (p *pair) answerTo(from, to *world) {
	p.t.Helper()
	p.keep(from)
	answer, err := to.Receipt(p.t.Context(), operator, apitype.ReceiptRequest{Receipt: p.receipts[0]})
	to.must(err)
	p.receipts = []string{answer.Receipt}
}

func moveSteps() []moveStep {
	tell := func(p *pair, w *world) error {
		_, err := w.Receipt(p.t.Context(), operator, apitype.ReceiptRequest{Receipt: p.receipts[0]})
		return err
	}
	end := func(force bool) func(*pair, *world) error {
		return func(p *pair, w *world) error {
			_, err := w.EndHandover(p.t.Context(), operator, "", p.token.HandoverID, force)
			return err
		}
	}
	tend := func(p *pair, w *world) error { return w.TendHandovers(p.t.Context()) }
	out := func(p *pair) { p.do(p.issue(p.eu, p.agent.AgentID, "west")) }
	taken := func(p *pair) { out(p); p.do(p.take(p.west)) }
	released := func(p *pair) { p.released() }
	came := func(p *pair) { released(p); p.do(p.comes(p.west, p.there)) }
	home := func(p *pair) { p.homeward(); p.do(p.take(p.eu), p.carry(p.eu, p.west)) }
	cancel := func(p *pair) {
		_, err := p.eu.EndHandover(p.t.Context(), operator, "", p.token.HandoverID, false)
		p.do(err)
	}
	giveUp := func(p *pair) {
		_, err := p.west.EndHandover(p.t.Context(), operator, "", p.token.HandoverID, false)
		p.do(err)
	}
	force := func(p *pair) {
		_, err := p.eu.EndHandover(p.t.Context(), operator, "", p.token.HandoverID, true)
		p.do(err)
	}
	revoke := func(id func(*pair) string) func(*pair, *world) error {
		return func(p *pair, w *world) error {
			_, err := w.RevokeAgent(p.t.Context(), operator, "", id(p), "")
			return err
		}
	}
	remove := func(id func(*pair) string) func(*pair, *world) error {
		return func(p *pair, w *world) error { return w.DeleteAgent(p.t.Context(), operator, "", id(p)) }
	}
	own, there := func(p *pair) string { return p.agent.AgentID }, func(p *pair) string { return p.there }
	suspend := func(name string) func(*pair, *world) error {
		return func(p *pair, w *world) error {
			suspended := true
			_, err := w.peers.Write(p.t.Context(), operator, name, apitype.PeerRequest{Suspended: &suspended})
			return err
		}
	}
	later := func(d time.Duration, first func(*pair)) func(*pair) {
		return func(p *pair) { first(p); *p.clock += d }
	}
	issue := func(p *pair, w *world) error { return p.issue(w, p.agent.AgentID, "west") }
	take := func(p *pair, w *world) error { return p.take(w) }
	return []moveStep{
		{name: "issue", at: "eu", run: issue, events: "Handover.Issued"},
		{name: "issue after one that has ended", at: "eu", before: func(p *pair) { out(p); cancel(p) }, run: issue, events: "Handover.Issued"},
		{name: "told of a redemption", at: "eu", before: func(p *pair) { taken(p); p.keep(p.west) }, run: tell, events: "Handover.Released"},
		{name: "told of an arrival", at: "eu", before: func(p *pair) { came(p); p.keep(p.west) }, run: tell, events: "Handover.Completed"},
		{name: "told early that it is given up", at: "eu", before: func(p *pair) { taken(p); giveUp(p); p.keep(p.west) }, run: tell, events: "Handover.Lapsed"},
		{name: "told late that it is given up", at: "eu", before: func(p *pair) { released(p); giveUp(p); p.keep(p.west) }, run: tell, events: "Handover.Lapsed"},
		{name: "cancel", at: "eu", before: taken, run: end(false), events: "Handover.Cancelled"},
		{name: "force", at: "eu", before: released, run: end(true), events: "Handover.Forced"},
		{name: "time is up", due: true, at: "eu", before: later(2*time.Hour, taken), run: tend, events: "Handover.Expired"},
		{name: "rotation", at: "eu", before: taken, events: "Certificate.Renewed Handover.Rejected", run: func(p *pair, w *world) error {
			_, err := w.Renew(p.t.Context(), operator, "", p.agent.AgentID, apitype.RenewRequest{Fingerprint: p.agent.Fingerprint, CSR: p.csr})
			return err
		}},
		{name: "revocation", at: "eu", before: taken, run: revoke(own), events: "Certificate.Revoked Handover.Rejected", gone: true},
		{name: "revocation of many", at: "eu", before: taken, events: "Certificate.Revoked Handover.Rejected", gone: true, run: func(p *pair, w *world) error {
			_, err := w.RevokeAgents(p.t.Context(), operator, "", apitype.RevokeAgentsRequest{AgentIDs: []string{p.agent.AgentID}})
			return err
		}},
		{name: "deletion while a token is out", at: "eu", before: taken, run: remove(own), events: "Agent.Deleted Certificate.Revoked Handover.Rejected", gone: true},
		{name: "deletion of a moved agent", at: "eu", before: func(p *pair) { p.arrived() }, run: remove(own), events: "Agent.Deleted Certificate.Revoked"},
		{name: "suspending the target", at: "eu", before: taken, run: suspend("west"), events: "Handover.Cancelled Peer.Suspended"},

		{name: "redeem", at: "west", before: out, run: take, events: "Handover.Redeemed"},
		{name: "redeem at home", at: "eu", before: func(p *pair) { p.homeward() }, run: take, events: "Handover.Redeemed"},
		{name: "redeem at home after one that has ended", at: "eu", before: func(p *pair) {
			p.homeward()
			_, err := p.west.EndHandover(p.t.Context(), operator, "", p.token.HandoverID, false)
			p.do(err, p.take(p.eu), p.carry(p.eu, p.west), p.issue(p.west, p.there, "eu"))
		}, run: take, events: "Handover.Redeemed"},
		{name: "answered: released", at: "west", before: func(p *pair) { taken(p); p.answerTo(p.west, p.eu) }, run: tell, events: "Handover.Released"},
		{name: "answered: refused", at: "west", before: func(p *pair) { taken(p); cancel(p); p.answerTo(p.west, p.eu) }, run: tell, events: "Handover.Rejected"},
		{name: "answered: completed", at: "west", before: func(p *pair) { came(p); p.answerTo(p.west, p.eu) }, run: tell},
		{name: "answered: returned", at: "west", before: func(p *pair) { released(p); giveUp(p); p.answerTo(p.west, p.eu) }, run: tell},
		{name: "answered: taken back by force", at: "west", before: func(p *pair) { came(p); force(p); p.answerTo(p.west, p.eu) }, run: tell, events: "Handover.Rejected"},
		{name: "answered: taken back by force, with a leaf given here", at: "west", before: func(p *pair) {
			came(p)
			p.do(p.settles(p.west, p.there))
			force(p)
			p.answerTo(p.west, p.eu)
		}, run: tell, events: "Handover.Rejected"},
		{name: "answered at home: taken back by force", at: "eu", before: func(p *pair) {
			home(p)
			p.do(p.comes(p.eu, p.agent.AgentID))
			_, err := p.west.EndHandover(p.t.Context(), operator, "", p.token.HandoverID, true)
			p.do(err)
			p.answerTo(p.eu, p.west)
		}, run: tell, events: "Handover.Rejected"},
		{name: "the agent comes", at: "west", before: released, run: func(p *pair, w *world) error { return p.comes(w, p.there) }, events: "Handover.Connected"},
		{name: "the agent comes home", at: "eu", before: home, run: func(p *pair, w *world) error { return p.comes(w, p.agent.AgentID) }, events: "Handover.Connected"},
		{name: "give up before the release", at: "west", before: taken, run: end(false), events: "Handover.Lapsed"},
		{name: "give up after the release", at: "west", before: released, run: end(false), events: "Handover.Lapsed"},
		{name: "too late", due: true, at: "west", before: later(25*time.Hour, released), run: tend, events: "Handover.Lapsed"},
		{name: "too late at home", due: true, at: "eu", before: later(25*time.Hour, home), run: tend, events: "Handover.Lapsed"},
		{name: "revocation of one that is to come", at: "west", before: released, run: revoke(there), events: "Certificate.Revoked Handover.Lapsed"},
		{name: "revocation of one that has come", at: "west", before: came, run: revoke(there), events: "Certificate.Revoked", gone: true},
		{name: "deletion of one that has come", at: "west", before: func(p *pair) { p.arrived() }, run: remove(there), events: "Agent.Deleted Certificate.Revoked", gone: true},
		{name: "a leaf of its own", at: "west", before: came, events: "Certificate.Renewed", run: func(p *pair, w *world) error {
			a, err := w.Agent(p.t.Context(), "", p.there)
			if err == nil {
				_, err = w.Renew(p.t.Context(), operator, "", p.there, apitype.RenewRequest{Fingerprint: a.Fingerprint})
			}
			return err
		}},
		{name: "the leaf of its own is confirmed", at: "west", before: func(p *pair) {
			came(p)
			a, err := p.west.Agent(p.t.Context(), "", p.there)
			p.do(err)
			next, err := p.west.Renew(p.t.Context(), operator, "", p.there, apitype.RenewRequest{Fingerprint: a.Fingerprint})
			p.do(err)
			p.agent.SerialNumber, p.agent.Fingerprint = next.SerialNumber, next.Fingerprint
		}, events: "Certificate.Revoked", run: func(p *pair, w *world) error {
			_, err := w.Seen(p.t.Context(), operator, "", "edge", apitype.SessionReport{AgentID: p.there, SerialNumber: p.agent.SerialNumber, Applied: p.agent.Fingerprint})
			return err
		}},
		{name: "another leaf than the token names", at: "west", before: released, events: "Handover.Rejected", run: func(p *pair, w *world) error {
			return w.Mismatch(p.t.Context(), operator, "", apitype.Mismatch{AgentID: p.there, Fingerprint: strings.Repeat("ab", 32)})
		}},
		{name: "suspending the source", at: "west", before: taken, run: suspend("eu"), events: "Handover.Lapsed Peer.Suspended"},
	}
}

// Every transition of a handover, on both sides, with a fault at its n-th storage operation for every n. Afterwards it has happened,
// with each event told once, or not at all, and asked again it happens; what the feed tells is what storage says; nothing leads
// nowhere; and when both sides have had their say the agent is active on exactly one of them.
func TestEveryStepOfAHandoverSurvivesAFaultAtEveryStorageOperation(t *testing.T) {
	for _, step := range moveSteps() {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			start := newPair(t)
			if step.before != nil {
				step.before(start)
			}
			f := &movesFaults{T: t, step: step, start: start}
			f.reference()
			for _, mode := range []int{storetest.Refuse, storetest.Apply} {
				for _, length := range []int{1, 2, storetest.Dead} {
					n := 1
					for f.at(n, mode, length) {
						n++
					}
					if n < 3 {
						t.Fatalf("only %d operations seen", n-1)
					}
				}
			}
		})
	}
}

// movesFaults runs one step again and again.
type movesFaults struct {
	*testing.T
	step          moveStep
	start         *pair
	before, after string // what can be seen
	counts        map[string]int
}

// reference runs the step without a fault.
func (f *movesFaults) reference() {
	f.Helper()
	p := f.start.again()
	w := *p.side(f.step.at)
	w.recover()
	f.counts = w.events()
	if !f.step.due {
		f.before = w.view()
	}
	if err := f.step.run(p, w); err != nil {
		f.Fatalf("without a fault: %v", err)
	}
	f.after = w.view()
	f.told(w, true)
}

// told holds the events against those of the start.
func (f *movesFaults) told(w *world, happened bool) {
	f.Helper()
	want := maps.Clone(f.counts)
	if happened {
		for _, action := range strings.Fields(f.step.events) {
			want[action]++
		}
	}
	if got := w.events(); !maps.Equal(got, want) {
		f.Fatalf("happened %v, and the events are %v instead of %v", happened, got, want)
	}
}

// at runs the step with a fault at operation n, and reports whether it came that far.
func (f *movesFaults) at(n, mode, length int) bool {
	f.Helper()
	defer func() {
		if f.Failed() {
			f.Logf("operation %d, applied %v, %d failing", n, mode == storetest.Apply, length)
		}
	}()
	p := f.start.again()
	w := p.side(f.step.at)
	if n%2 == 0 { // half the runs meet a process that has everything in memory
		(*w).recover()
		_, err := (*w).Outbox(f.Context())
		(*w).must(err)
		(*w).placed()
	}
	(*w).storage.Arm(n, mode, length)
	err := f.step.run(p, *w)
	fired := (*w).storage.Disarm()
	if !fired && err != nil {
		f.Fatalf("without a fault: %v", err)
	}
	if length == storetest.Dead {
		p.restart(w)
	} else {
		(*w).recover()
	}
	seen := (*w).view()
	if seen != f.after && seen != f.before || err == nil && seen != f.after {
		f.Fatalf("answered %v and left\n%s\ninstead of\n%s\nor\n%s", err, seen, f.after, f.before)
	}
	happened := err == nil || f.step.due || f.happened(*w, seen)
	f.told(*w, happened)
	if !happened {
		if err := f.step.run(p, *w); err != nil {
			f.Fatalf("asked again: %v", err)
		}
		if seen := (*w).view(); seen != f.after {
			f.Fatalf("asked again it left\n%s\ninstead of\n%s", seen, f.after)
		}
	}
	p.restart(w) // and a process that starts now tells nothing twice
	if seen := (*w).view(); seen != f.after {
		f.Fatalf("after a restart\n%s\ninstead of\n%s", seen, f.after)
	}
	f.told(*w, true)
	(*w).orphans()
	f.end(p)
	return fired
}

// happened tells from what can be seen, and from the events where that is no difference.
func (f *movesFaults) happened(w *world, seen string) bool {
	if f.before != f.after {
		return seen == f.after
	}
	return !maps.Equal(w.events(), f.counts)
}

// end lets both sides have their say.
func (f *movesFaults) end(p *pair) {
	f.Helper()
	p.reconcile()
	p.calm()
	serving := 0
	for _, w := range []*world{p.eu, p.west} {
		if w.serves() {
			serving++
		}
	}
	if want := map[bool]int{false: 1, true: 0}[f.step.gone]; serving != want {
		f.Fatalf("%d sides serve the agent in the end instead of %d\neu:\n%s\nwest:\n%s", serving, want, p.eu.view(), p.west.view())
	}
}
