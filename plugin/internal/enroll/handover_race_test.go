package enroll_test

import (
	"sync"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// atOnce does all of it at the same time, and answers what came of each.
func atOnce(all ...func() error) []error {
	errs := make([]error, len(all))
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for n, do := range all {
		wg.Go(func() {
			<-begin
			errs[n] = do()
		})
	}
	close(begin)
	wg.Wait()
	return errs
}

// onOneSide lets both sides have their say, and wants the agent on one of them.
func (p *pair) onOneSide() {
	p.t.Helper()
	p.reconcile()
	p.calm()
	if p.eu.serves() == p.west.serves() {
		p.t.Fatalf("eu:\n%s\nwest:\n%s", p.eu.view(), p.west.view())
	}
}

// allowed fails on an error that has none of the codes.
func (p *pair) allowed(errs []error, codes ...apitype.Code) {
	p.t.Helper()
	for _, err := range errs {
		ok := err == nil
		for _, code := range codes {
			ok = ok || apitype.CodeOf(err) == code
		}
		if !ok {
			p.t.Fatalf("unexpected: %v", err)
		}
	}
}

func TestOneHandoverTokenRedeemed20TimesAtOnceMakesOneRow(t *testing.T) {
	p := newPair(t)
	p.do(p.issue(p.eu, p.agent.AgentID, "west"))
	var all []func() error
	var mu sync.Mutex
	ids := map[string]bool{}
	for range 20 {
		all = append(all, func() error {
			taken, err := p.west.RedeemHandover(t.Context(), operator, "", apitype.HandoverRedeemRequest{Token: p.token.HandoverToken})
			mu.Lock()
			defer mu.Unlock()
			ids[taken.AgentID] = true
			return err
		})
	}
	p.allowed(atOnce(all...))
	if n := p.west.events()[apitype.ActionHandoverRedeemed]; n != 1 || len(ids) != 1 {
		t.Fatalf("%d events, rows %v", n, ids)
	}
	for id := range ids {
		p.there = id
	}
	p.onOneSide()
}

// What is asked at the same time happens in one order or the other, without a deadlock, and the agent ends on one side.
func TestHandoversUnderConcurrency(t *testing.T) {
	start := newPair(t)
	for name, run := range map[string]func(p *pair){
		"cancelling while the target redeems": func(p *pair) {
			p.do(p.issue(p.eu, p.agent.AgentID, "west"), p.take(p.west))
			errs := atOnce(func() error { return p.carry(p.west, p.eu) }, func() error {
				_, err := p.eu.EndHandover(t.Context(), operator, "", p.token.HandoverID, false)
				return err
			})
			p.allowed(errs, apitype.HandoverPending)
		},
		"giving up while the agent comes": func(p *pair) {
			p.released()
			errs := atOnce(func() error { _ = p.comes(p.west, p.there); return nil }, func() error {
				_, err := p.west.EndHandover(t.Context(), operator, "", p.token.HandoverID, false)
				return err
			}, func() error { return p.carry(p.west, p.eu) })
			p.allowed(errs, apitype.HandoverFinished)
		},
		"suspending the target while a token is made": func(p *pair) {
			suspended := true
			errs := atOnce(func() error { return p.issue(p.eu, p.agent.AgentID, "west") }, func() error {
				_, err := p.eu.peers.Write(t.Context(), operator, "west", apitype.PeerRequest{Suspended: &suspended})
				return err
			})
			p.allowed(errs, apitype.PeerSuspended)
			if a, err := p.eu.Agent(t.Context(), "", p.agent.AgentID); err != nil || a.State != apitype.AgentStateActive {
				p.t.Fatalf("%v, a token for a suspended peer is out: %s", err, a.State)
			}
		},
		"suspending the source while its token is redeemed": func(p *pair) {
			p.do(p.issue(p.eu, p.agent.AgentID, "west"))
			suspended := true
			errs := atOnce(func() error { return p.take(p.west) }, func() error {
				_, err := p.west.peers.Write(t.Context(), operator, "eu", apitype.PeerRequest{Suspended: &suspended})
				return err
			})
			p.allowed(errs, apitype.PeerSuspended)
			if all, err := p.west.Agents(t.Context(), "", apitype.Page{}); err != nil || len(all.Keys) != 0 {
				p.t.Fatalf("%v, agents %v of a suspended peer", err, all.Keys)
			}
		},
		"deleting the target while a token is made": func(p *pair) {
			errs := atOnce(func() error { return p.issue(p.eu, p.agent.AgentID, "west") }, func() error { return p.eu.peers.Delete(t.Context(), operator, "west") })
			p.allowed(errs, apitype.PeerUnknown)
			if a, err := p.eu.Agent(t.Context(), "", p.agent.AgentID); err != nil || a.State != apitype.AgentStateActive {
				p.t.Fatalf("%v, a token for a peer that is gone is out: %s", err, a.State)
			}
			p.meet(p.eu, p.west)
		},
		"force while the same receipt comes twice and the agent, too": func(p *pair) {
			p.do(p.issue(p.eu, p.agent.AgentID, "west"), p.take(p.west))
			errs := atOnce(func() error { return p.carry(p.west, p.eu) }, func() error { return p.carry(p.west, p.eu) }, func() error {
				_, err := p.eu.EndHandover(t.Context(), operator, "", p.token.HandoverID, true)
				return err
			}, func() error { _ = p.comes(p.west, p.there); return nil })
			p.allowed(errs, apitype.AgentMoved)
		},
		"many readers of the outbox after a start": func(p *pair) {
			p.do(p.issue(p.eu, p.agent.AgentID, "west"))
			p.west.ForgetHandovers()
			read := func() error { _, err := p.west.Outbox(t.Context()); return err }
			p.allowed(atOnce(read, read, func() error { return p.take(p.west) }, read, read))
			if p.keep(p.west); len(p.receipts) != 1 {
				p.t.Fatal("the outbox has forgotten a receipt")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				p := start.again()
				p.t, p.eu.t, p.west.t = t, t, t
				run(p)
				p.onOneSide()
			}
		})
	}
}
