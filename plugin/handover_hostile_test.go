package ampora_test

import (
	"crypto"
	"crypto/elliptic"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/google/uuid"
)

// hostile is eu with a peer west, whose key is in the wrong hands, and a peer south that is honest.
type hostile struct {
	*testing.T
	eu, west, south *mount
	issuer          *ca.Issuer // west's
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	h := &hostile{T: t, eu: peerMount(t, "eu", c), west: peerMount(t, "west", c), south: peerMount(t, "south", c)}
	federate(map[string]*mount{"eu": h.eu, "west": h.west, "south": h.south})
	h.issuer = h.west.issuerWithKey()
	return h
}

// issuerWithKey takes the key of the only issuer out of storage.
func (m *mount) issuerWithKey() *ca.Issuer {
	m.Helper()
	keys := m.keys("ca/issuer/")
	entry, err := m.storage.Storage.Get(m.Context(), keys[0])
	if err != nil || len(keys) != 1 {
		m.Fatalf("%v: %v", keys, err)
	}
	var row struct {
		Row struct{ Key, Certificate string }
	}
	if err := json.Unmarshal(entry.Value, &row); err != nil {
		m.Fatal(err)
	}
	key, err := ca.ParseKey(row.Row.Key)
	if err != nil {
		m.Fatal(err)
	}
	return &ca.Issuer{ID: "x", Key: key, Certificate: certificate(m, row.Row.Certificate)}
}

// token is one of an agent of west's for eu, which the change makes another one, signed by the key.
func (h *hostile) token(key crypto.Signer, change func(*handover.Token)) string {
	h.Helper()
	return h.forge(h.west.handOver(h.west.movable(nil).AgentID, "eu", nil).HandoverToken, key, change)
}

func (h *hostile) forge(text string, key crypto.Signer, change func(*handover.Token)) string {
	h.Helper()
	compact, lineage, err := handover.Split(text)
	if err != nil {
		h.Fatal(err)
	}
	var claims handover.Token
	if err := handover.Unverified(compact, handover.TypeHandover, &claims); err != nil {
		h.Fatal(err)
	}
	change(&claims)
	again, err := handover.Sign(key, handover.TypeHandover, claims)
	if err != nil {
		h.Fatal(err)
	}
	return handover.Join(again, lineage)
}

// refused wants the token refused by redemption with the code, named by inspection or refused as well, and nothing changed.
func (h *hostile) refused(code apitype.Code, token string) {
	h.Helper()
	before := h.eu.dump()
	h.eu.no(code, write, "handover/redeem", data{"token": token})
	resp, refusal := h.eu.send(write, "handover/inspect", data{"token": token})
	if refusal == nil {
		look := decodeAnswer[apitype.HandoverInspection](h.eu, resp)
		if !slices.ContainsFunc(look.Problems, func(p string) bool { return strings.HasPrefix(p, string(code)+": ") }) {
			h.Errorf("inspect sees the problems %q", look.Problems)
		}
	} else if refusal.Code != code {
		h.Errorf("inspect says %v", refusal)
	}
	if h.eu.dump() != before {
		h.Error("something was changed")
	}
}

// leafFor is a leaf of west's for whomever.
func (h *hostile) leafFor(agentID, trustDomain string) (text string, thumbprint string) {
	h.Helper()
	leaf, err := ca.SignLeaf(h.issuer, ca.LeafTemplate{
		PublicKey: ecKey(h, elliptic.P256()).Public(), AgentID: agentID, TrustDomain: trustDomain, Generation: 1, TTL: 30 * 24 * time.Hour, Now: h.eu.clock.now(),
	})
	if err != nil {
		h.Fatal(err)
	}
	return leaf.PEM, handover.Thumbprint(certificate(h, leaf.PEM))
}

func TestAHostilePeersTokens(t *testing.T) {
	t.Run("claims an agent of ours, and gets a row of its own", func(t *testing.T) {
		h := newHostile(t)
		ours := h.eu.movable(nil)
		before := h.eu.ok(read, "agents/"+ours.AgentID, nil).Data
		pem, thumbprint := h.leafFor(ours.AgentID, "west.example")
		token := h.token(h.issuer.Key, func(c *handover.Token) {
			c.Agent.AgentID, c.Agent.Certificate, c.Confirmation.X5TS256 = ours.AgentID, pem, thumbprint
			c.Subject = "spiffe://west.example/agent/" + ours.AgentID
		})
		taken := h.eu.take(token, nil)
		if taken.AgentID == ours.AgentID || !equalJSON(t, before, h.eu.ok(read, "agents/"+ours.AgentID, nil).Data) {
			t.Error("it got at the row of our agent")
		}
	})
	t.Run("takes the id of another handover", func(t *testing.T) {
		h := newHostile(t)
		out := h.eu.handOver(h.eu.movable(nil).AgentID, "south", nil)
		in := h.south.handOver(h.south.movable(nil).AgentID, "eu", nil)
		h.eu.take(in.HandoverToken, nil)
		for _, id := range []string{out.HandoverID, in.HandoverID} {
			h.refused(apitype.HandoverReplayed, h.token(h.issuer.Key, func(c *handover.Token) { c.ID = id }))
		}
		h.eu.ok(remove, "handovers/"+out.HandoverID, nil)
		h.refused(apitype.HandoverReplayed, h.token(h.issuer.Key, func(c *handover.Token) { c.ID = out.HandoverID }))
	})
	t.Run("uses an id of its own twice", func(t *testing.T) {
		h := newHostile(t)
		first := h.token(h.issuer.Key, func(*handover.Token) {})
		h.eu.take(first, nil)
		h.refused(apitype.HandoverReplayed, h.forge(first, h.issuer.Key, func(c *handover.Token) { c.Agent.Group = "other" }))
	})
	t.Run("signed by a leaf's key or by a sibling CA", func(t *testing.T) {
		h := newHostile(t)
		h.refused(apitype.HandoverSignatureInvalid, h.token(ecKey(t, elliptic.P256()), func(*handover.Token) {}))
		h.refused(apitype.HandoverSignatureInvalid, h.token(h.south.issuerWithKey().Key, func(*handover.Token) {}))
		h.refused(apitype.HandoverSignatureInvalid, h.token(h.issuer.Key, func(c *handover.Token) { c.Issuer = "south" }))
	})
	t.Run("addresses in claims count for nothing", func(t *testing.T) {
		h := newHostile(t)
		before := h.eu.ok(read, "peers/west", nil).Data
		h.eu.take(h.token(h.issuer.Key, func(c *handover.Token) {
			c.Target.Endpoint, c.Source.Endpoint, c.Target.Name = "wss://evil.example/v1/opamp", "wss://evil.example/v1/opamp", "evil"
		}), nil)
		if !equalJSON(t, before, h.eu.ok(read, "peers/west", nil).Data) || strings.Contains(toText(t, h.eu.sync("")), "evil") ||
			strings.Contains(toText(t, h.eu.events(nil)), "evil") {
			t.Error("an address in a claim was taken over")
		}
	})
	t.Run("claims that no row takes", func(t *testing.T) {
		h := newHostile(t)
		for _, change := range []func(*handover.Token){
			func(c *handover.Token) { c.Agent.Description = strings.Repeat("x", 64<<10+1) },
			func(c *handover.Token) { c.Agent.DisplayName = strings.Repeat("x", 257) },
			func(c *handover.Token) { c.Agent.DisplayName = "a\u202eb" },
			func(c *handover.Token) { c.Agent.InstanceUID = "not one" },
			func(c *handover.Token) { c.Audit = "an event of nobody" },
			func(c *handover.Token) { c.ID = "../../agent/x" },
			func(c *handover.Token) { c.Expires += 48 * 3600 },
		} {
			h.refused(apitype.HandoverMalformed, h.token(h.issuer.Key, change))
		}
	})
	t.Run("names that it may not have", func(t *testing.T) {
		h := newHostile(t)
		h.eu.group("", "secret", nil)
		h.eu.configuration("", "secret", data{"body": "one"})
		h.eu.configuration("", "base", data{"body": "one"})
		h.eu.ok(write, "peers/west", data{"allowed_tenants": "acme", "allowed_groups": "web", "allowed_configurations": "base"})
		claim := func(group, configuration string) string {
			return h.token(h.issuer.Key, func(c *handover.Token) { c.Agent.Group, c.Agent.Configuration = group, configuration })
		}
		h.refused(apitype.TenantMismatch, claim("", ""))
		h.eu.ok(write, "peers/west", data{"allowed_tenants": "*"})
		h.refused(apitype.ConfigurationMissing, claim("", "secret"))
		h.refused(apitype.ConfigurationMissing, claim("", "nowhere"))
		h.refused(apitype.ConfigurationMissing, claim("", "../x"))
		token := claim("secret", "secret")
		if taken := h.eu.take(token, data{"configuration": "base"}); taken.Group != "" || taken.Configuration != "base" {
			t.Errorf("it landed in %+v", taken)
		}
		h.eu.no(apitype.GroupMissing, write, "handover/redeem", data{"token": claim("", ""), "group": "nowhere"})
	})
	t.Run("under hard tenancy only into a tenant", func(t *testing.T) {
		h := newHostile(t)
		h.eu.ok(write, "config", hard())
		token := h.token(h.issuer.Key, func(*handover.Token) {})
		h.refused(apitype.TenantRequired, token)
		taken := call[apitype.HandoverRedemption](h.eu, write, "tenants/acme/handover/redeem", data{"token": token})
		if taken.Tenant != "acme" {
			t.Errorf("%+v", taken)
		}
		// Nobody else's operator sees it, ends it, or is told of it by asking again.
		h.eu.no(apitype.HandoverUnknown, read, "tenants/globex/handovers/"+taken.HandoverID, nil)
		h.eu.no(apitype.HandoverUnknown, remove, "tenants/globex/handovers/"+taken.HandoverID, nil)
		h.eu.no(apitype.HandoverReplayed, write, "tenants/globex/handover/redeem", data{"token": token})
		look := call[apitype.HandoverInspection](h.eu, write, "tenants/globex/handover/inspect", data{"token": token})
		if look.State != "" || len(look.Problems) == 0 {
			t.Errorf("another tenant is told %+v", look)
		}
		if all := call[apitype.ListResponse[apitype.Handover]](h.eu, list, "tenants/globex/handovers", nil); len(all.Keys) != 0 {
			t.Errorf("another tenant sees %v", all.Keys)
		}
		if all := call[apitype.ListResponse[apitype.Handover]](h.eu, list, "tenants/acme/handovers", nil); len(all.Keys) != 1 {
			t.Errorf("its own sees %v", all.Keys)
		}
		h.eu.ok(remove, "tenants/acme/handovers/"+taken.HandoverID, nil)
	})
}

func TestAHostilePeersLineages(t *testing.T) {
	h := newHostile(t)
	ours := h.eu.movable(nil)
	first := h.eu.handOver(ours.AgentID, "west", nil)
	there := h.west.take(first.HandoverToken, nil).AgentID
	carry(h.west, h.eu)
	h.west.comes(there)
	carry(h.west, h.eu)
	h.west.settlesIn(there)
	back := h.west.handOver(there, "eu", nil).HandoverToken
	compact, lineage, err := handover.Split(back)
	if err != nil || len(lineage) != 1 {
		t.Fatalf("%d tokens, %v", len(lineage), err)
	}

	h.refused(apitype.HandoverMalformed, handover.Join(compact, []string{lineage[0], lineage[0]}))
	h.refused(apitype.HandoverMalformed, h.forge(back, h.issuer.Key, func(c *handover.Token) { c.Previous = strings.Repeat("ab", 32) }))
	other, err := handover.Sign(h.issuer.Key, handover.TypeHandover, claimsOf(t, lineage[0]))
	if err != nil {
		t.Fatal(err)
	}
	h.refused(apitype.HandoverMalformed, handover.Join(compact, []string{other}))

	// A token of ours that we have never made, and no lineage at all, lead to a new row.
	forged := h.forge(back, h.issuer.Key, func(c *handover.Token) { c.Previous, c.ID = handover.Hash(other), uuid.NewString() })
	forged, _, _ = handover.Split(forged)
	for _, token := range []string{handover.Join(forged, []string{other}), compact} {
		look := call[apitype.HandoverInspection](h.eu, write, "handover/inspect", data{"token": token})
		if look.Known || look.AgentID == ours.AgentID {
			t.Errorf("it leads to our row: %+v", look)
		}
	}
	// A peer that the agent was never given to cannot bring it home with the tokens of others.
	souths := h.south.handOver(h.south.movable(nil).AgentID, "eu", nil).HandoverToken
	stolen := &hostile{T: t, eu: h.eu, issuer: h.south.issuerWithKey()}
	mine, _, _ := handover.Split(stolen.forge(souths, stolen.issuer.Key, func(c *handover.Token) { c.Previous = handover.Hash(lineage[0]) }))
	h.refused(apitype.HandoverMalformed, handover.Join(mine, lineage))
	mine, _, _ = handover.Split(stolen.forge(souths, stolen.issuer.Key, func(c *handover.Token) { c.Previous = handover.Hash(compact) }))
	h.refused(apitype.HandoverMalformed, handover.Join(mine, []string{compact, lineage[0]}))

	// The right one does; once it has, an older one of the same row does not any more, and neither works twice.
	if taken := h.eu.take(back, nil); taken.AgentID != ours.AgentID {
		t.Fatalf("home is %s", taken.AgentID)
	}
	carry(h.eu, h.west)
	h.eu.comes(ours.AgentID)
	carry(h.eu, h.west)
	h.refused(apitype.HandoverReplayed, back)
	h.eu.settlesIn(ours.AgentID)
	moves(h.eu, h.west, ours.AgentID, "west")
	h.refused(apitype.HandoverReplayed, back)
	again := h.forge(back, h.issuer.Key, func(c *handover.Token) { c.ID = uuid.NewString() })
	if look := call[apitype.HandoverInspection](h.eu, write, "handover/inspect", data{"token": again}); look.Known {
		t.Error("an older token of ours leads home")
	}
}

func claimsOf(t *testing.T, compact string) (claims handover.Token) {
	t.Helper()
	if err := handover.Unverified(compact, handover.TypeHandover, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestAHostilePeersReceipts(t *testing.T) {
	h := newHostile(t)
	id := h.eu.movable(nil)
	token := h.eu.handOver(id.AgentID, "west", nil)
	compact, _, _ := handover.Split(token.HandoverToken)
	honest := handover.Receipt{
		Issuer: "west", Audience: "eu", IssuedAt: h.eu.clock.now().Unix(), Step: handover.StepRedeemed, HandoverID: token.HandoverID,
		TokenHash: handover.Hash(compact), AgentID: id.AgentID, TargetAgentID: uuid.NewString(),
	}
	sign := func(by *ca.Issuer, change func(*handover.Receipt)) data {
		r := honest
		change(&r)
		text, err := handover.Sign(by.Key, handover.TypeReceipt, r)
		if err != nil {
			t.Fatal(err)
		}
		return data{"receipt": text}
	}
	south := h.south.issuerWithKey()
	before := h.eu.dump()
	for name, c := range map[string]struct {
		code apitype.Code
		body data
	}{
		"said in another's name":  {apitype.HandoverSignatureInvalid, sign(south, func(*handover.Receipt) {})},
		"for somebody else":       {apitype.HandoverWrongAudience, sign(h.issuer, func(r *handover.Receipt) { r.Audience = "south" })},
		"of nobody":               {apitype.PeerUnknown, sign(h.issuer, func(r *handover.Receipt) { r.Issuer = "north" })},
		"no step":                 {apitype.HandoverMalformed, sign(h.issuer, func(r *handover.Receipt) { r.Step = "moved" })},
		"an answer as a question": {apitype.HandoverUnknown, sign(h.issuer, func(r *handover.Receipt) { r.Step = handover.StepReleased })},
		"another answer":          {apitype.HandoverUnknown, sign(h.issuer, func(r *handover.Receipt) { r.Step = handover.StepCompleted })},
		"an id that is a path":    {apitype.HandoverMalformed, sign(h.issuer, func(r *handover.Receipt) { r.HandoverID = "../x" })},
		"an agent that is a path": {apitype.HandoverMalformed, sign(h.issuer, func(r *handover.Receipt) { r.AgentID = "../x" })},
		"text as a target's id":   {apitype.HandoverMalformed, sign(h.issuer, func(r *handover.Receipt) { r.TargetAgentID = "<b>" })},
		"text as an event":        {apitype.HandoverMalformed, sign(h.issuer, func(r *handover.Receipt) { r.Event = "look here" })},
		"text as a code":          {apitype.HandoverMalformed, sign(h.issuer, func(r *handover.Receipt) { r.Code = "All is well\n" })},
	} {
		t.Run(name, func(t *testing.T) { h.eu.no(c.code, write, "handover/receipt", c.body) })
	}
	// What is said of a handover that is not as it is said is refused to the peer, and changes nothing.
	for name, body := range map[string]data{
		"another peer's handover": sign(south, func(r *handover.Receipt) { r.Issuer = "south" }),
		"another token's hash":    sign(h.issuer, func(r *handover.Receipt) { r.TokenHash = strings.Repeat("0", 64) }),
		"another agent":           sign(h.issuer, func(r *handover.Receipt) { r.AgentID = uuid.NewString() }),
		"another handover":        sign(h.issuer, func(r *handover.Receipt) { r.HandoverID = uuid.NewString() }),
	} {
		t.Run(name, func(t *testing.T) {
			answer := call[apitype.ReceiptResponse](h.eu, write, "handover/receipt", body)
			var r handover.Receipt
			if err := handover.Unverified(answer.Receipt, handover.TypeReceipt, &r); err != nil || r.Step != handover.StepRefused || r.Code != apitype.HandoverUnknown {
				t.Errorf("%v: %+v", err, r)
			}
		})
	}
	if h.eu.dump() != before {
		t.Error("something was changed")
	}
	// The honest one may come any number of times, and in any order with those that follow.
	redeemed := sign(h.issuer, func(*handover.Receipt) {})
	connected := sign(h.issuer, func(r *handover.Receipt) { r.Step = handover.StepConnected })
	lapsed := sign(h.issuer, func(r *handover.Receipt) { r.Step = handover.StepLapsed })
	for n, c := range []struct {
		body data
		want handover.Step
	}{
		{redeemed, handover.StepReleased}, {redeemed, handover.StepReleased}, {connected, handover.StepCompleted}, {redeemed, handover.StepReleased},
		{lapsed, handover.StepRefused}, {connected, handover.StepCompleted},
	} {
		if got := call[apitype.ReceiptResponse](h.eu, write, "handover/receipt", c.body); got.Step != string(c.want) {
			t.Errorf("receipt %d is answered %s", n, got.Step)
		}
	}
	if got := h.eu.actions(data{"entity_type": "handover"}); len(got) != 3 {
		t.Errorf("events %v", got)
	}
}

func TestWhatAnAgentSaysOfItselfIsInNoEventAndNoError(t *testing.T) {
	eu, west := twoPeers(t)
	const mark = "s3cretmark"
	id := eu.redeem(data{
		"token": eu.issue(nil).Token, "csr": newCSR(t), "capabilities": apitype.CapabilityAcceptsOpAMP, "display_name": mark,
		"description": `{"identifyingAttributes":[{"key":"` + mark + `","value":{"stringValue":"` + mark + `"}}]}`,
	})
	moves(eu, west, id.AgentID, "west")
	eu.no(apitype.AgentMoved, write, "agents/"+id.AgentID+"/handover", data{"peer": "west"})
	for _, m := range []*mount{eu, west} {
		if strings.Contains(toText(t, m.events(nil)), mark) || strings.Contains(strings.Join(m.refused, "\n"), mark) || strings.Contains(m.log.String(), mark) {
			t.Error("it is")
		}
	}
}

func TestLabelsOfHostileDescriptions(t *testing.T) {
	h := newHostile(t)
	for description, want := range map[string][]string{
		"":                            {},
		"no JSON":                     {},
		`{"identifyingAttributes":7}`: {},
		`{"identifyingAttributes":[{"key":"a"}]}`:                                     {},
		`{"identifyingAttributes":[{"key":"a","value":{"intValue":"7"}}]}`:            {"a=7"},
		`{"nonIdentifyingAttributes":[{"key":"a","value":{"arrayValue":[1]}}]}`:       {"a=[1]"},
		`{"identifyingAttributes":[{"key":"a","value":{"stringValue":"\u001b["}}]}`:   {`a="\x1b["`},
		`{"identifyingAttributes":[{"key":"a\nb=c","value":{"stringValue":"d/\/"}}]}`: {`"a\nb=c"=d//`},
		strings.Repeat("[", 20000):                                                    {},
	} {
		token := h.token(h.issuer.Key, func(c *handover.Token) { c.Agent.Description = description })
		look := call[apitype.HandoverInspection](h.eu, write, "handover/inspect", data{"token": token})
		if !slices.Equal(look.Labels, want) {
			t.Errorf("%.80q has the labels %q", description, look.Labels)
		}
	}
}
