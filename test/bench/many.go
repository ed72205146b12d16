package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"golang.org/x/sync/errgroup"
)

// measureMany says what it costs to have very many expired tokens and events: beside a mount without any, while the tokens
// are tidied away, and afterwards.
func (b *bench) measureMany(ctx context.Context) error {
	none, err := b.vault.newMount(ctx, "none")
	if err != nil {
		return err
	}
	full, err := b.vault.newMount(ctx, "full")
	if err != nil {
		return err
	}
	if err := b.measureCount(ctx, none); err != nil {
		return err
	}
	last, err := b.fill(ctx, full)
	if err != nil {
		return err
	}
	if _, err := b.compareMany(ctx, "warming up", 1, full, none); err != nil {
		return err
	}
	before, err := b.compareMany(ctx, "%d expired tokens beside none", b.rounds, full, none)
	if err != nil {
		return err
	}
	b.addMany("expired", "at many expired tokens / at none", before)

	// A start of the engine sweeps at once.
	started := time.Now()
	if err := b.vault.server.ReloadPlugin(ctx, pluginName); err != nil {
		return err
	}
	if err := b.measureEvents(ctx, full, started); err != nil {
		return err
	}
	during, err := b.compareMany(ctx, "while %d expired tokens are tidied away", b.rounds, full)
	if err != nil {
		return err
	}
	for key, f := range during {
		f.Theirs = before[key].Ours
		during[key] = f
	}
	b.addMany("sweep", "while they are tidied away / before", during)

	gone := func() (bool, error) {
		_, err := full.Token(ctx, last)
		if apitype.CodeOf(err) == apitype.TokenUnknown {
			return true, nil
		}
		return false, err
	}
	over, err := gone()
	if err != nil {
		return err
	}
	if over {
		b.report.note("The %d expired tokens were gone before the last of the rounds 'while they are tidied away'.", b.expired)
	}
	b.say("waiting until the expired tokens are gone")
	if over, err = b.within(ctx, b.tidyWait, gone); err != nil {
		return err
	}
	if !over {
		b.report.note("The %d expired tokens were not gone %.0f s after a start; nothing was measured afterwards (--tidy-wait).", b.expired, time.Since(started).Seconds())
		return nil
	}
	b.report.note("%d expired tokens, %d of them with a row each, were gone %.0f s after a start, under load for part of that.", b.expired, b.single, time.Since(started).Seconds())
	after, err := b.compareMany(ctx, "after %d expired tokens were tidied away", b.rounds, full, none)
	if err != nil {
		return err
	}
	b.addMany("tidied", "after many were tidied away / at none", after)
	return nil
}

func (b *bench) addMany(prefix, beside string, results map[string]figures) {
	for _, key := range manyOrder {
		f := results[key]
		f.What, f.Unit = fmt.Sprintf("%s, %s", manyWhat[key], beside), "per second"
		b.report.add(prefix+"-"+key, f)
	}
}

var (
	manyOrder = []string{"issue", "enrol", "enrol-batch"}
	manyWhat  = map[string]string{"issue": "issue a token", "enrol": "check + redeem a token of its own", "enrol-batch": "check + redeem one of a batch"}
)

// compareMany has the mounts take turns at issuing and redeeming: the first one's rates are ours, the second one's theirs.
func (b *bench) compareMany(ctx context.Context, what string, rounds int, mounts ...*mount) (map[string]figures, error) {
	if strings.Contains(what, "%d") {
		what = fmt.Sprintf(what, b.expired)
	}
	b.say("%s: %d rounds", what, rounds)
	results := map[string]figures{}
	for round := range rounds {
		turns := slices.Clone(mounts)
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		singles, err := newApplicants(b.operations)
		if err != nil {
			return nil, err
		}
		for _, m := range turns {
			for _, step := range []struct {
				key string
				do  operation
			}{{"issue", m.issue}, {"enrol", m.enrol}, {"enrol-batch", m.enrol}} {
				if step.key == "enrol-batch" {
					if err := m.give(ctx, singles); err != nil {
						return nil, err
					}
				}
				rate, err := perSecond(ctx, singles, b.parallel, step.do)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", what, err)
				}
				f := results[step.key]
				if m == mounts[0] {
					f.Ours = append(f.Ours, rate)
				} else {
					f.Theirs = append(f.Theirs, rate)
				}
				results[step.key] = f
			}
		}
	}
	return results, nil
}

// measureCount compares what issuing costs a token when a request asks for a thousand.
func (b *bench) measureCount(ctx context.Context, m *mount) error {
	b.say("issuing %d tokens with a request: %d rounds", apitype.MaxCount, b.rounds)
	var rates, writes figures
	for round := range b.rounds + 1 { // the first one warms up
		requests, err := newApplicants(b.requests)
		if err != nil {
			return err
		}
		before, err := b.vault.usage(ctx)
		if err != nil {
			return err
		}
		ours, err := perSecond(ctx, requests, min(b.parallel, b.requests), func(ctx context.Context, _ *applicant) error {
			_, err := m.issueMany(ctx, apitype.MaxCount, 0)
			return err
		})
		if err != nil {
			return err
		}
		after, err := b.vault.usage(ctx)
		if err != nil {
			return err
		}
		secrets, err := newApplicants(b.operations)
		if err != nil {
			return err
		}
		theirs, err := perSecond(ctx, secrets, b.parallel, b.vault.newSecretID)
		if err != nil {
			return err
		}
		if round > 0 {
			rates.Ours, rates.Theirs = append(rates.Ours, ours*apitype.MaxCount), append(rates.Theirs, theirs)
			writes.Ours = append(writes.Ours, float64(after.writes-before.writes)/float64(b.requests*apitype.MaxCount))
		}
	}
	rates.What, rates.Unit = fmt.Sprintf("issue a token, %d with a request / secret-id, %d in flight", apitype.MaxCount, b.parallel), "per second"
	b.report.add("issue-count", rates)
	writes.What, writes.Unit = "  storage writes for one", "storage writes"
	b.report.add("writes-issue-count", writes)
	return nil
}

// fill gives a mount its past, and answers the id of the expired token that a sweep comes to last.
func (b *bench) fill(ctx context.Context, m *mount) (last string, err error) {
	p, err := m.past(ctx)
	if err != nil {
		return "", err
	}
	single, err := m.IssueToken(ctx, apitype.TokenIssueRequest{TTL: 1})
	if err != nil {
		return "", err
	}
	like, err := p.read(ctx, "token/"+single.TokenID[:2]+"/"+single.TokenID)
	if err != nil {
		return "", err
	}
	b.say("%d expired tokens, %d of them with a row each", b.expired, b.single)
	for left := b.expired - b.single; left > 0; left -= apitype.MaxCount {
		if _, err := m.issueMany(ctx, max(2, min(left, apitype.MaxCount)), 1); err != nil { // one alone is no batch
			return "", err
		}
	}
	batches, err := p.keys(ctx, "batch/")
	if err != nil {
		return "", err
	}
	for _, key := range batches {
		if err := p.endBatch(ctx, key); err != nil {
			return "", err
		}
	}
	ids := make([]string, b.single)
	if err := inFlight(ctx, len(ids), 4*b.parallel, func(ctx context.Context, n int) (err error) {
		ids[n], err = p.token(ctx, like)
		return err
	}); err != nil {
		return "", err
	}
	keys, err := p.keys(ctx, "event/")
	if err != nil {
		return "", err
	}
	if like, err = p.read(ctx, keys[0]); err != nil {
		return "", err
	}
	b.say("%d events", b.events)
	begun := time.Now().Add(-24 * time.Hour)
	err = inFlight(ctx, (b.events+together-1)/together, 4*b.parallel, func(ctx context.Context, n int) error {
		return p.events(ctx, like, min(together, b.events-n*together), begun.Add(time.Duration(n)*time.Millisecond))
	})
	return slices.Max(ids), err
}

// measureEvents says how long a page of events takes, with filters that fit few, many and none of very many.
func (b *bench) measureEvents(ctx context.Context, m *mount, started time.Time) error {
	some, err := m.Events(ctx, apitype.EventsRequest{Until: time.Now().Add(-23 * time.Hour).UTC().Format(time.RFC3339), Limit: 1000})
	if err != nil {
		return err
	}
	if len(some.Events) == 0 {
		return fmt.Errorf("no event of the past is there")
	}
	one := some.Events[len(some.Events)-1]
	queries := []struct {
		key, what string
		in        apitype.EventsRequest
		found     func(n int) bool
	}{
		{"events-few", "one matches", apitype.EventsRequest{EntityID: one.EntityID}, func(n int) bool { return n == 1 }},
		{"events-many", "nearly all match, a page of 1,000", apitype.EventsRequest{Action: one.Action, Limit: 1000}, func(n int) bool { return n >= min(b.events, 1000) }},
		{"events-none", "none matches", apitype.EventsRequest{EntityID: randomID()}, func(n int) bool { return n == 0 }},
	}
	ask := func(n int) (float64, error) {
		q := queries[n]
		begun := time.Now()
		out, err := m.Events(ctx, q.in)
		took := time.Since(begun).Seconds()
		if err == nil && !q.found(len(out.Events)) {
			err = fmt.Errorf("filtering events, %s: %d were found", q.what, len(out.Events))
		}
		return took, err
	}
	first, err := ask(len(queries) - 1)
	if err != nil {
		return err
	}
	b.say("filtering %d events; soon after a start it took %.2f s", b.events, first)
	b.report.note("Filtering %d events took %.2f s when the engine had been started %.0f s before.", b.events, first, time.Since(started).Seconds())
	const quick = 0.1 // seconds: the index is in memory
	if _, err := b.within(ctx, time.Minute, func() (bool, error) {
		took, err := ask(len(queries) - 1)
		return took < quick, err
	}); err != nil {
		return err
	}
	for n, q := range queries {
		f := figures{What: fmt.Sprintf("filter %d events, %s", b.events, q.what), Unit: "s"}
		for range b.rounds {
			took, err := ask(n)
			if err != nil {
				return err
			}
			f.Ours = append(f.Ours, took)
		}
		b.report.add(q.key, f)
	}
	return nil
}

// within waits until it is so, and says whether it was in time.
func (b *bench) within(ctx context.Context, longest time.Duration, so func() (bool, error)) (bool, error) {
	for end := time.Now().Add(longest); ; {
		done, err := so()
		if err != nil || done || time.Now().After(end) {
			return done, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// inFlight does n things, so many at a time.
func inFlight(ctx context.Context, n, parallel int, do func(ctx context.Context, n int) error) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(parallel)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		all.Go(func() error { return do(ctx, i) })
	}
	return all.Wait()
}
