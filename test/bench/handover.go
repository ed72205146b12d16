package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/handoverfile"
)

// steps of a move, as the time is told of them: each from the end of the one before, the first from the answer to the redemption.
var steps = []struct{ key, what string }{
	{"released", "  redeemed, until the source has released it"},
	{"offered", "  until the agent has read the offer of its new home"},
	{"connected", "  until it is active at the target"},
	{"completed", "  until the source knows"},
}

// measureHandover moves agents between two Vaults of its own, each with an edge, one agent after the other.
func (b *bench) measureHandover(ctx context.Context) (err error) {
	b.say("two more Vaults with an edge each; %d agents move from one to the other", b.moves)
	pair, err := handoverfile.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pair.Stop()) }()
	log, err := os.Create(b.file(logFile))
	if err != nil {
		return err
	}
	defer func() { err = b.explain(ctx, log, err) }()
	var edges []*server
	defer func() {
		for _, e := range edges {
			e.end()
		}
	}()
	for _, side := range []*handoverfile.Side{pair.Source, pair.Target} {
		e, err := b.startEdgeOf(ctx, log, side)
		if err != nil {
			return err
		}
		edges = append(edges, e)
	}
	if err := pair.Meet(ctx); err != nil {
		return err
	}
	bundle, err := pair.Source.CABundle(ctx)
	if err != nil {
		return err
	}
	took := map[string][]float64{}
	var all []*traveller
	defer func() {
		for _, t := range all {
			t.leave()
		}
	}()
	for range b.moves {
		t, err := newTraveller(ctx, pair.Source.Client, edges[0].url, bundle.Bundle)
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	for _, t := range all {
		if err := b.moveOne(ctx, pair, t, took); err != nil {
			return err
		}
	}
	active := took["active"]
	one := func(key, what string, v float64) {
		b.report.add(key, figures{What: what, Unit: "s", Ours: []float64{v}})
	}
	one("handover-half", fmt.Sprintf("handover of %d agents, confirm to active on the target: half of them", b.moves), quantile(active, 0.5))
	one("handover-p99", "  99 of 100", quantile(active, 0.99))
	one("handover-max", "  all", quantile(active, 1))
	for _, s := range steps {
		one("handover-"+s.key+"-half", s.what+": half of them", quantile(took[s.key], 0.5))
		one("handover-"+s.key+"-p99", s.what+": 99 of 100", quantile(took[s.key], 0.99))
	}
	return nil
}

// startEdgeOf starts the edge of a side, where the side's configuration says that it is.
func (b *bench) startEdgeOf(ctx context.Context, log *os.File, side *handoverfile.Side) (*server, error) {
	listen, admin, err := freeAddresses()
	if err != nil {
		return nil, err
	}
	err = side.UpdateConfig(ctx, map[string]any{
		"endpoint": "wss://" + listen + "/v1/opamp", "federation_url": "https://" + listen + "/federation",
	})
	if err != nil {
		return nil, err
	}
	return b.startEdge(ctx, log, edgeOptions{
		name: side.Name, vault: side.Vault.Addr, token: side.Vault.RootToken, at: &server{base: "https://" + listen, admin: admin},
	})
}

// moveOne moves an agent, and notes what each step took.
func (b *bench) moveOne(ctx context.Context, pair *handoverfile.Pair, t *traveller, took map[string][]float64) error {
	var token *apitype.HandoverToken
	// The source knows what the agent accepts once its first report has come.
	_, err := b.within(ctx, travelTime, func() (bool, error) {
		row, err := pair.Source.Agent(ctx, t.id)
		return err == nil && row.LastSeen != "", err
	})
	if err != nil {
		return err
	}
	if token, err = pair.Source.Handover(ctx, t.id, apitype.HandoverRequest{Peer: pair.Target.Name}); err != nil {
		return err
	}
	if _, err := pair.Target.RedeemHandover(ctx, apitype.HandoverRedeemRequest{Token: token.HandoverToken}); err != nil {
		return err
	}
	confirmed := time.Now()
	var source, target map[string]time.Time
	done, err := b.within(ctx, travelTime, func() (bool, error) {
		var err error
		if source, err = happened(ctx, pair.Source, token.HandoverID); err != nil {
			return false, err
		}
		return !source[apitype.ActionHandoverCompleted].IsZero(), nil
	})
	if err != nil {
		return err
	}
	if !done {
		return fmt.Errorf("agent %s has not moved within %v: %v", t.id, travelTime, source)
	}
	if target, err = happened(ctx, pair.Target, token.HandoverID); err != nil {
		return err
	}
	offered, read := <-t.taken
	if !read {
		return fmt.Errorf("agent %s has moved without an offer: %w", t.id, t.err)
	}
	note := func(key string, from, to time.Time) { took[key] = append(took[key], max(0, to.Sub(from).Seconds())) }
	released, connected := source[apitype.ActionHandoverReleased], target[apitype.ActionHandoverConnected]
	note("released", confirmed, released)
	note("offered", released, offered)
	note("connected", offered, connected)
	note("completed", connected, source[apitype.ActionHandoverCompleted])
	note("active", confirmed, connected)
	return nil
}

// happened is when a side did what, of one handover.
func happened(ctx context.Context, side *handoverfile.Side, id string) (map[string]time.Time, error) {
	page, err := side.Events(ctx, apitype.EventsRequest{EntityID: id, Limit: 100})
	if err != nil {
		return nil, err
	}
	at := map[string]time.Time{}
	for _, e := range page.Events {
		if !strings.HasPrefix(e.Action, "Handover.") {
			continue
		}
		if at[e.Action], err = time.Parse(time.RFC3339, e.Time); err != nil {
			return nil, err
		}
	}
	return at, nil
}
