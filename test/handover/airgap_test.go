package handover

import (
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// airGap moves an agent between two regions whose edges cannot reach each other: people carry four strings.
func airGap(t *testing.T, all []*region) {
	north, south := all[0], all[1]
	for _, pair := range [][2]*region{{north, south}, {south, north}} {
		pair[0].federation.Down()
		pair[0].run("vault", "write", "ampora/peers/"+pair[1].name, "federation_url=")
	}
	a := north.agent("wss")
	paste := func(r *region, field, path, value string) string {
		t.Helper()
		return strings.TrimSpace(r.run("vault", "write", "-field="+field, path, value))
	}
	token := paste(north, "handover_token", "ampora/agents/"+a.id+"/handover", "peer=south")
	redeemed := paste(south, "receipt", "ampora/handover/redeem", "token="+token)
	released := paste(north, "receipt", "ampora/handover/receipt", "receipt="+redeemed)
	there := strings.TrimSpace(south.run("vault", "write", "-field=handover_id", "ampora/handover/receipt", "receipt="+released))
	h := south.awaitHandover(there, "active")
	connected := strings.TrimSpace(south.run("vault", "read", "-field=receipt", "ampora/handovers/"+h.HandoverID))
	completed := paste(north, "receipt", "ampora/handover/receipt", "receipt="+connected)
	paste(south, "state", "ampora/handover/receipt", "receipt="+completed)

	if row := north.row(a.id); row.StateText != "MovedToPeer south" {
		t.Errorf("the row at the source is %s", asJSON(row))
	}
	if row := south.row(h.AgentID); row.State != apitype.AgentStateActive || row.Origin != "north" {
		t.Errorf("the row at the target is %s", asJSON(row))
	}
	if left := south.handover(h.HandoverID); left.Receipt != "" {
		t.Errorf("a receipt still waits: %s", asJSON(left))
	}
	joined(t, north, south, a.id, h.AgentID)
}
