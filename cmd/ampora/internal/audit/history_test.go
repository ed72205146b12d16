package audit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
)

// TestARingIsOneHistory moves an agent through three installations and home again.
func TestARingIsOneHistory(t *testing.T) {
	f := federation(t, "eu", "us", "asia")
	eu, us, asia := f[0], f[1], f[2]
	home := eu.enrols(t)
	other := eu.enrols(t) // who stays is in nobody's history but its own
	inUS := moves(t, eu, us, home)
	inAsia := moves(t, us, asia, inUS)
	if back := moves(t, asia, eu, inAsia); back != home {
		t.Fatalf("it came home as %s", back)
	}

	eu.inside(t)
	peers := []string{us.flag(t), asia.flag(t)}
	out, said, err := history(t, HistoryCmd{Agent: home, Peer: peers, JSON: true})
	if err != nil || said != "" {
		t.Fatalf("%v, %s", err, said)
	}
	all := entries(t, out)
	if !slices.IsSortedFunc(all, func(a, b entry) int { return strings.Compare(a.Time, b.Time) }) {
		t.Error("it is not in order")
	}
	var way []string
	ids := map[string]string{"eu": home, "us": inUS, "asia": inAsia}
	for _, e := range all {
		if e.AgentID != ids[e.At] || e.AgentID == other {
			t.Errorf("%s at %s is about agent %s", e.Action, e.At, e.AgentID)
		}
		if e.Action == apitype.ActionHandoverConnected || e.Action == apitype.ActionTokenRedeemed || e.Action == apitype.ActionCertificateRenewed {
			way = append(way, e.At+" "+e.Action)
		}
	}
	want := []string{
		"eu Token.Redeemed", "us Handover.Connected", "us Certificate.Renewed", "asia Handover.Connected", "asia Certificate.Renewed",
		"eu Handover.Connected", "eu Certificate.Renewed",
	}
	if !slices.Equal(way, want) {
		t.Errorf("%q", way)
	}

	// From whichever side it begins, and by the name that it has there, it is the same.
	for _, at := range f {
		at.inside(t)
		var flags []string
		for _, p := range f {
			if p != at {
				flags = append(flags, p.flag(t))
			}
		}
		if same, _, err := history(t, HistoryCmd{Agent: inUS, Peer: flags, JSON: true}); err != nil || len(entries(t, same)) != len(all) {
			t.Errorf("asked at %s: %v, %d of %d events", at.id, err, len(entries(t, same)), len(all))
		}
	}

	// And from files, where no Vault is asked.
	files := []string{"eu=" + eu.export(t), us.export(t), asia.export(t)}
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	exported, _, err := history(t, HistoryCmd{Agent: inAsia, File: files, Offline: true, JSON: true})
	if err != nil || len(entries(t, exported)) != len(all) {
		t.Errorf("from files: %v, %d of %d events", err, len(entries(t, exported)), len(all))
	}
	table, said, err := history(t, HistoryCmd{Agent: home, File: files[:2], Offline: true})
	if err != nil || !strings.HasPrefix(table, "TIME") || !strings.Contains(table, "Handover.Connected") || !strings.Contains(table, "handover=") {
		t.Errorf("%v\n%s", err, table)
	}
	if !strings.Contains(said, "not shown: what happened at asia") || strings.Contains(said, "at eu") {
		t.Errorf("what is missing is not said: %q", said)
	}
}

func TestAHandoverThatNobodyTookIsNoGap(t *testing.T) {
	f := federation(t, "eu", "us")
	eu, us := f[0], f[1]
	id := eu.enrols(t)
	handed := good(eu.Handover(t.Context(), id, apitype.HandoverRequest{Peer: us.id}))(t)
	eu.inside(t)
	out, said, err := history(t, HistoryCmd{Agent: id})
	if err != nil || said != "" || !strings.Contains(out, "Handover.Issued") {
		t.Errorf("%v, %q\n%s", err, said, out)
	}
	good(us.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: handed.HandoverToken}))(t)
	carry(t, us, eu)
	if _, said, err = history(t, HistoryCmd{Agent: id}); err != nil || !strings.Contains(said, "what happened at us") {
		t.Errorf("%v, %q", err, said)
	}
	_, _, err = history(t, HistoryCmd{Agent: "00000000-0000-4000-8000-000000000000"})
	if err == nil || !strings.Contains(err.Error(), "no event") {
		t.Errorf("%v", err)
	}
}

func TestWhatHistoryIsNotGivenRightIsSaid(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const id = "630dcd29-66c4-8366-9112-5448bbb25b4f"
	token := write("token", "hvs.x")
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	t.Setenv("VAULT_TOKEN", "hvs.mine")
	for says, c := range map[string]HistoryCmd{
		"no agent id":             {Agent: "edge-7"},
		"--offline asks no Vault": {Agent: id, Offline: true},
		"and no --peer":           {Agent: id, Offline: true, File: []string{write("a.json", "[]")}, Peer: []string{"a=b"}},
		"--peer has no name":      {Agent: id, Peer: []string{"https://vault.example:8200"}},
		"begins with https":       {Agent: id, Peer: []string{"us=vault.example:8200"}},
		"a token for that Vault":  {Agent: id, Peer: []string{"us=https://vault.example:8200"}},
		"not understood":          {Agent: id, Peer: []string{"us=https://vault.example:8200,token=hvs.x"}},
		"no file":                 {Agent: id, Peer: []string{"us=https://vault.example:8200,token-file=" + filepath.Join(dir, "none")}},
		"ca-cert":                 {Agent: id, Peer: []string{"us=https://vault.example:8200,token-file=" + token + ",ca-cert=" + token}},
		"no exported audit trail": {Agent: id, Offline: true, File: []string{write("b.json", `{"a":1}`)}},
		"it is no JSON":           {Agent: id, Offline: true, File: []string{write("c.json", "TIME ACTION")}},
		"no event of that agent":  {Agent: id, Offline: true, File: []string{write("d.json", "[]")}},
	} {
		_, _, err := history(t, c)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
		if err != nil && strings.Contains(err.Error(), "hvs.") {
			t.Errorf("%s: a token is told: %v", says, err)
		}
	}
}

func TestATrailIsReadHoweverItWasExported(t *testing.T) {
	events := []apitype.Event{{ID: "2", Action: "Agent.Updated", Time: "2026-03-01T12:00:01.000Z"}, {ID: "1", Action: "Token.Redeemed", Time: "2026-03-01T12:00:00.000Z"}}
	one, two := string(asJSON(t, events[0])), string(asJSON(t, events[1]))
	for name, text := range map[string]string{
		"lines": one + "\n" + two + "\n", "a list": string(asJSON(t, events)), "an answer": string(asJSON(t, apitype.EventsResponse{Events: events})),
		"the whole answer": string(asJSON(t, map[string]any{"request_id": "x", "data": apitype.EventsResponse{Events: events}})),
		"pages":            `{"events":[` + one + `]}{"events":[` + two + `]}`,
	} {
		got, err := parseEvents([]byte(text))
		if err != nil || len(got) != 2 || got[0].ID != "2" || got[1].ID != "1" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"1", `"a"`, "null", `{"data":7}`, "[1]", "{", `{"events":null}`} {
		if got, err := parseEvents([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
	if got, err := parseEvents(nil); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// FuzzParseEvents: whatever is read can be written and read again.
func FuzzParseEvents(f *testing.F) {
	f.Add(`{"id":"1","action":"Token.Redeemed"}`)
	f.Add(`[{"id":"1"}]{"data":{"events":[{}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		events, err := parseEvents([]byte(text))
		if err != nil {
			return
		}
		written, err := json.Marshal(events)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseEvents(written); err == nil && len(again) != len(events) {
			t.Fatalf("%d and %d", len(again), len(events))
		}
	})
}
