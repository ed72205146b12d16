package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// look is what documents are looked at with: a clock, and what is known of the peer.
type look struct {
	now  time.Time
	peer *handover.PeerKeys // nil without its bundle
}

// inspectDocument looks at what peers sign. It answers false for what is none of it.
func inspectDocument(data []byte, l look) (Item, bool) {
	text := strings.TrimSpace(string(data))
	if card, found := cardIn(data); found {
		return cardItem(card, l), true
	}
	if !isDocument(text) {
		return Item{}, false
	}
	var receipt handover.Receipt
	if handover.Unverified(text, handover.TypeReceipt, &receipt) == nil {
		return receiptItem(text, receipt, l), true
	}
	var bundle handover.Bundle
	if handover.Unverified(text, handover.TypeBundle, &bundle) == nil {
		return bundleItem(text, bundle, l), true
	}
	return tokenItem(text, l), true
}

// isDocument tells compact JWS, also with white space in it, from other text: every one begins with {" in base64.
func isDocument(text string) bool {
	first, _, found := strings.Cut(text, ".")
	return found && strings.HasPrefix(text, "eyJ") && !strings.ContainsAny(first, " {\"'")
}

// cardIn finds an installation's card in JSON, also inside the whole answer of Vault.
func cardIn(data []byte) (apitype.FederationBundle, bool) {
	var answer struct {
		apitype.FederationBundle
		Data *apitype.FederationBundle `json:"data"`
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) || json.Unmarshal(data, &answer) != nil {
		return apitype.FederationBundle{}, false
	}
	card := answer.FederationBundle
	if answer.Data != nil {
		card = *answer.Data
	}
	return card, card.BundleJWS != "" || card.CABundle != "" && card.PeerID != ""
}

// tokenItem looks at a handover token: with the bundle of its source by the rules of the target, else by its shape.
func tokenItem(text string, l look) Item {
	item := Item{Kind: KindHandoverToken}
	o, err := handover.Read(text)
	if err != nil {
		item.Problem = problemOf(err)
		if joined := strings.Join(strings.Fields(text), ""); joined != text {
			item.Guesses = append(item.Guesses, "there are line breaks or blanks inside")
			if _, err := handover.Read(joined); err == nil {
				item.Guesses = append(item.Guesses, "nothing else is wrong: without that it is intact")
			}
		}
		return item
	}
	tokenFields(&item.Fields, o, l.now)
	item.Intact = true
	switch {
	case l.peer == nil:
		item.Fields.add("signature", notChecked)
		if l.now.After(time.Unix(o.Token.Expires, 0)) {
			item.Intact, item.Problem = false, string(apitype.HandoverExpired)+": its time is over"
		}
	default:
		if _, err := handover.Open(text, o.Token.Audience, onePeer{*l.peer}, l.now); err != nil {
			item.Intact, item.Problem = false, problemOf(err)
		} else {
			item.Fields.add("signature", "good: by a key in the bundle of "+l.peer.PeerID)
		}
	}
	return item
}

const notChecked = "not checked: give the sender's bundle file with --bundle"

func tokenFields(f *Fields, o *handover.Opened, now time.Time) {
	t, agent := o.Token, o.Token.Agent
	f.add("handover_id", t.ID)
	f.add("from", t.Issuer)
	f.add("to", t.Audience)
	f.add("target", t.Target.Name)
	f.add("target_endpoint", t.Target.Endpoint)
	f.add("source_endpoint", t.Source.Endpoint)
	f.add("agent_id", agent.AgentID)
	f.add("display_name", agent.DisplayName)
	f.add("instance_uid", agent.InstanceUID)
	f.add("spiffe_id", t.Subject)
	f.add("tenant", agent.Tenant)
	f.add("group", agent.Group)
	f.add("configuration", agent.Configuration)
	f.add("fingerprint", fingerprint(o.Leaf))
	f.add("certificate_until", rfc3339(o.Leaf.NotAfter))
	f.add("issued_at", rfc3339(time.Unix(t.IssuedAt, 0)))
	f.add("expires_at", rfc3339(time.Unix(t.Expires, 0)))
	if left := time.Unix(t.Expires, 0).Sub(now); left > 0 {
		f.add("valid_for", lasting(left))
	}
	f.add("token_hash", o.Hash)
	f.add("source_event", t.Audit)
	for i, hop := range o.ClaimedHops() {
		f.add(fmt.Sprintf("came_%d", i+1), fmt.Sprintf("%s from %s to %s (%s)", hop.Time, hop.From, hop.To, hop.HandoverID))
	}
}

func receiptItem(text string, r handover.Receipt, l look) Item {
	item := Item{Kind: KindReceipt, Intact: true}
	f := &item.Fields
	f.add("step", string(r.Step))
	f.add("from", r.Issuer)
	f.add("to", r.Audience)
	f.add("handover_id", r.HandoverID)
	f.add("agent_id", r.AgentID)
	f.add("target_agent_id", r.TargetAgentID)
	f.add("code", string(r.Code))
	if r.Sequence != 0 {
		f.add("seq", r.Sequence)
	}
	f.add("signed_at", rfc3339(time.Unix(r.IssuedAt, 0)))
	f.add("token_hash", r.TokenHash)
	f.add("event", r.Event)
	if r.Step == "" || r.Issuer == "" || r.Audience == "" {
		item.Intact, item.Problem = false, "it does not say who tells whom what"
		return item
	}
	signature(&item, r.Issuer, l, func(p *handover.PeerKeys) error {
		return handover.Verify(text, handover.TypeReceipt, p.Pinned, &handover.Receipt{})
	})
	return item
}

// signature checks a document with the peer's bundle, if that is given.
func signature(item *Item, issuer string, l look, verify func(*handover.PeerKeys) error) {
	switch {
	case l.peer == nil:
		item.Fields.add("signature", notChecked)
	case l.peer.PeerID != "" && l.peer.PeerID != issuer:
		item.Intact, item.Problem = false, "it claims to be from "+issuer+", and the bundle is that of "+l.peer.PeerID
	default:
		if err := verify(l.peer); err != nil {
			item.Intact, item.Problem = false, problemOf(err)
			return
		}
		item.Fields.add("signature", "good: by a key in the bundle of "+issuer)
	}
}

// onePeer is a peer that is known from its bundle file.
type onePeer struct{ keys handover.PeerKeys }

func (p onePeer) ByID(peerID string) (handover.PeerKeys, error) {
	if p.keys.PeerID != peerID {
		return handover.PeerKeys{}, apitype.Errorf(apitype.PeerUnknown, "the bundle is that of another peer")
	}
	return p.keys, nil
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
