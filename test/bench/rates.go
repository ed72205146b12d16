package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// operation is one thing that can be done for an applicant.
type operation func(context.Context, *applicant) error

// perSecond does the operation once for each applicant, with so many in flight, and says how many were done in a second.
func perSecond(ctx context.Context, all []*applicant, parallel int, do operation) (float64, error) {
	var next atomic.Int64
	errs := make([]error, parallel)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range parallel {
		wg.Go(func() {
			for ctx.Err() == nil && errs[w] == nil {
				n := int(next.Add(1)) - 1
				if n >= len(all) {
					return
				}
				errs[w] = do(ctx, all[n])
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	return float64(len(all)) / took.Seconds(), errors.Join(append(errs, ctx.Err())...)
}

// contest is two operations that are compared: ours and theirs, in turn.
type contest struct {
	key          string
	what         string
	ours, theirs operation
}

// figures are the rounds of one comparison.
type figures struct {
	What   string    `json:"what"`
	Unit   string    `json:"unit"`
	Ours   []float64 `json:"ours"`
	Theirs []float64 `json:"theirs"`
}

// measureRates runs the rounds. A round does for the same applicants what has to come first, first: a token is issued
// before it is redeemed; who begins changes from round to round.
func (b *bench) measureRates(ctx context.Context) error {
	v := b.vault
	contests := []contest{
		{"issue", "issue a token / secret-id", v.issue, v.newSecretID},
		{"enrol", "enrol an agent: check + redeem / login + pki/sign", v.enrol, v.loginAndSign},
	}
	for _, load := range []struct {
		key            string
		parallel, size int
	}{{"loaded", b.parallel, b.operations}, {"alone", 1, b.alone}} {
		b.say("issuing and enrolling, %d in flight: %d rounds of %d", load.parallel, b.rounds, load.size)
		results, costs, writes := make([]figures, len(contests)), make([]figures, len(contests)), make([]figures, len(contests))
		for round := range b.rounds + 1 { // the first one warms up
			all, err := newApplicants(load.size)
			if err != nil {
				return err
			}
			for i, c := range contests {
				both := []struct {
					do                 operation
					into, cost, writes *[]float64
				}{
					{c.ours, &results[i].Ours, &costs[i].Ours, &writes[i].Ours},
					{c.theirs, &results[i].Theirs, &costs[i].Theirs, &writes[i].Theirs},
				}
				if round%2 == 1 {
					slices.Reverse(both)
				}
				for _, side := range both {
					before, err := v.usage(ctx)
					if err != nil {
						return err
					}
					rate, err := perSecond(ctx, all, load.parallel, side.do)
					if err != nil {
						return fmt.Errorf("%s: %w", c.what, err)
					}
					after, err := v.usage(ctx)
					if err != nil {
						return err
					}
					if n := float64(len(all)); round > 0 {
						*side.into = append(*side.into, rate)
						*side.cost = append(*side.cost, float64(after.processor-before.processor)/float64(time.Millisecond)/n)
						*side.writes = append(*side.writes, float64(after.writes-before.writes)/n)
					}
				}
			}
			if err := b.keep(all); err != nil {
				return err
			}
		}
		for i, c := range contests {
			results[i].What, results[i].Unit = fmt.Sprintf("%s, %d in flight", c.what, load.parallel), "per second"
			b.report.add(c.key+"-"+load.key, results[i])
			costs[i].What, costs[i].Unit = "  processor time of Vault and the engine for one", "ms"
			b.report.add(c.key+"-cost-"+load.key, costs[i])
			writes[i].What, writes[i].Unit = "  storage writes for one", "storage writes"
			b.report.add(c.key+"-writes-"+load.key, writes[i])
		}
	}
	return nil
}

// keep remembers the agents that are now enrolled: they connect later.
func (b *bench) keep(all []*applicant) error {
	for _, a := range all {
		i, err := a.enrolled()
		if err != nil {
			return err
		}
		b.agents = append(b.agents, i)
	}
	return nil
}

// enrolMore enrols agents until there are n.
func (b *bench) enrolMore(ctx context.Context, n int) error {
	if n <= len(b.agents) {
		return nil
	}
	b.say("enrolling %d more agents", n-len(b.agents))
	all, err := newApplicants(n - len(b.agents))
	if err != nil {
		return err
	}
	m, err := b.vault.home(ctx)
	if err != nil {
		return err
	}
	if err := m.give(ctx, all); err != nil {
		return err
	}
	if _, err := perSecond(ctx, all, b.parallel, b.vault.redeem); err != nil {
		return err
	}
	return b.keep(all)
}

// measureWrites counts the entries that operations add to the Raft log, with nothing else going on. What only the first
// operation of a kind writes is not counted.
func (b *bench) measureWrites(ctx context.Context) error {
	b.say("counting storage writes: %d of each operation", b.counted)
	v := b.vault
	all, err := newApplicants(b.counted + 1)
	if err != nil {
		return err
	}
	first, rest := all[:1], all[1:]
	tokens := map[*applicant]string{}
	for _, o := range []struct {
		key, what string
		do        operation
	}{
		{"writes-issue", "tokens/issue", v.issue},
		{"writes-check", "redeem/check", v.check},
		{"writes-redeem", "redeem", v.redeem},
		{"writes-secret-id", "AppRole secret-id", v.newSecretID},
		{"writes-login", "AppRole login, single use", func(ctx context.Context, a *applicant) (err error) { tokens[a], err = v.login(ctx, a); return err }},
		{"writes-sign", "pki/sign, stored", func(ctx context.Context, a *applicant) error { return v.sign(ctx, tokens[a], a) }},
	} {
		if _, err := perSecond(ctx, first, 1, o.do); err != nil {
			return fmt.Errorf("%s: %w", o.what, err)
		}
		before, err := v.server.LastIndex(ctx)
		if err != nil {
			return err
		}
		if _, err := perSecond(ctx, rest, 1, o.do); err != nil {
			return fmt.Errorf("%s: %w", o.what, err)
		}
		after, err := v.server.LastIndex(ctx)
		if err != nil {
			return err
		}
		b.report.add(o.key, figures{What: o.what, Unit: "storage writes", Ours: []float64{float64(after-before) / float64(len(rest))}})
	}
	return b.keep(all)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}
