package e2e

import (
	"path/filepath"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// TestEventsAndAuditDeviceTellTheSameStory joins the engine's events with the lines of Vault's audit device: by the request,
// and with the facts readable in both.
func TestEventsAndAuditDeviceTellTheSameStory(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	redeemed, revoked := in.token(), in.token()
	if _, err := in.engine.RevokeToken(in.ctx(), revoked.TokenID, apitype.RevokeRequest{Reason: "lost"}); err != nil {
		t.Fatal(err)
	}
	a := in.agent(e.endpoint("wss"), redeemed.Token, filepath.Join(in.dir, "agent"), "--exit-enrolled")
	kept := a.AwaitEnrolled()
	in.wantEnrolled(redeemed)
	must(t, in.engine.DeleteAgent(in.ctx(), kept.AgentID))

	requests, responses := map[string]auditLine{}, map[string]auditLine{}
	for _, line := range in.auditLines() {
		switch line.Type {
		case "request":
			requests[line.Request.ID] = line
		case "response":
			responses[line.Request.ID] = line
		}
	}
	page, err := in.engine.Events(in.ctx(), apitype.EventsRequest{Limit: 1000})
	must(t, err)
	// find returns the one event with the action about an entity, and the lines of the request that caused it.
	find := func(action, entity string) (apitype.Event, auditLine, auditLine) {
		t.Helper()
		for _, event := range page.Events {
			if event.Action != action || (event.EntityID != entity && event.AgentID != entity) {
				continue
			}
			request, asked := requests[event.RequestID]
			response, answered := responses[event.RequestID]
			if !asked || !answered {
				t.Fatalf("%s has the request id %q, which the audit device has not", action, event.RequestID)
			}
			return event, request, response
		}
		t.Fatalf("there is no event %s about %s in %s", action, entity, asJSON(page.Events))
		return apitype.Event{}, auditLine{}, auditLine{}
	}
	same := func(what string, got any, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %v, want %s", what, got, want)
		}
	}

	for _, issued := range []*apitype.IssuedToken{redeemed, revoked} {
		_, request, response := find(apitype.ActionTokenIssued, issued.TokenID)
		same("the path of the issue", request.Request.Path, "ampora/tokens/issue")
		same("the issued token's id", response.Response.Data["token_id"], issued.TokenID)
	}
	_, request, response := find(apitype.ActionTokenRevoked, revoked.TokenID)
	same("the path of the revocation", request.Request.Path, "ampora/tokens/"+revoked.TokenID+"/revoke")
	same("the reason", request.Request.Data["reason"], "lost")
	same("the revoked token's id", response.Response.Data["token_id"], revoked.TokenID)

	event, request, response := find(apitype.ActionTokenRedeemed, redeemed.TokenID)
	same("the path of the redemption", request.Request.Path, "ampora/redeem")
	same("the address of the agent", request.Request.Data["source_ip"], "127.0.0.1")
	same("the agent of the redemption", response.Response.Data["agent_id"], kept.AgentID)
	same("the serial number", response.Response.Data["serial_number"], kept.Serial)
	same("the agent in the event", event.AgentID, kept.AgentID)
	same("the actor's agent", event.Actor.AgentID, kept.AgentID)
	if event.Actor.DisplayName == "" {
		t.Error("the event does not say which edge redeemed")
	}
	issuedEvent, _, _ := find(apitype.ActionCertificateIssued, kept.AgentID)
	same("the request of the certificate", issuedEvent.RequestID, event.RequestID)

	event, request, _ = find(apitype.ActionAgentDeleted, kept.AgentID)
	same("the path of the deletion", request.Request.Path, "ampora/agents/"+kept.AgentID)
	same("the operation", request.Request.Operation, "delete")
	revocation, _, _ := find(apitype.ActionCertificateRevoked, kept.AgentID)
	same("the request of the revocation", revocation.RequestID, event.RequestID)
}
