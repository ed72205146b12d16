package enroll

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/google/uuid"
)

// HandoverManifest signs the list of the tokens of a handover file. Each has to be a handover of ours to that peer, of an agent of
// the path's tenant, and of the group, if that is given. It changes nothing, and stores nothing.
// Errors: field_invalid, peer_unknown, peer_suspended, handover_unknown, not_configured, issuer_missing.
func (e *Enroller) HandoverManifest(ctx context.Context, tenant string, in apitype.HandoverManifestRequest) (apitype.HandoverManifest, error) {
	var none apitype.HandoverManifest
	if n := len(in.HandoverIDs); n == 0 || n > handover.MaxFileTokens {
		return none, apitype.Errorf(apitype.FieldInvalid, "handover_ids must have 1 to %d entries", handover.MaxFileTokens)
	}
	if in.Group != "" {
		if err := name.Check("group", in.Group); err != nil {
			return none, err
		}
	}
	self, err := e.Peers.Self(ctx)
	if err != nil {
		return none, err
	}
	peer, unhold, err := e.Peers.Hold(ctx, in.Peer)
	if err != nil {
		return none, err
	}
	defer unhold()
	claims := handover.Manifest{Issuer: self, Audience: peer.PeerID, ID: uuid.NewString(), IssuedAt: e.Now().Unix(), Group: in.Group}
	ends, err := e.listTokens(ctx, tenant, peer, in, &claims)
	if err != nil {
		return none, err
	}
	claims.Expires = ends.Unix()
	signed, err := e.Peers.Sign(ctx, peer, handover.TypeManifest, claims)
	if err != nil {
		return none, err
	}
	return apitype.HandoverManifest{Manifest: signed, ManifestID: claims.ID, Count: len(claims.Entries), ExpiresAt: formatTime(ends)}, nil
}

// listTokens puts the handovers into the manifest, and answers when the first of their tokens ends.
func (e *Enroller) listTokens(ctx context.Context, tenant string, peer *federation.Peer, in apitype.HandoverManifestRequest, m *handover.Manifest) (ends time.Time, err error) {
	listed := make(map[string]bool, len(in.HandoverIDs))
	for _, id := range in.HandoverIDs {
		given, err := e.givenToken(ctx, tenant, id)
		if err != nil {
			return ends, err
		}
		switch {
		case given == nil || given.peerID != peer.PeerID:
			return ends, apitype.Errorf(apitype.HandoverUnknown, "there is no handover with the id %s to peer %s, and nothing was signed", id, peer.Name)
		case in.Group != "" && given.group != in.Group:
			return ends, apitype.Errorf(apitype.FieldInvalid, "the agent of handover %s was not in the group %s", id, in.Group)
		case listed[id]:
			return ends, apitype.Errorf(apitype.FieldInvalid, "handover_ids names %s twice", id)
		}
		listed[id] = true
		m.Entries = append(m.Entries, handover.ManifestEntry{HandoverID: id, TokenHash: given.tokenHash})
		ends = soonest(ends, given.expiresAt)
	}
	return ends, nil
}

// givenToken is a handover token of ours, as far as its row says.
type givenToken struct {
	peerID, tokenHash, group string
	expiresAt                time.Time
}

// givenToken reads what stands of a handover away from here, nil when there is none of that id within reach of the path. It takes
// no lock: nothing of it ever changes.
func (e *Enroller) givenToken(ctx context.Context, tenant, id string) (*givenToken, error) {
	if err := name.CheckID(id, apitype.HandoverUnknown); err != nil {
		return nil, err
	}
	pointer, err := get[handoverRow](ctx, e, store.HandoverPrefix, id)
	if err != nil || pointer == nil || pointer.Side != apitype.HandoverSource {
		return nil, err
	}
	row, err := get[agentRow](ctx, e, store.AgentPrefix, pointer.AgentID)
	if err != nil {
		return nil, err
	}
	if row.lastHandover(id) == apitype.HandoverSource && inTenant(tenant, row.Tenant) {
		o := row.Out
		return &givenToken{o.PeerID, o.TokenHash, o.Group, o.ExpiresAt}, nil
	}
	final := pointer.Final
	if final == nil || !inTenant(tenant, final.Tenant) {
		return nil, nil
	}
	ends, err := time.Parse(time.RFC3339, final.ExpiresAt)
	return &givenToken{pointer.PeerID, pointer.TokenHash, final.Group, ends}, err
}

// HandoverProgress says how far the handovers of a manifest have come on this side: the one that has signed it, or the one that it
// is for. Steps that have become due are taken, as whoever looks at a handover does.
// Errors: field_invalid, handover_malformed, handover_signature_invalid, handover_wrong_audience, peer_unknown.
func (e *Enroller) HandoverProgress(ctx context.Context, tenant string, in apitype.HandoverProgressRequest) (apitype.HandoverProgress, error) {
	out := apitype.HandoverProgress{Handovers: []apitype.HandoverStanding{}, Counts: map[string]int{}}
	if in.Limit < 0 || in.Limit > apitype.MaxProgressPart {
		return out, apitype.Errorf(apitype.FieldInvalid, "limit must be 1 to %d", apitype.MaxProgressPart)
	}
	m, other, err := e.openManifest(ctx, in.Manifest, &out)
	if err != nil {
		return out, err
	}
	out.ManifestID, out.Group, out.Total = m.ID, m.Group, len(m.Entries)
	entries, err := entriesAfter(m.Entries, in.After)
	if err != nil {
		return out, err
	}
	most := apitype.MaxProgressPart
	if in.Limit > 0 {
		most = in.Limit
	}
	if len(entries) > most {
		entries, out.NextAfter = entries[:most], entries[most-1].HandoverID
	}
	ids := make([]string, len(entries))
	for n, entry := range entries {
		ids[n] = entry.HandoverID
	}
	all := make([]apitype.HandoverStanding, len(ids))
	err = eachAgent(ids, func(n int, id string) (err error) {
		all[n], err = e.standing(ctx, tenant, id, out.Side, other)
		return err
	})
	if err != nil {
		return out, err
	}
	out.Handovers = all
	for _, s := range all {
		if s.State == "" {
			s.State = apitype.StateAbsent
		}
		out.Counts[s.State]++
	}
	return out, nil
}

// openManifest checks who has signed a manifest, and finds which side we are, and who is the other one.
func (e *Enroller) openManifest(ctx context.Context, text string, out *apitype.HandoverProgress) (m *handover.Manifest, other string, err error) {
	if m, err = handover.ReadManifest(text); err != nil {
		return nil, "", err
	}
	self, err := e.Peers.Self(ctx)
	if err != nil {
		return nil, "", err
	}
	var keys []*x509.Certificate
	switch self {
	case m.Issuer:
		out.Side, other = apitype.HandoverSource, m.Audience
		set, err := e.Authority.Set(ctx)
		if err != nil {
			return nil, "", err
		}
		for _, issuer := range set.Signers() {
			keys = append(keys, issuer.Certificate)
		}
	case m.Audience:
		out.Side, other = apitype.HandoverTarget, m.Issuer
	default:
		return nil, "", apitype.Errorf(apitype.HandoverWrongAudience, "the manifest is between two others")
	}
	peer, err := e.Peers.ByID(ctx, other)
	switch {
	case err == nil:
		out.Peer = peer.Name
		if out.Side == apitype.HandoverTarget {
			keys = peer.Pinned
		}
	case out.Side == apitype.HandoverTarget || apitype.CodeOf(err) != apitype.PeerUnknown: // at the source it may be gone by now
		return nil, "", err
	}
	var signed handover.Manifest
	return m, other, handover.Verify(text, handover.TypeManifest, keys, &signed)
}

// entriesAfter are the entries behind the one of that handover.
func entriesAfter(entries []handover.ManifestEntry, after string) ([]handover.ManifestEntry, error) {
	if after == "" {
		return entries, nil
	}
	for n, entry := range entries {
		if entry.HandoverID == after {
			return entries[n+1:], nil
		}
	}
	return nil, apitype.Errorf(apitype.FieldInvalid, "after is no next_after of an answer")
}

// standing is how far one handover between here and the other side has come, without a state when this side does not have it.
func (e *Enroller) standing(ctx context.Context, tenant, id, side, other string) (apitype.HandoverStanding, error) {
	absent := apitype.HandoverStanding{HandoverID: id}
	is, err := e.lastOrFinal(ctx, tenant, id, side)
	if err != nil || is == nil || is.peerID != other || is.info.Side != side {
		return absent, err
	}
	h := is.info
	return apitype.HandoverStanding{
		HandoverID: id, AgentID: h.AgentID, DisplayName: h.DisplayName, State: h.State, Since: h.Since, Code: h.Code,
	}, nil
}

// lastOrFinal is the handover as its agent's row has it, brought up to date, or what became of it; nil when there is none.
func (e *Enroller) lastOrFinal(ctx context.Context, tenant, id, side string) (*finished, error) {
	m, release, err := e.metHandover(ctx, tenant, id, side)
	if err == nil {
		defer release()
		m, err = e.bringUpToDate(ctx, m)
	}
	switch {
	case apitype.CodeOf(err) == apitype.HandoverUnknown:
	case err != nil:
		return nil, err
	case m.agent != nil && side == apitype.HandoverSource:
		return m.agent.outInfo(), nil
	case m.agent != nil:
		return m.agent.inInfo(), nil
	}
	row, err := get[handoverRow](ctx, e, store.HandoverPrefix, id)
	if err != nil || row == nil || row.Final == nil || !inTenant(tenant, row.Final.Tenant) {
		return nil, err
	}
	return &finished{info: *row.Final, peerID: row.PeerID, tokenHash: row.TokenHash}, nil
}
