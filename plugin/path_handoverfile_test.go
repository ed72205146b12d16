package ampora_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/storetest"
	"github.com/google/uuid"
	"github.com/hashicorp/vault/sdk/logical"
)

// fleet makes n agents of the group web that can be moved, and answers their ids in order.
func (m *mount) fleet(n int, description string) []string {
	m.Helper()
	m.group("", "web", nil)
	csr := newCSR(m)
	var ids []string
	for i := range n {
		id := m.redeem(data{
			"token": m.issue(data{"group": "web"}).Token, "csr": csr, "capabilities": apitype.CapabilityAcceptsOpAMP,
			"display_name": fmt.Sprintf("web-%d", i), "description": description,
		})
		ids = append(ids, id.AgentID)
	}
	slices.Sort(ids)
	return ids
}

func (m *mount) issuePart(body data) apitype.HandoverIssueResponse {
	m.Helper()
	all := data{"peer": "west", "group": "web"}
	maps.Copy(all, body)
	return call[apitype.HandoverIssueResponse](m, write, "handover/issue", all)
}

// issueAll makes the tokens of the group, part by part.
func (m *mount) issueAll(limit int) (tokens []apitype.IssuedHandover, refused []apitype.HandoverRefusal) {
	m.Helper()
	after := ""
	for {
		part := m.issuePart(data{"limit": limit, "after": after})
		if len(part.Tokens)+len(part.Refused) > limit {
			m.Errorf("a part of %d has %d and %d", limit, len(part.Tokens), len(part.Refused))
		}
		tokens, refused = append(tokens, part.Tokens...), append(refused, part.Refused...)
		if after = part.NextAfter; after == "" {
			return tokens, refused
		}
	}
}

func (m *mount) manifest(tokens []apitype.IssuedHandover) apitype.HandoverManifest {
	m.Helper()
	var ids []string
	for _, t := range tokens {
		ids = append(ids, t.HandoverID)
	}
	return call[apitype.HandoverManifest](m, write, "handover/manifest", data{"peer": "west", "group": "web", "handover_ids": ids})
}

func (m *mount) progress(manifest string, body data) apitype.HandoverProgress {
	m.Helper()
	all := data{"manifest": manifest}
	maps.Copy(all, body)
	return call[apitype.HandoverProgress](m, write, "handover/progress", all)
}

func TestAGroupMovesByAFile(t *testing.T) {
	eu, west := twoPeers(t)
	ids := eu.fleet(7, `{"a":1}`)
	revoked, server := ids[2], eu.redeem(data{"token": eu.issue(data{"group": "web"}).Token, "generate_key": true, "capabilities": apitype.CapabilityAcceptsOpAMP})
	eu.ok(write, "agents/"+revoked+"/revoke", nil)
	eu.movable(nil) // of no group

	tokens, refused := eu.issueAll(3)
	if len(tokens) != 6 || len(refused) != 2 {
		t.Fatalf("%d tokens, refused %+v", len(tokens), refused)
	}
	for _, r := range refused {
		want := map[string]apitype.Code{revoked: apitype.AgentRevoked, server.AgentID: apitype.HandoverUnsupported}[r.AgentID]
		if r.Code != want || r.Detail == "" {
			t.Errorf("%+v", r)
		}
	}
	if again, now := eu.issueAll(100); len(again) != 0 || len(now) != 8 {
		t.Errorf("made again: %d, refused %d", len(again), len(now))
	}

	signed := eu.manifest(tokens)
	var texts []string
	for _, token := range tokens {
		texts = append(texts, token.HandoverToken)
	}
	file, err := handover.NewFile(signed.Manifest, texts)
	if err != nil || signed.Count != 6 || file.Manifest.ID != signed.ManifestID || file.Manifest.Group != "web" || file.Manifest.Audience != "west" {
		t.Fatalf("%+v %v", signed, err)
	}
	if got := time.Unix(file.Manifest.Expires, 0).UTC().Format(time.RFC3339); got != signed.ExpiresAt {
		t.Errorf("exp %s, expires_at %s", got, signed.ExpiresAt)
	}

	if p := west.progress(signed.Manifest, nil); p.Side != apitype.HandoverTarget || p.Peer != "eu" || p.Total != 6 || p.Counts[apitype.StateAbsent] != 6 {
		t.Errorf("before it is redeemed: %+v", p)
	}
	taken := west.take(texts[0], nil)
	west.take(texts[1], nil)
	carry(west, eu)
	west.comes(taken.AgentID)
	carry(west, eu)
	p := west.progress(signed.Manifest, nil)
	if !maps.Equal(p.Counts, map[string]int{"active": 1, "awaiting_reconnect": 1, apitype.StateAbsent: 4}) {
		t.Errorf("at the target: %v", p.Counts)
	}
	if first := p.Handovers[0]; first.HandoverID != tokens[0].HandoverID || first.AgentID != taken.AgentID || first.State != "active" || first.DisplayName == "" || first.Since == "" {
		t.Errorf("%+v", first)
	}
	p = eu.progress(signed.Manifest, nil)
	if p.Side != apitype.HandoverSource || p.Peer != "west" || !maps.Equal(p.Counts, map[string]int{"moved_to_peer": 1, "released": 1, "handover_pending": 4}) {
		t.Errorf("at the source: %+v", p)
	}

	// In parts, and when the tokens have expired.
	eu.clock.advance(2 * time.Hour)
	var all []apitype.HandoverStanding
	for after := ""; ; {
		p := eu.progress(signed.Manifest, data{"limit": 4, "after": after})
		all = append(all, p.Handovers...)
		if after = p.NextAfter; after == "" {
			break
		}
	}
	if len(all) != 6 || all[5].State != "expired" || all[5].Code != string(apitype.HandoverExpired) || all[1].State != "released" {
		t.Errorf("%+v", all)
	}
}

func TestAPartOfAFileStaysBelowItsBounds(t *testing.T) {
	eu, _ := twoPeers(t)
	ids := eu.fleet(40, `{"quoted":"`+strings.Repeat(`\"`, 8000)+`"}`)
	var got []string
	for after := ""; ; {
		part := eu.issuePart(data{"after": after})
		size := 0
		for _, token := range part.Tokens {
			got, size = append(got, token.AgentID), size+len(token.HandoverToken)
		}
		if size > apitype.MaxHandoverText || len(part.Tokens) == 0 {
			t.Fatalf("%d tokens of %d bytes", len(part.Tokens), size)
		}
		if after = part.NextAfter; after == "" {
			break
		}
		if size < apitype.MaxHandoverText/2 {
			t.Errorf("a part in the middle has only %d bytes", size)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("%d agents instead of %d, or not in order", len(got), len(ids))
	}
}

func TestAgentsOfAListMoveByAFile(t *testing.T) {
	eu, _ := twoPeers(t)
	ids := eu.fleet(3, "")
	part := call[apitype.HandoverIssueResponse](eu, write, "handover/issue", data{"peer": "west", "agent_ids": []string{ids[2], unknownID, ids[0], ids[2]}})
	if len(part.Tokens) != 2 || part.Tokens[0].AgentID != ids[0] || part.NextAfter != "" || len(part.Refused) != 1 || part.Refused[0].Code != apitype.AgentUnknown {
		t.Fatalf("%+v", part)
	}
	part = call[apitype.HandoverIssueResponse](eu, write, "handover/issue", data{"peer": "west", "agent_ids": ids, "after": ids[0]})
	if len(part.Tokens) != 1 || part.Tokens[0].AgentID != ids[1] {
		t.Errorf("%+v", part)
	}
}

func TestWhatAFileCannotBeMadeOf(t *testing.T) {
	eu, west := twoPeers(t)
	ids := eu.fleet(2, "")
	for _, c := range []struct {
		code apitype.Code
		body data
	}{
		{apitype.FieldInvalid, data{"peer": "west"}},
		{apitype.FieldInvalid, data{"peer": "west", "group": "web", "agent_ids": ids}},
		{apitype.FieldInvalid, data{"peer": "west", "group": "web", "limit": 101}},
		{apitype.FieldInvalid, data{"peer": "west", "group": "web", "limit": -1}},
		{apitype.FieldInvalid, data{"peer": "west", "agent_ids": slices.Repeat([]string{"x"}, 1001)}},
		{apitype.AgentUnknown, data{"peer": "west", "agent_ids": "x"}},
		{apitype.GroupMissing, data{"peer": "west", "group": "nobody"}},
		{apitype.NameInvalid, data{"peer": "west", "group": "No!"}},
		{apitype.NameInvalid, data{"group": "web"}},
		{apitype.PeerUnknown, data{"peer": "nobody", "group": "web"}},
		{apitype.TTLOutOfRange, data{"peer": "west", "group": "web", "ttl": "90d"}},
	} {
		eu.no(c.code, write, "handover/issue", c.body)
	}
	eu.ok(write, "peers/west", data{"suspended": true})
	eu.no(apitype.PeerSuspended, write, "handover/issue", data{"peer": "west", "group": "web"})
	eu.ok(write, "peers/west", data{"suspended": false})
	if h := call[apitype.ListResponse[apitype.Handover]](eu, list, "handovers", nil); len(h.Keys) != 0 {
		t.Errorf("made all the same: %v", h.Keys)
	}

	tokens, _ := eu.issueAll(100)
	one := tokens[0].HandoverID
	for _, c := range []struct {
		code apitype.Code
		body data
	}{
		{apitype.FieldInvalid, data{"peer": "west"}},
		{apitype.FieldInvalid, data{"peer": "west", "handover_ids": []string{one, one}}},
		{apitype.FieldInvalid, data{"peer": "west", "handover_ids": slices.Repeat([]string{one}, handover.MaxFileTokens+1)}},
		{apitype.FieldInvalid, data{"peer": "west", "handover_ids": one, "group": "other"}},
		{apitype.HandoverUnknown, data{"peer": "west", "handover_ids": []string{one, uuid.NewString()}}},
		{apitype.HandoverUnknown, data{"peer": "west", "handover_ids": "x"}},
		{apitype.PeerUnknown, data{"peer": "nobody", "handover_ids": one}},
	} {
		eu.no(c.code, write, "handover/manifest", c.body)
	}
	eu.no(apitype.HandoverUnknown, write, "tenants/acme/handover/manifest", data{"peer": "west", "handover_ids": one})
	signed := eu.manifest(tokens).Manifest
	if p := call[apitype.HandoverProgress](eu, write, "tenants/acme/handover/progress", data{"manifest": signed}); p.Counts[apitype.StateAbsent] != 2 {
		t.Errorf("another tenant's handovers are shown: %+v", p)
	}
	eu.no(apitype.FieldInvalid, write, "handover/progress", data{"manifest": signed, "limit": 1001})
	eu.no(apitype.FieldInvalid, write, "handover/progress", data{"manifest": signed, "after": "x"})
	eu.no(apitype.HandoverMalformed, write, "handover/progress", data{"manifest": tokens[0].HandoverToken})
	eu.no(apitype.HandoverMalformed, write, "handover/progress", nil)
	for side, m := range map[string]*mount{"source": eu, "target": west} {
		m.no(apitype.HandoverSignatureInvalid, write, "handover/progress", data{"manifest": forgedSignature(signed)})
		if t.Failed() {
			t.Fatal(side)
		}
	}
	// One that west has signed says nothing of what eu has made, and the reverse.
	stranger := peerMount(t, "south", eu.clock)
	stranger.no(apitype.HandoverWrongAudience, write, "handover/progress", data{"manifest": signed})
	// What has ended can still be listed, and looked at.
	eu.ok(remove, "handovers/"+one, nil)
	eu.handOver(tokens[0].AgentID, "west", nil) // its row lets go of the first one
	if p := eu.progress(eu.manifest(tokens).Manifest, nil); p.Handovers[0].State != "cancelled" || p.Handovers[1].State != "handover_pending" {
		t.Errorf("%+v", p)
	}
}

// forgedSignature has another signature of the same length.
func forgedSignature(compact string) string {
	dot := strings.LastIndexByte(compact, '.')
	return compact[:dot+1] + strings.Repeat("A", len(compact)-dot-1)
}

func TestTheAgentsOfATenantsGroupMoveByItsPathAlone(t *testing.T) {
	eu, _ := twoPeers(t)
	eu.group("acme", "web", nil)
	eu.fleet(1, "")
	id := eu.movable(data{"tenant": "acme", "group": "web"})
	part := call[apitype.HandoverIssueResponse](eu, write, "tenants/acme/handover/issue", data{"peer": "west", "group": "web"})
	if len(part.Tokens) != 1 || part.Tokens[0].AgentID != id.AgentID {
		t.Errorf("%+v", part)
	}
	part = call[apitype.HandoverIssueResponse](eu, write, "tenants/globex/handover/issue", data{"peer": "west", "agent_ids": id.AgentID})
	if len(part.Tokens) != 0 || len(part.Refused) != 1 || part.Refused[0].Code != apitype.AgentUnknown {
		t.Errorf("%+v", part)
	}
	if tokens, _ := eu.issueAll(100); len(tokens) != 1 || tokens[0].AgentID == id.AgentID {
		t.Errorf("the group of no tenant: %+v", tokens)
	}
}

// A crash, or a storage that fails, at any operation while a part is made leaves each agent with a whole handover or with none.
func TestAPartOfAFileSurvivesAFaultAtEveryStorageOperation(t *testing.T) {
	for mode, name := range map[int]string{storetest.Refuse: "refused", storetest.Apply: "applied and then failed"} {
		for _, length := range []int{1, storetest.Dead} {
			t.Run(fmt.Sprintf("%s, %d", name, min(length, 2)), func(t *testing.T) {
				for n := 1; ; n++ {
					if !issueWithAFault(t, n, mode, length) {
						if n < 10 {
							t.Errorf("only %d operations", n)
						}
						return
					}
				}
			})
		}
	}
}

// issueWithAFault makes a part while the n-th operation fails, and reports whether there was one.
func issueWithAFault(t *testing.T, n, mode, length int) bool {
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	faulty := &storetest.Faulty{Storage: &logical.InmemStorage{}}
	eu := mountOn(t, faulty, c)
	eu.ok(write, "config", data{"peer_id": "eu", "trust_domain": "eu.example", "endpoint": "wss://edge.eu.example:4320/v1/opamp"})
	eu.ok(write, "ca/root", nil)
	eu.ok(logical.CreateOperation, "peers/west", peerMount(t, "west", c).ok(read, "federation/bundle", nil).Data)
	ids := eu.fleet(3, "")

	faulty.Arm(n, mode, length)
	resp, refusal := eu.send(write, "handover/issue", data{"peer": "west", "group": "web"})
	fired := faulty.Disarm()
	answered := map[string]bool{}
	if refusal == nil {
		for _, token := range decodeAnswer[apitype.HandoverIssueResponse](eu, resp).Tokens {
			answered[token.AgentID] = true
		}
	}

	after := mountOn(t, faulty, c)
	pending := 0
	for _, id := range ids {
		switch a := after.agent(id); {
		case a.State == apitype.AgentStateHandoverPending:
			pending++
		case a.State != apitype.AgentStateActive || answered[id]:
			t.Fatalf("operation %d: agent %s is %s, and its token was answered: %v", n, id, a.State, answered[id])
		}
	}
	after.sweep()
	if got := after.actions(data{"action": apitype.ActionHandoverIssued}); len(got) != pending {
		t.Fatalf("operation %d: %d handovers are pending, %d were told of", n, pending, len(got))
	}
	if listed := call[apitype.ListResponse[apitype.Handover]](after, list, "handovers", nil); len(listed.Keys) != pending {
		t.Fatalf("operation %d: %d handovers are pending, %d are listed", n, pending, len(listed.Keys))
	}
	if rest := after.issuePart(nil); len(rest.Tokens) != 3-pending || len(rest.Refused) != pending {
		t.Fatalf("operation %d: %d pending, and then %+v", n, pending, rest)
	}
	return fired
}

// A part costs what its agents cost: a row that leads to each handover, each agent's row, and events that are stored together.
func TestTheBudgetOfAPart(t *testing.T) {
	eu, _ := twoPeers(t)
	eu.fleet(20, "")
	eu.storage.Reset()
	tokens, _ := eu.issueAll(100)
	count := map[string]int{}
	for _, op := range eu.storage.Writes() {
		count[op.Kind+" "+strings.SplitN(op.Key, "/", 2)[0]]++
	}
	if count["put handover"] != 20 || count["put agent"] != 20 || count["put event"] > 20 || len(count) != 3 {
		t.Errorf("%v", count)
	}
	eu.storage.Reset()
	signed := eu.manifest(tokens)
	eu.progress(signed.Manifest, nil)
	if w := eu.storage.Writes(); len(w) != 0 {
		t.Errorf("a manifest and its progress write %v", w)
	}
}
