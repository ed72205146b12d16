package handover

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/fleet"
	"golang.org/x/sync/errgroup"
)

// TestMovesSurviveCrashes kills every part of two regions while agents move to and fro between them: afterwards each agent is
// active on exactly one side, with a certificate of that side.
func TestMovesSurviveCrashes(t *testing.T) {
	all := regions(t, options{}, "north", "south")
	becomePeers(all)
	north, south := all[0], all[1]
	t.Run("the target's edges are away after the token was redeemed", func(t *testing.T) { targetAway(t, withinAll(t, all)) })

	var shuttles []*shuttle
	for _, scheme := range []string{"wss", "https", "wss"} {
		a := north.agent(scheme)
		shuttles = append(shuttles, &shuttle{here: north, there: south, id: a.id})
	}
	over := make(chan struct{})
	var moves errgroup.Group
	for _, s := range shuttles {
		moves.Go(func() error { return s.run(t.Context(), over) })
	}
	for _, h := range harms(all) {
		before := movesOf(shuttles)
		h.do(t)
		north.eventually("an agent has moved after "+h.name, func() bool { return movesOf(shuttles) > before || t.Failed() })
	}
	close(over)
	must(t, moves.Wait())
	t.Logf("%d moves", movesOf(shuttles))
	for _, s := range shuttles {
		s.here.awaitSettled(s.id)
		if s.left == "" {
			continue
		}
		if row := s.there.row(s.left); row.State != apitype.AgentStateMoved {
			t.Errorf("agent %s is active in %s, and in %s it is %s", s.id, s.here.name, s.there.name, row.State)
		}
	}
}

// harm is something that is killed and comes back.
type harm struct {
	name string
	do   func(*testing.T)
}

func harms(all []*region) (list []harm) {
	for _, r := range all {
		list = append(list,
			harm{"the plugin of " + r.name + " was killed", func(t *testing.T) {
				must(t, r.vault.KillPlugin(pluginName))
				r.awaitEngine()
			}},
			harm{"Vault of " + r.name + " was killed", func(t *testing.T) {
				r.vault.Kill()
				must(t, r.vault.Restart(t.Context()))
				r.awaitEngine()
			}})
		for _, e := range r.edges {
			list = append(list, harm{"edge " + e.name + " of " + r.name + " was killed", func(*testing.T) {
				e.kill()
				e.start()
				e.awaitReady()
			}})
		}
	}
	return list
}

// awaitEngine waits until the engine answers.
func (r *region) awaitEngine() {
	r.t.Helper()
	r.eventually("the engine of "+r.name+" answers", func() bool {
		_, err := r.engine.Config(r.t.Context())
		return err == nil
	})
}

// shuttle is an agent that is moved to and fro. What is in it may be read once run has ended, and moves at any time.
type shuttle struct {
	here, there *region
	id, left    string // its rows here and there
	moves       atomic.Int64
}

func movesOf(all []*shuttle) (n int64) {
	for _, s := range all {
		n += s.moves.Load()
	}
	return n
}

// run moves the agent until over is closed, and ends with a move that is complete.
func (s *shuttle) run(ctx context.Context, over <-chan struct{}) error {
	for {
		select {
		case <-over:
			return nil
		default:
		}
		if err := s.move(ctx); err != nil {
			return fmt.Errorf("agent %s in %s: %w", s.id, s.here.name, err)
		}
		s.moves.Add(1)
	}
}

// move moves it once, as an operator who repeats what has failed.
func (s *shuttle) move(ctx context.Context) error {
	token, err := again(ctx, func() (*apitype.HandoverToken, error) {
		token, err := s.here.engine.Handover(ctx, s.id, apitype.HandoverRequest{Peer: s.there.name})
		if apitype.CodeOf(err) == apitype.HandoverPending { // an answer was lost, and the token with it
			err = errors.Join(err, s.cancel(ctx))
		}
		return token, err
	})
	if err != nil {
		return err
	}
	in := apitype.HandoverRedeemRequest{Token: token.HandoverToken}
	shown, err := again(ctx, func() (*apitype.HandoverInspection, error) { return s.there.engine.InspectHandover(ctx, in) })
	if err != nil {
		return err
	}
	_, err = again(ctx, func() (*apitype.HandoverRedemption, error) {
		out, err := s.there.engine.RedeemHandover(ctx, in)
		if apitype.CodeOf(err) == apitype.HandoverReplayed { // an answer was lost, and the agent has come
			err = nil
		}
		return out, err
	})
	if err != nil {
		return err
	}
	for r, want := range map[*region][2]string{s.there: {shown.AgentID, apitype.AgentStateActive}, s.here: {s.id, apitype.AgentStateMoved}} {
		_, err := again(ctx, func() (*apitype.Agent, error) {
			row, err := r.engine.Agent(ctx, want[0])
			if err == nil && row.State != want[1] {
				err = fmt.Errorf("in %s it is %s", r.name, row.State)
			}
			return row, err
		})
		if err != nil {
			return err
		}
	}
	s.here, s.there, s.id, s.left = s.there, s.here, shown.AgentID, s.id
	return nil
}

// cancel takes back a handover whose token nobody has.
func (s *shuttle) cancel(ctx context.Context) error {
	list, err := s.here.engine.Handovers(ctx, apitype.Page{})
	if err != nil {
		return err
	}
	for id, h := range list.KeyInfo {
		if h.AgentID == s.id && h.Side == apitype.HandoverSource && h.State == apitype.AgentStateHandoverPending {
			return s.here.engine.EndHandover(ctx, id)
		}
	}
	return nil
}

// again repeats f until it succeeds, or patience is over.
func again[T any](ctx context.Context, f func() (*T, error)) (*T, error) {
	for end := time.Now().Add(2 * patience); ; {
		out, err := f()
		if err == nil || time.Now().After(end) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// targetAway has nobody to carry receipts for a while: the agent goes on at the source, and moves when they are back.
func targetAway(t *testing.T, all []*region) {
	north, south := all[0], all[1]
	a := north.agent("wss")
	for _, e := range south.edges {
		e.stop()
	}
	token := north.handOver(a.id, south)
	out := south.redeem(token)
	if out.State != apitype.AgentStateAwaitingRelease || out.Receipt == "" {
		t.Errorf("redeemed: %s", asJSON(out))
	}
	if row := north.row(a.id); row.State != apitype.AgentStateHandoverPending {
		t.Errorf("at the source it is %s", row.State)
	}
	for _, e := range south.edges {
		e.start()
	}
	south.awaitState(out.AgentID, apitype.AgentStateActive)
	north.awaitState(a.id, apitype.AgentStateMoved)
}

// cannotGetThere sends agents off to where they cannot connect, which the source's edges tell of in their logs; the target gives
// them up, and they stay what they were.
func cannotGetThere(t *testing.T, all []*region) {
	north := all[0]
	for name, c := range map[string]struct {
		to    *region
		field string
		value string
		says  string
	}{
		"by a wrong endpoint": {all[1], "endpoint", "wss://" + fleet.FreeAddr(t) + "/v1/opamp", "connection refused"},
		"without its CA":      {all[2], "endpoint_ca_bundle", "@" + filepath.Join(north.dir, "ca.pem"), "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			north, to := north.within(t), c.to.within(t)
			peer, err := north.engine.Peer(t.Context(), to.name)
			must(t, err)
			north.run("vault", "write", "ampora/peers/"+to.name, c.field+"="+c.value)
			defer func() {
				_, err := north.engine.WritePeer(t.Context(), to.name, apitype.PeerRequest{Endpoint: &peer.Endpoint, EndpointCABundle: &peer.EndpointCABundle})
				must(t, err)
			}()
			a := north.agent("wss")
			token := north.handOver(a.id, to)
			out := to.redeem(token)
			north.eventually("an edge tells why the agent cannot go", func() bool {
				return north.logged(`"agent":"`+a.id+`"`, "the agent cannot go to its new home", c.says)
			})
			if h := north.handover(token.HandoverID); h.State != "released" || h.Since == "" {
				t.Errorf("at the source: %s", asJSON(h))
			}
			if h := to.handover(token.HandoverID); h.State != "awaiting_reconnect" || h.Since == "" {
				t.Errorf("at the target: %s", asJSON(h))
			}
			to.run("vault", "delete", "ampora/handovers/"+token.HandoverID)
			north.awaitState(a.id, apitype.AgentStateActive)
			if _, err := to.engine.Agent(t.Context(), out.AgentID); err == nil {
				if row := to.row(out.AgentID); row.State == apitype.AgentStateActive {
					t.Errorf("the row at the target is %s", asJSON(row))
				}
			}
			if h := north.handover(token.HandoverID); h.State != "lapsed_there" && h.Code != string(apitype.HandoverLapsed) {
				t.Errorf("at the source: %s", asJSON(h))
			}
		})
	}
}
