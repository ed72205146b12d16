package enroll

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/store"
)

// InspectHandover says what a handover token is and what redeeming it would do. It changes nothing. What would be refused later
// is named among the problems; a token that cannot be trusted is an error.
func (e *Enroller) InspectHandover(ctx context.Context, tenant string, in apitype.HandoverRedeemRequest) (apitype.HandoverInspection, error) {
	var none apitype.HandoverInspection
	a, err := e.open(ctx, in)
	if err != nil {
		return none, err
	}
	peer, err := e.Peers.ByID(ctx, a.Token.Issuer)
	if err != nil {
		return none, err
	}
	defer e.Locks.Agent(a.rowID, "")()
	m, err := e.meet(ctx, a.rowID, "")
	if err != nil {
		return none, err
	}
	out, own := a.inspection(peer), m.agent
	if own != nil && own.Tenant != tenant { // nothing of it is told, or decides where the agent would land
		own = nil
		if a.home != nil && !inTenant(tenant, m.agent.Tenant) {
			out.AgentID, out.Known = "", false
		}
	}
	if out.Lineage, err = a.Hops(keys{ctx, e.Peers}); err != nil {
		return none, err
	}
	err = e.mayArrive(ctx, tenant, peer, m, a)
	if err != nil {
		if apitype.CodeOf(err) == "" || store.UnknownOutcome(err) {
			return none, err
		}
		out.Problems = append(out.Problems, err.Error())
	}
	if a.redeemed(own) {
		out.State, out.Group, out.Configuration, out.ConfigExists = string(own.In.State), own.In.Group, own.In.Configuration, true
		return out, nil
	}
	to, release, err := e.holdLanding(ctx, tenant, peer, own, a)
	switch {
	case err == nil:
		release()
		out.Group, out.ConfigExists = to.group, true
		if out.Configuration = to.configuration; out.Configuration == "" {
			out.Configuration, err = e.groupGives(ctx, tenant, to.group)
		}
	case apitype.CodeOf(err) != "" && !store.UnknownOutcome(err):
		out.Problems, err = append(out.Problems, err.Error()), nil
	}
	return out, err
}

// inspection is what the token says.
func (a *arrival) inspection(peer *federation.Peer) apitype.HandoverInspection {
	agent := a.Token.Agent
	return apitype.HandoverInspection{
		HandoverID: a.Token.ID, Peer: peer.Name, SourcePeerID: a.Token.Issuer, SourceAgentID: agent.AgentID, SPIFFEID: a.Token.Subject,
		DisplayName: agent.DisplayName, InstanceUID: agent.InstanceUID, Description: agent.Description, Labels: labels(agent.Description),
		Capabilities: capabilityNames(agent.Capabilities), Fingerprint: a.Identity.Fingerprint, Expiration: a.Leaf.NotAfter.Unix(),
		ExpiresAt: formatTime(time.Unix(a.Token.Expires, 0)), AgentID: a.rowID, Known: a.home != nil,
		ClaimedGroup: agent.Group, ClaimedConfig: agent.Configuration, Lineage: []apitype.Hop{}, Problems: []string{},
	}
}

// labels are the attributes of an OpAMP AgentDescription in its JSON form, as key=value, sorted. They are of the agent's choosing:
// what a terminal would not show as it is stands in quotes.
func labels(description string) []string {
	type attribute struct {
		Key   string                     `json:"key"`
		Value map[string]json.RawMessage `json:"value"`
	}
	var d struct {
		Identifying    []attribute `json:"identifyingAttributes"`
		NonIdentifying []attribute `json:"nonIdentifyingAttributes"`
	}
	all := []string{}
	if json.Unmarshal([]byte(description), &d) != nil {
		return all
	}
	for _, l := range append(d.Identifying, d.NonIdentifying...) {
		for _, value := range l.Value {
			text := ""
			if json.Unmarshal(value, &text) != nil { // a number, a list, ...
				text = string(value)
			}
			all = append(all, visible(l.Key)+"="+visible(text))
		}
	}
	slices.Sort(all)
	return all
}

// visible quotes a text that holds what cannot be seen.
func visible(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// capabilityNames names the bits of OpAMP's AgentCapabilities.
func capabilityNames(bits uint64) []string {
	names := []string{}
	for bit, text := range agentCapabilities {
		if bits&(1<<bit) != 0 {
			names = append(names, text)
		}
	}
	return names
}

// agentCapabilities are the names of the bits, in their order (OpAMP specification, AgentToServer.capabilities).
var agentCapabilities = []string{
	"ReportsStatus", "AcceptsRemoteConfig", "ReportsEffectiveConfig", "AcceptsPackages", "ReportsPackageStatuses", "ReportsOwnTraces",
	"ReportsOwnMetrics", "ReportsOwnLogs", "AcceptsOpAMPConnectionSettings", "AcceptsOtherConnectionSettings", "AcceptsRestartCommand",
	"ReportsHealth", "ReportsRemoteConfig", "ReportsHeartbeat", "ReportsAvailableComponents", "ReportsConnectionSettingsStatus",
}
