package enroll_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/hashicorp/vault/sdk/logical"
)

// pair is two installations that are peers of each other, and an agent that enrolled at eu.
type pair struct {
	t        *testing.T
	eu, west *world
	clock    *time.Duration // how far both are ahead

	csr      string
	agent    apitype.Identity
	token    apitype.HandoverToken // of the last handover that was begun
	there    string                // the agent's id at west
	receipts []string              // kept by a test for later
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, clock: new(time.Duration), csr: newCSR(t)}
	p.eu, p.west = p.installation("eu"), p.installation("west")
	p.meet(p.eu, p.west)
	p.meet(p.west, p.eu)
	issued, err := p.eu.Issue(t.Context(), operator, apitype.TokenIssueRequest{})
	p.eu.must(err)
	id, err := p.eu.Redeem(t.Context(), operator, "", apitype.RedeemRequest{Token: issued.Token, CSR: p.csr, Capabilities: apitype.CapabilityAcceptsOpAMP})
	p.eu.must(err)
	p.agent = *id
	return p
}

func (p *pair) now() time.Time { return time.Now().Add(*p.clock) }

func (p *pair) installation(id string) *world {
	w := newWorldAt(p.t, &storetest.Faulty{Storage: &logical.InmemStorage{}}, p.now)
	_, err := w.Settings.Update(p.t.Context(), operator, false, func(c *apitype.Config) []string {
		c.PeerID, c.TrustDomain, c.Endpoint = id, id+".example", "wss://"+id+".example/v1/opamp"
		return []string{"peer_id"}
	})
	w.must(err)
	_, err = w.Authority.NewRoot(p.t.Context(), operator, apitype.CARootRequest{})
	w.must(err)
	return w
}

func (p *pair) meet(w, other *world) {
	card, err := other.peers.Card(p.t.Context())
	w.must(err)
	_, err = w.peers.Write(p.t.Context(), operator, card.PeerID, apitype.PeerRequest{
		PeerID: &card.PeerID, TrustDomain: &card.TrustDomain, Endpoint: &card.Endpoint, EndpointCABundle: &card.EndpointCABundle,
		FederationURL: &card.FederationURL, CABundle: &card.CABundle, BundleJWS: &card.BundleJWS,
	})
	w.must(err)
}

// again is the same pair as storage has it, with processes that have just started.
func (p *pair) again() *pair {
	p.t.Helper()
	next, clock := *p, *p.clock
	next.clock = &clock
	next.eu = newWorldAt(p.t, copied(p.t, p.eu.storage), next.now)
	next.west = newWorldAt(p.t, copied(p.t, p.west.storage), next.now)
	return &next
}

func copied(t *testing.T, s *storetest.Faulty) *storetest.Faulty {
	t.Helper()
	out := &logical.InmemStorage{}
	keys, err := logical.CollectKeys(t.Context(), s.Storage)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		entry, err := s.Storage.Get(t.Context(), key)
		if err != nil || out.Put(t.Context(), entry) != nil {
			t.Fatalf("%s cannot be copied: %v", key, err)
		}
	}
	return &storetest.Faulty{Storage: out}
}

// restart begins the process of one side anew, after its recovery.
func (p *pair) restart(w **world) {
	p.t.Helper()
	*w = newWorldAt(p.t, (*w).storage, p.now)
	(*w).recover()
}

// The steps of a move. Each answers what went wrong.

func (p *pair) issue(from *world, agentID, peer string) error {
	token, err := from.Handover(p.t.Context(), operator, "", agentID, apitype.HandoverRequest{Peer: peer})
	if err == nil {
		p.token = token
	}
	return err
}

func (p *pair) take(at *world) error {
	taken, err := at.RedeemHandover(p.t.Context(), operator, "", apitype.HandoverRedeemRequest{Token: p.token.HandoverToken})
	if err == nil && at == p.west {
		p.there = taken.AgentID
	}
	return err
}

// carry brings what waits at one side to the other, and the answers back, once.
func (p *pair) carry(from, to *world) error {
	box, err := from.Outbox(p.t.Context())
	if err != nil {
		return err
	}
	for _, message := range box.Messages {
		answer, err := to.Receipt(p.t.Context(), operator, apitype.ReceiptRequest{Receipt: message.Receipt})
		if err != nil {
			return err
		}
		if answer.Receipt == "" {
			continue
		}
		if _, err := from.Receipt(p.t.Context(), operator, apitype.ReceiptRequest{Receipt: answer.Receipt}); err != nil {
			return err
		}
	}
	return nil
}

// comes is a session of the agent with the leaf of its source.
func (p *pair) comes(at *world, agentID string) error {
	places, err := at.Places(p.t.Context())
	if err != nil {
		return err
	}
	for _, place := range places {
		if place.AgentID != agentID || place.Guest == nil {
			continue
		}
		serial, err := identity.LeafSerial(agentID, place.Guest.Generation)
		at.must(err)
		_, err = at.Seen(p.t.Context(), operator, "", "edge", apitype.SessionReport{AgentID: agentID, SerialNumber: serial.String()})
		return err
	}
	return fmt.Errorf("%s is no guest", agentID)
}

// settles gives the agent that has come a leaf of its new home, and confirms it.
func (p *pair) settles(at *world, agentID string) error {
	a, err := at.Agent(p.t.Context(), "", agentID)
	if err != nil {
		return err
	}
	next, err := at.Renew(p.t.Context(), operator, "", agentID, apitype.RenewRequest{Fingerprint: a.Fingerprint})
	if err != nil {
		return err
	}
	_, err = at.Seen(p.t.Context(), operator, "", "edge", apitype.SessionReport{AgentID: agentID, SerialNumber: next.SerialNumber, Applied: next.Fingerprint})
	return err
}

func (p *pair) do(steps ...error) {
	p.t.Helper()
	for n, err := range steps {
		if err != nil {
			p.t.Fatalf("step %d: %v", n, err)
		}
	}
}

// released brings the first move so far that the agent may come.
func (p *pair) released() {
	p.t.Helper()
	p.do(p.issue(p.eu, p.agent.AgentID, "west"), p.take(p.west), p.carry(p.west, p.eu))
}

// arrived brings it to its end, without a leaf of west's.
func (p *pair) arrived() {
	p.t.Helper()
	p.released()
	p.do(p.comes(p.west, p.there), p.carry(p.west, p.eu))
}

// homeward is the way back as far as its token.
func (p *pair) homeward() {
	p.t.Helper()
	p.arrived()
	p.do(p.settles(p.west, p.there), p.issue(p.west, p.there, "eu"))
}

// waiting are the receipts in the outbox.
func (p *pair) waiting(at *world) []string {
	p.t.Helper()
	box, err := at.Outbox(p.t.Context())
	at.must(err)
	var all []string
	for _, message := range box.Messages {
		if message.Step != "pinned" {
			all = append(all, message.Receipt)
		}
	}
	return all
}

// view is what can be seen of one side, without ids and times.
func (w *world) view() string {
	w.t.Helper()
	ctx, all := w.t.Context(), []string{}
	handovers, err := w.Handovers(ctx, "", apitype.Page{})
	w.must(err)
	for _, id := range handovers.Keys {
		h := handovers.KeyInfo[id]
		all = append(all, fmt.Sprintf("handover %s %s %s %s", h.Side, h.State, h.Code, h.Configuration))
	}
	agents, err := w.Agents(ctx, "", apitype.Page{})
	w.must(err)
	for _, id := range agents.Keys {
		a := agents.KeyInfo[id]
		all = append(all, fmt.Sprintf("agent %s from %q with next %v, group %q", a.StateText, a.Origin, a.NextSerialNumber != "", a.Group))
	}
	box, err := w.Outbox(ctx)
	w.must(err)
	for _, message := range box.Messages {
		all = append(all, "owes "+message.Step)
	}
	revoked, err := w.Revoked(ctx)
	w.must(err)
	all = append(all, fmt.Sprintf("%d revoked", len(revoked)))
	all = append(all, w.placed()...)
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// placed is what the feed tells, which is what storage says.
func (w *world) placed() []string {
	w.t.Helper()
	told, err := w.Feed.Poll(w.t.Context(), "", 0)
	w.must(err)
	all := map[string]bool{}
	for _, m := range told.Moves {
		all["moved to "+m.Peer+" with "+m.Fingerprint] = true
	}
	for _, g := range told.Guests {
		all[fmt.Sprintf("guest of %s, %s, generation %d with %s", g.Peer, g.State, g.Generation, g.Fingerprint)] = true
	}
	places, err := w.Places(w.t.Context())
	w.must(err)
	stored := map[string]bool{}
	for _, place := range places {
		if m := place.Move; m != nil {
			stored["moved to "+m.Peer+" with "+m.Fingerprint] = true
		}
		if g := place.Guest; g != nil {
			stored[fmt.Sprintf("guest of %s, %s, generation %d with %s", g.Peer, g.State, g.Generation, g.Fingerprint)] = true
		}
	}
	if got, want := sorted(all), sorted(stored); !slices.Equal(got, want) {
		w.t.Fatalf("the feed tells %q, and storage says %q", got, want)
	}
	return sorted(all)
}

func sorted(set map[string]bool) []string {
	var all []string
	for text := range set {
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

// orphans are pointers that lead nowhere: nothing may be left of them after a sweep.
func (w *world) orphans() {
	w.t.Helper()
	keys, err := logical.CollectKeysWithPrefix(w.t.Context(), w.storage.Storage, "handover/")
	w.must(err)
	for _, key := range keys {
		id := key[strings.LastIndexByte(key, '/')+1:]
		if _, err := w.HandoverInfo(w.t.Context(), "", id); err != nil {
			w.t.Fatalf("%s leads nowhere: %v", key, err)
		}
	}
}

// serves reports whether an agent of the side's is served there.
func (w *world) serves() bool {
	w.t.Helper()
	agents, err := w.Agents(w.t.Context(), "", apitype.Page{})
	w.must(err)
	for _, id := range agents.Keys {
		switch agents.KeyInfo[id].State {
		case apitype.AgentStateActive, apitype.AgentStateHandoverPending:
			return true
		}
	}
	return false
}

// reconcile ends every suspension.
func (p *pair) reconcile() {
	p.t.Helper()
	suspended := false
	for w, name := range map[*world]string{p.eu: "west", p.west: "eu"} {
		_, err := w.peers.Write(p.t.Context(), operator, name, apitype.PeerRequest{Suspended: &suspended})
		p.do(err)
	}
}

// calm lets messages flow and time pass until nothing is open any more.
func (p *pair) calm() {
	p.t.Helper()
	for range 3 {
		for range 2 {
			p.do(p.carry(p.west, p.eu), p.carry(p.eu, p.west))
			for w, id := range map[*world]string{p.west: p.there, p.eu: p.agent.AgentID} {
				if id != "" {
					_ = p.comes(w, id) // where it may
				}
			}
		}
		*p.clock += 25 * time.Hour
		p.do(p.eu.TendHandovers(p.t.Context()), p.west.TendHandovers(p.t.Context()))
	}
	p.do(p.carry(p.west, p.eu), p.carry(p.eu, p.west))
}
