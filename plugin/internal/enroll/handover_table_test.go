package enroll_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// What the two state tables say, cell by cell, is what the engine does: the answer, the state that is stored, the event and the code.

// says is a receipt of one side about the pair's last handover.
func (p *pair) says(from *world, to string, step handover.Step, code apitype.Code) string {
	p.t.Helper()
	compact, _, err := handover.Split(p.token.HandoverToken)
	p.do(err)
	peer, err := from.peers.Get(p.t.Context(), to)
	p.do(err)
	self, err := from.peers.Self(p.t.Context())
	p.do(err)
	text, err := from.peers.Sign(p.t.Context(), peer, handover.TypeReceipt, handover.Receipt{
		Issuer: self, Audience: to, IssuedAt: p.now().Unix(), Step: step, HandoverID: p.token.HandoverID, TokenHash: handover.Hash(compact),
		AgentID: p.agent.AgentID, Code: code,
	})
	p.do(err)
	return text
}

// tells brings a receipt and answers what comes back.
func (p *pair) tells(at *world, text string) (handover.Receipt, error) {
	p.t.Helper()
	var r handover.Receipt
	answer, err := at.Receipt(p.t.Context(), operator, apitype.ReceiptRequest{Receipt: text})
	if err == nil && answer.Receipt != "" {
		err = handover.Unverified(answer.Receipt, handover.TypeReceipt, &r)
	}
	return r, err
}

func (p *pair) end(at *world, force bool) error {
	_, err := at.EndHandover(p.t.Context(), operator, "", p.token.HandoverID, force)
	return err
}

func (p *pair) rotate() error {
	_, err := p.eu.Renew(p.t.Context(), operator, "", p.agent.AgentID, apitype.RenewRequest{Fingerprint: p.agent.Fingerprint, CSR: p.csr})
	return err
}

func (p *pair) revoke() error {
	_, err := p.eu.RevokeAgent(p.t.Context(), operator, "", p.agent.AgentID, "")
	return err
}

// handoverEvents are those of handovers that one side has told.
func (w *world) handoverEvents() map[string]int {
	w.t.Helper()
	all := w.events()
	maps.DeleteFunc(all, func(action string, _ int) bool { return !strings.HasPrefix(action, "Handover.") })
	return all
}

// news is the one event that was told since, "" for none.
func (w *world) news(before map[string]int) (event string) {
	w.t.Helper()
	for action, n := range w.handoverEvents() {
		for range n - before[action] {
			event += action
		}
	}
	return event
}

func (p *pair) state(at *world) string {
	p.t.Helper()
	info, err := at.HandoverInfo(p.t.Context(), "", p.token.HandoverID)
	p.do(err)
	return info.State
}

func TestTheEngineDoesWhatTheTableOfTheSourceSays(t *testing.T) {
	start := newPair(t)
	start.do(start.issue(start.eu, start.agent.AgentID, "west"))
	receipt := func(step handover.Step) func(p *pair) (handover.Receipt, error) {
		return func(p *pair) (handover.Receipt, error) { return p.tells(p.eu, p.says(p.west, "eu", step, "")) }
	}
	silent := func(do func(p *pair) error) func(p *pair) (handover.Receipt, error) {
		return func(p *pair) (handover.Receipt, error) { return handover.Receipt{}, do(p) }
	}
	inputs := map[handover.SourceInput]func(p *pair) (handover.Receipt, error){
		handover.GotRedeemed: receipt(handover.StepRedeemed), handover.GotConnected: receipt(handover.StepConnected), handover.GotLapsed: receipt(handover.StepLapsed),
		handover.DoCancel:     silent(func(p *pair) error { return p.end(p.eu, false) }),
		handover.DoForce:      silent(func(p *pair) error { return p.end(p.eu, true) }),
		handover.LeafRotated:  silent((*pair).rotate),
		handover.AgentRevoked: silent((*pair).revoke),
		handover.TimeUp: silent(func(p *pair) error {
			*p.clock += 2 * time.Hour
			return p.eu.TendHandovers(p.t.Context())
		}),
	}
	way := map[handover.SourceState][]handover.SourceInput{
		handover.Pending: nil, handover.Released: {handover.GotRedeemed}, handover.Moved: {handover.GotRedeemed, handover.GotConnected},
		handover.Cancelled: {handover.DoCancel}, handover.Expired: {handover.TimeUp}, handover.Rotated: {handover.LeafRotated},
		handover.Revoked: {handover.AgentRevoked}, handover.LapsedThere: {handover.GotLapsed}, handover.Forced: {handover.GotRedeemed, handover.DoForce},
	}
	for _, state := range handover.SourceStates() {
		for _, in := range handover.SourceInputs() {
			for _, timeUp := range []bool{false, true} {
				p := start.again()
				for _, step := range way[state] {
					_, err := inputs[step](p)
					p.do(err)
				}
				if timeUp {
					*p.clock += 2 * time.Hour
				}
				want := state.On(in, timeUp || in == handover.TimeUp)
				before := p.eu.handoverEvents()
				answer, err := inputs[in](p)
				cell := string(state) + ", " + string(in)
				code := apitype.CodeOf(err)
				switch {
				case want.Answer != "" && (answer.Step != want.Answer || answer.Code != want.Code || err != nil):
					t.Errorf("%s: answered %s %s, %v instead of %s %s", cell, answer.Step, answer.Code, err, want.Answer, want.Code)
				case (in == handover.DoCancel || in == handover.DoForce) && state == handover.Pending && timeUp: // it was over before
					if code != apitype.HandoverExpired {
						t.Errorf("%s after its time: %v", cell, err)
					}
					continue
				case state == handover.Pending && timeUp && in != handover.GotRedeemed && in != handover.GotConnected:
					continue // whoever came first has ended it
				case (in == handover.DoCancel || in == handover.DoForce || in == handover.LeafRotated && state.Away()) && code != want.Code:
					t.Errorf("%s: %v instead of %s", cell, err, want.Code)
				}
				if got := p.state(p.eu); got != string(want.Next) {
					t.Errorf("%s: %s instead of %s", cell, got, want.Next)
				}
				if got := p.eu.news(before); got != want.Event {
					t.Errorf("%s: told %q instead of %q", cell, got, want.Event)
				}
				p.restart(&p.eu)
				if got := p.state(p.eu); got != string(want.Next) {
					t.Errorf("%s: after a restart %s instead of %s", cell, got, want.Next)
				}
			}
		}
	}
}

func TestTheEngineDoesWhatTheTableOfTheTargetSays(t *testing.T) {
	start := newPair(t)
	start.do(start.issue(start.eu, start.agent.AgentID, "west"), start.take(start.west))
	receipt := func(step handover.Step, code apitype.Code) func(p *pair) error {
		return func(p *pair) error {
			_, err := p.tells(p.west, p.says(p.eu, "west", step, code))
			return err
		}
	}
	refuse := receipt(handover.StepRefused, apitype.HandoverCancelled)
	inputs := map[handover.TargetInput]func(p *pair) error{
		handover.GotReleased: receipt(handover.StepReleased, ""), handover.GotRefused: refuse,
		handover.GotCompleted: receipt(handover.StepCompleted, ""), handover.GotReturned: receipt(handover.StepReturned, ""),
		handover.AgentCame: func(p *pair) error { _ = p.comes(p.west, p.there); return nil },
		handover.DoGiveUp:  func(p *pair) error { return p.end(p.west, false) },
		handover.TooLate: func(p *pair) error {
			*p.clock += 25 * time.Hour
			return p.west.TendHandovers(p.t.Context())
		},
		handover.RedeemedAgain: func(p *pair) error { return p.take(p.west) },
	}
	release, came := inputs[handover.GotReleased], inputs[handover.AgentCame]
	for _, c := range []struct {
		state handover.TargetState
		acked bool
		way   []func(p *pair) error
	}{
		{handover.AwaitingRelease, false, nil},
		{handover.AwaitingReconnect, false, []func(*pair) error{release}},
		{handover.Active, false, []func(*pair) error{release, came}},
		{handover.Active, true, []func(*pair) error{release, came, inputs[handover.GotCompleted]}},
		{handover.Lapsed, false, []func(*pair) error{inputs[handover.DoGiveUp]}},
		{handover.Lapsed, true, []func(*pair) error{inputs[handover.DoGiveUp], inputs[handover.GotReturned]}},
		{handover.Rejected, true, []func(*pair) error{refuse}},
	} {
		for _, in := range handover.TargetInputs() {
			for _, forced := range []bool{false, true} {
				p := start.again()
				for _, step := range c.way {
					p.do(step(p))
				}
				want := c.state.On(in, c.acked, forced)
				do := inputs[in]
				if forced && in == handover.GotRefused {
					do = receipt(handover.StepRefused, apitype.HandoverForced)
				}
				before := p.west.handoverEvents()
				err := do(p)
				cell := string(c.state) + ", " + string(in)
				if code := apitype.CodeOf(err); (in == handover.DoGiveUp || in == handover.RedeemedAgain) && code != want.Code || in != handover.DoGiveUp && in != handover.RedeemedAgain && err != nil {
					t.Errorf("%s: %v instead of %q", cell, err, want.Code)
				}
				for range 2 { // as memory has it, and as storage does
					if got := p.state(p.west); got != string(want.Next) {
						t.Errorf("%s: %s instead of %s", cell, got, want.Next)
					}
					if got := p.west.news(before); got != want.Event {
						t.Errorf("%s: told %q instead of %q", cell, got, want.Event)
					}
					sends := string(want.Next.Sends(want.Acked))
					if got := len(p.waiting(p.west)); got != min(len(sends), 1) {
						t.Errorf("%s: %d receipts wait, and %q is to be sent", cell, got, sends)
					}
					p.restart(&p.west)
				}
			}
		}
	}
}
