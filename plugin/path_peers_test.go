package ampora_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// installation is a mount of another installation of that peer_id.
func installation(t *testing.T, peerID string) *mount {
	t.Helper()
	m := newMount(t)
	m.ok(write, "config", data{
		"peer_id": peerID, "trust_domain": peerID + ".example", "endpoint": "wss://" + peerID + ".example:4320/v1/opamp",
		"federation_url": "https://" + peerID + ".example:4320/federation",
	})
	m.ok(write, "ca/root", nil)
	return m
}

// befriend makes an installation the mount's peer of that name, and answers it.
func befriend(m *mount, peerID string) *mount {
	m.Helper()
	other := installation(m.T, peerID)
	m.ok(write, "peers/"+peerID, fields(m, other.bundle()))
	return other
}

func (m *mount) bundle() apitype.FederationBundle {
	m.Helper()
	return call[apitype.FederationBundle](m, read, "federation/bundle", nil)
}

func (m *mount) peer(name string) apitype.Peer {
	m.Helper()
	return call[apitype.Peer](m, read, "peers/"+name, nil)
}

// rotate makes a new issuer the one that signs.
func (m *mount) rotate() {
	m.Helper()
	m.clock.advance(time.Second)
	next := call[apitype.CAIssuer](m, write, "ca/root", nil)
	m.ok(write, "ca/issuers/"+next.IssuerID, data{"state": "active"})
}

// fields is an answer as a file of it is written back: every field, also those that nobody asks for.
func fields(m *mount, value any) data {
	m.Helper()
	var out data
	if err := json.Unmarshal([]byte(toText(m, value)), &out); err != nil {
		m.Fatal(err)
	}
	return out
}

func TestAPeerIsMadeOfTheOtherSidesBundleFile(t *testing.T) {
	m := installation(t, "us")
	eu := installation(t, "eu")
	file := fields(m, eu.bundle())
	file["something_new"] = "of a later version"
	m.storage.Reset()
	made := decodeAnswer[apitype.Peer](m, m.ok(write, "peers/eu", file))
	if w := m.storage.Writes(); len(w) != 2 || w[0].Key != "peer/-/eu" || !strings.HasPrefix(w[1].Key, "event/") {
		t.Errorf("making a peer wrote %v", w)
	}
	at, card := m.clock.now().Format(time.RFC3339), eu.bundle()
	want := apitype.Peer{
		Name: "eu", PeerID: "eu", TrustDomain: card.TrustDomain, Endpoint: card.Endpoint, EndpointCABundle: card.CABundle,
		FederationURL: card.FederationURL, CABundle: card.CABundle, AllowedTenants: []string{"*"}, AllowedGroups: []string{"*"},
		AllowedConfigurations: []string{"*"}, BundleSequence: made.BundleSequence, BundleTime: at, CreatedAt: at, UpdatedAt: at, Reachability: []apitype.PeerReach{},
	}
	if !equalJSON(t, made, want) || made.BundleSequence == 0 {
		t.Errorf("%+v", made)
	}
	m.storage.Reset()
	if again := call[apitype.Peer](m, write, "peers/eu", file); !equalJSON(t, again, want) || len(m.storage.Writes()) != 0 {
		t.Errorf("the same file again: %+v wrote %v", again, m.storage.Writes())
	}
	m.clock.advance(time.Minute)
	changed := call[apitype.Peer](m, write, "peers/eu", data{"allowed_groups": "web, db", "allowed_tenants": ""})
	want.AllowedGroups, want.AllowedTenants, want.UpdatedAt = []string{"web", "db"}, []string{}, m.clock.now().Format(time.RFC3339)
	if !equalJSON(t, changed, want) || !equalJSON(t, m.peer("eu"), want) {
		t.Errorf("%+v", changed)
	}
	befriend(m, "asia")
	for op, body := range map[string]data{"all": nil, "a page": {"limit": 1}} {
		l := call[apitype.ListResponse[apitype.Peer]](m, read, "peers", body)
		if op == "all" && (!slices.Equal(l.Keys, []string{"asia", "eu"}) || !equalJSON(t, l.KeyInfo["eu"], want)) || op != "all" && l.NextAfter != "asia" {
			t.Errorf("%s: %+v", op, l)
		}
	}
	if l := call[apitype.ListResponse[apitype.Peer]](m, list, "peers", nil); len(l.Keys) != 2 {
		t.Errorf("%+v", l)
	}
	m.ok(remove, "peers/eu", nil)
	m.ok(remove, "peers/eu", nil)
	m.no(apitype.PeerUnknown, read, "peers/eu", nil)
	if got := m.actions(data{"entity_type": "peer", "entity_id": "eu"}); !slices.Equal(got, []string{"Peer.Deleted", "Peer.Updated", "Peer.Created"}) {
		t.Errorf("events %v", got)
	}
}

func TestOurOwnPeerIDIsNoPeers(t *testing.T) {
	m := newMount(t)
	eu := installation(t, "eu")
	m.ok(write, "peers/eu", fields(m, eu.bundle()))
	if e := m.no(apitype.InUse, write, "config", data{"peer_id": "eu"}); !strings.Contains(e.Detail, "peer eu has this peer_id") {
		t.Error(e)
	}
	m.ok(write, "config", data{"peer_id": "us"})
	m.no(apitype.NotConfigured, read, "federation/bundle", nil)
	m.ok(write, "config", data{"trust_domain": "us.example", "endpoint": "wss://us.example/v1/opamp"})
	m.no(apitype.IssuerMissing, read, "federation/bundle", nil)
	m.ok(write, "ca/root", nil)
	m.no(apitype.FieldInvalid, write, "peers/us", fields(m, m.bundle()))
	m.no(apitype.NameInvalid, write, "peers/Us", fields(m, m.bundle()))
}

func TestEdgesHearOfPeersAtOnce(t *testing.T) {
	m := installation(t, "us")
	all := func(since string) apitype.SyncResponse { t.Helper(); return m.sync(since) }
	first := all("")
	if first.Peers == nil || len(first.Peers) != 0 {
		t.Errorf("a snapshot without peers: %+v", first.Peers)
	}
	eu := befriend(m, "eu")
	made := all(first.Revision)
	if made.Full || len(made.Peers) != 1 || made.Peers[0].Name != "eu" || made.Peers[0].CABundle != eu.bundle().CABundle || made.Peers[0].Suspended {
		t.Errorf("%+v", made)
	}
	m.ok(write, "config", data{"token_ttl": "2h"})
	settings := all(made.Revision)
	if settings.Peers != nil || settings.Settings == nil {
		t.Errorf("peers in a delta that is not of them: %+v", settings)
	}
	eu.rotate()
	m.ok(write, "peers/eu/bundle", data{"bundle_jws": eu.bundle().BundleJWS})
	followed := all(settings.Revision)
	if len(followed.Peers) != 1 || followed.Peers[0].CABundle != eu.bundle().CABundle || followed.Peers[0].BundleSequence <= made.Peers[0].BundleSequence {
		t.Errorf("%+v", followed)
	}
	m.ok(write, "peers/eu", data{"suspended": true})
	suspended := all(followed.Revision)
	if len(suspended.Peers) != 1 || !suspended.Peers[0].Suspended {
		t.Errorf("%+v", suspended)
	}
	m.ok(remove, "peers/eu", nil)
	if gone := all(suspended.Revision); gone.Peers == nil || len(gone.Peers) != 0 {
		t.Errorf("the last peer has gone: %+v", gone)
	}
	// Another node made it.
	m.ok(write, "peers/eu", fields(m, eu.bundle()))
	at := all("").Revision
	m.backend.InvalidateKey(t.Context(), "peer/-/eu")
	if again := all(at); len(again.Peers) != 1 {
		t.Errorf("%+v", again)
	}
}

func TestAPeerShowsHowEdgesLastFoundIt(t *testing.T) {
	m := installation(t, "us")
	befriend(m, "eu")
	checked := m.clock.now().Unix()
	up := apitype.PeerReport{Name: "eu", Up: true, LatencyMS: 12, CheckedAt: checked, CRLTime: checked - 60}
	down := apitype.PeerReport{Name: "eu", Error: "the connection was refused", CheckedAt: checked - 5}
	stranger := apitype.PeerReport{Name: "nobody", Up: true, CheckedAt: checked}
	m.ok(write, "edge/report", data{"name": "edge-1", "peers": []apitype.PeerReport{up, stranger}})
	m.ok(write, "tenants/acme/edge/report", data{"name": "edge-1", "peers": []apitype.PeerReport{down}})
	stamp := func(ago int64) string { return time.Unix(checked-ago, 0).UTC().Format(time.RFC3339) }
	want := []apitype.PeerReach{
		{Edge: "edge-1", Up: true, LatencyMS: 12, Time: stamp(0), CRLTime: stamp(60)},
		{Edge: "acme/edge-1", Error: down.Error, Time: stamp(5)},
	}
	if got := m.peer("eu").Reachability; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got := call[apitype.ListResponse[apitype.Peer]](m, read, "peers", nil).KeyInfo["eu"].Reachability; !slices.Equal(got, want) {
		t.Errorf("listed: %+v", got)
	}
	if got := call[apitype.Peer](m, write, "peers/eu", data{"allowed_groups": "web"}).Reachability; !slices.Equal(got, want) {
		t.Errorf("written: %+v", got)
	}
	m.clock.advance(2 * time.Minute)
	m.ok(write, "edge/report", data{"name": "edge-1"}) // nothing was checked meanwhile
	again := mountOn(t, m.storage.Storage, m.clock)
	if got := again.peer("eu").Reachability; !slices.Equal(got, want) {
		t.Errorf("after a restart: %+v", got)
	}
	again.ok(write, "edge/report", data{"name": "edge-1"}) // the new process has not heard of them from the edge
	if got := again.peer("eu").Reachability; !slices.Equal(got, want) {
		t.Errorf("after a report to a new process: %+v", got)
	}
	m.ok(write, "edge/report", data{"name": "edge-1", "leaving": true})
	m.clock.advance(25 * time.Hour)
	if got := m.peer("eu").Reachability; len(got) != 0 {
		t.Errorf("edges that are gone: %+v", got)
	}
	for name, peers := range map[string]any{
		"too many":             make([]apitype.PeerReport, apitype.MaxPeerReports+1),
		"a long error":         []apitype.PeerReport{{Name: "eu", Error: strings.Repeat("a", 513)}},
		"an error of lines":    []apitype.PeerReport{{Name: "eu", Error: "a\nb"}},
		"a time before 1970":   []apitype.PeerReport{{Name: "eu", CheckedAt: -1}},
		"a time without end":   []apitype.PeerReport{{Name: "eu", CRLTime: 1 << 60}},
		"a negative latency":   []apitype.PeerReport{{Name: "eu", LatencyMS: -1}},
		"no name":              []apitype.PeerReport{{Name: "No/Name"}},
		"what is no list":      "eu",
		"what is no report":    []string{"eu"},
		"a secret in an error": []apitype.PeerReport{{Name: "eu", Error: "amp-bs.aaaa"}},
	} {
		_, refused := m.send(write, "edge/report", data{"name": "edge-2", "peers": peers})
		if refused == nil || refused.Code != apitype.FieldInvalid {
			t.Errorf("%s: %v", name, refused)
		}
	}
	if got := m.keys("edge/-/edge-2"); len(got) != 0 {
		t.Errorf("a refused report stored %v", got)
	}
}

// An edge's row stays within what storage takes, also when it tells of as many peers as it may, each at length.
func TestTheLongestReportOfPeersFits(t *testing.T) {
	m := installation(t, "us")
	var all []apitype.PeerReport
	for i := range apitype.MaxPeerReports {
		all = append(all, apitype.PeerReport{Name: fmt.Sprintf("p%d", i), Error: strings.Repeat("<", 512), CheckedAt: 253402300799, CRLTime: 253402300799})
	}
	m.ok(write, "edge/report", data{"name": "edge-1", "peers": all})
	entry, err := m.storage.Storage.Get(t.Context(), "edge/-/edge-1")
	if err != nil || len(entry.Value) > 1000<<10 {
		t.Errorf("%v, a row of %d bytes", err, len(entry.Value))
	}
}
