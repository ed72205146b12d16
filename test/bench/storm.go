package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// stormTime is how long a storm of tokens may take.
const stormTime = 5 * time.Minute

// measureStorm has many new agents come to one edge at once, each with a token of its own, as when a whole site is switched on.
// Every token must make exactly one agent, whatever was refused on the way.
func (b *bench) measureStorm(ctx context.Context) (err error) {
	n := b.tokens
	if err := allowFiles(n); err != nil {
		return err
	}
	m, err := b.vault.home(ctx)
	if err != nil {
		return err
	}
	newcomers := make([]*applicant, n)
	for i := range newcomers {
		newcomers[i] = &applicant{}
	}
	if err := m.give(ctx, newcomers); err != nil {
		return err
	}
	tokens := make([]string, n)
	for i, a := range newcomers {
		tokens[i] = a.token
	}
	if err := b.writeFiles(ctx); err != nil {
		return err
	}
	log, err := os.Create(b.file(logFile))
	if err != nil {
		return err
	}
	defer func() { err = b.explain(ctx, log, err) }()
	edge, err := b.startEdge(ctx, log, edgeOptions{name: "storm", token: b.vault.edgeToken, ownCertificate: true})
	if err != nil {
		return err
	}
	defer edge.end()
	agents, err := startAgents(log, b.file(crewFile))
	if err != nil {
		return err
	}
	defer agents.end()

	b.say("%d tokens are redeemed at once", n)
	out, err := tell(agents, order{Do: "redeem", URL: edge.url, Tokens: tokens, For: stormTime})
	if err != nil {
		return err
	}
	times := since(time.Unix(0, out.Began), out.Times)
	b.report.add("storm-half", figures{What: fmt.Sprintf("%d tokens at once: half of them are agents", n), Unit: "s", Ours: []float64{quantile(times, 0.5)}})
	b.report.add("storm", figures{What: "  all", Unit: "s", Ours: []float64{quantile(times, 1)}})
	b.report.note("%d tokens came at once. Refused on the way, and told when to come again: %s. Failed otherwise and tried again: %s.", n, counts(out.Refused), counts(out.Broken))
	if err := b.checkStorm(ctx, tokens, out.Identities); err != nil {
		return err
	}
	b.agents = append(b.agents, out.Identities...)
	return nil
}

// checkStorm makes sure that every token is spent, on an agent of its own whose row holds the certificate that the agent has.
func (b *bench) checkStorm(ctx context.Context, tokens []string, agents []identity) error {
	owner := map[string]int{}
	for i, a := range agents {
		if other, twice := owner[a.AgentID]; twice {
			return fmt.Errorf("tokens %d and %d have made one agent", other, i)
		}
		owner[a.AgentID] = i
	}
	return inFlight(ctx, len(agents), b.parallel, func(ctx context.Context, n int) error {
		row, err := b.vault.operator.Agent(ctx, agents[n].AgentID)
		if err != nil {
			return err
		}
		if block, _ := pem.Decode([]byte(row.Certificate)); block == nil || !bytes.Equal(block.Bytes, agents[n].Certificate) {
			return fmt.Errorf("agent %s has another certificate than the engine thinks", row.AgentID)
		}
		_, err = b.vault.edge.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: tokens[n]})
		if apitype.CodeOf(err) != apitype.TokenRedeemed {
			return fmt.Errorf("the token of agent %s is not spent: %w", row.AgentID, err)
		}
		return nil
	})
}

// writeCrew puts down the agents for a process of theirs.
func (b *bench) writeCrew(name, roots string, agents []identity) error {
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(crew{Roots: []byte(roots), Identities: agents}); err != nil {
		return err
	}
	return os.WriteFile(b.file(name), raw.Bytes(), 0o600)
}
