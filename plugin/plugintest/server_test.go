package plugintest

import (
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

func TestAClientIssuesAndReadsThroughTheServer(t *testing.T) {
	s := Start(t)
	s.Configure(t, "wss://localhost:4320/v1/opamp")
	c := s.Client(t)
	issued, err := c.IssueToken(t.Context(), apitype.TokenIssueRequest{Label: "first", TTL: 3600})
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Tokens(t.Context(), apitype.Page{})
	if err != nil || len(list.Keys) != 1 || list.KeyInfo[issued.TokenID].Label != "first" {
		t.Fatalf("list: %+v, %v", list, err)
	}
	if _, err := c.Token(t.Context(), "00000000-0000-8000-8000-000000000000"); apitype.CodeOf(err) != apitype.TokenUnknown {
		t.Fatalf("reading an unknown token: %v", err)
	}
	id, err := c.Redeem(t.Context(), apitype.RedeemRequest{Token: issued.Token, GenerateKey: true})
	if err != nil || id.PrivateKey == "" {
		t.Fatalf("redeeming: %v", err)
	}
	if _, err := c.RedeemCheck(t.Context(), apitype.RedeemCheckRequest{Token: issued.Token}); apitype.CodeOf(err) != apitype.TokenRedeemed {
		t.Fatalf("checking a spent token: %v", err)
	}
	events, err := c.Events(t.Context(), apitype.EventsRequest{AgentID: id.AgentID})
	if err != nil || len(events.Events) != 2 {
		t.Fatalf("events: %+v, %v", events, err)
	}
}
