package e2e

import (
	"bytes"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/test/vaulttest"
)

// snapshot is a backup as 'vault operator raft snapshot save' makes it.
func snapshot(t *testing.T, v *vaulttest.Vault) []byte {
	t.Helper()
	var backup bytes.Buffer
	must(t, v.Client().Sys().RaftSnapshotWithContext(t.Context(), &backup))
	return backup.Bytes()
}

// restore puts a backup back, as 'vault operator raft snapshot restore' does (with -force where force is set). Vault answers
// before it has begun, so restored must be something that is true afterwards and is not before.
func restore(t *testing.T, v *vaulttest.Vault, backup []byte, force bool, restored func() bool) {
	t.Helper()
	must(t, v.Client().Sys().RaftSnapshotRestoreWithContext(t.Context(), bytes.NewReader(backup), force))
	eventually(t, "the backup is back", time.Minute, restored)
}

// verdict is the code with which the engine refuses a token, "" when it is good.
func (in *installation) verdict(token string) apitype.Code {
	in.t.Helper()
	_, err := in.engine.RedeemCheck(in.ctx(), apitype.RedeemCheckRequest{Token: token})
	if code := apitype.CodeOf(err); err == nil || code != "" {
		return code
	}
	in.t.Fatalf("checking a token: %v", err)
	return ""
}

// secretVerdict is the code with which the engine refuses a pool's admin secret, "" when it is good.
func (in *installation) secretVerdict(pool, secret string) apitype.Code {
	in.t.Helper()
	out, err := in.engine.IssueWithSecret(in.ctx(), pool, apitype.PoolAdminIssueRequest{AdminSecret: secret})
	if err == nil {
		in.secrets.addToken(out.Token)
		return ""
	}
	if code := apitype.CodeOf(err); code != "" {
		return code
	}
	in.t.Fatalf("issuing from a pool: %v", err)
	return ""
}

// issuance are tokens of a pool, issued together.
func (in *installation) issuance(pool string, count int64) (tokens []string) {
	in.t.Helper()
	out, err := in.engine.IssueFromPool(in.ctx(), pool, apitype.PoolIssueRequest{Count: &count})
	must(in.t, err)
	for _, issued := range out.Tokens {
		in.secrets.addToken(issued.Token)
		tokens = append(tokens, issued.Token)
	}
	return tokens
}

// rotate answers a pool's new admin secret.
func (in *installation) rotate(pool string) string {
	in.t.Helper()
	rotated, err := in.engine.RotatePoolSecret(in.ctx(), pool, apitype.RevokeRequest{Reason: "the drill"})
	must(in.t, err)
	in.secrets.add("a pool's admin secret", strings.Split(rotated.AdminSecret, ".")[1])
	return rotated.AdminSecret
}

// crlNumber is that of the active issuer's list of revoked certificates, once the engine has made one.
func (in *installation) crlNumber() (number int64) {
	in.t.Helper()
	eventually(in.t, "there is a list of revoked certificates", time.Minute, func() bool {
		crl, err := in.engine.CRL(in.ctx(), apitype.CRLRequest{})
		if err == nil {
			number, err = strconv.ParseInt(crl.Number, 10, 64)
		}
		return err == nil
	})
	return number
}

// serialEnd are the last three octets of a serial: how often the mount was restored, and which leaf of the agent it is.
func serialEnd(serial string) string { return serial[len(serial)-len("00:00:00"):] }

// TestTheRestoreDrill puts a backup back under a Vault with edges and agents, and runs what the page tells to run then.
func TestTheRestoreDrill(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	ci := in.pool("", "ci")

	// What the backup knows: a pool with tokens, tokens of their own, and agents.
	batch := in.issuance("ci", 3)
	spent, revoked, waiting := in.token(), in.token(), in.token()
	known := in.agent(e.endpoint("wss"), in.token().Token, filepath.Join(in.dir, "known"))
	kept := known.AwaitEnrolled()
	forgotten := in.agent(e.endpoint("wss"), in.token().Token, filepath.Join(in.dir, "forgotten"))
	lives := forgotten.AwaitEnrolled()
	in.wantSeen(kept.AgentID, "one")
	in.wantSeen(lives.AgentID, "one")
	forgotten.Stop()
	backup := snapshot(t, in.vault)

	// What happens afterwards, and is lost.
	newcomer := in.agent(e.endpoint("wss"), spent.Token, filepath.Join(in.dir, "newcomer"))
	lost := newcomer.AwaitEnrolled()
	in.wantSeen(lost.AgentID, "one")
	pooled := in.agent(e.endpoint("wss"), batch[0], filepath.Join(in.dir, "pooled"))
	pooled.AwaitEnrolled()
	pooled.Stop()
	_, err := in.engine.RevokeToken(in.ctx(), revoked.TokenID, apitype.RevokeRequest{Reason: "lost"})
	must(t, err)
	_, err = in.engine.RevokeAgent(in.ctx(), lives.AgentID, apitype.RevokeRequest{Reason: "keyCompromise"})
	must(t, err)
	later := in.rotate("ci")
	_, err = in.engine.RevokeAllTokens(in.ctx(), apitype.RevokeRequest{Reason: "a leak of unknown size"})
	must(t, err)
	old := append([]string{spent.Token, revoked.Token, waiting.Token}, batch...)
	for i, token := range old {
		if in.verdict(token) == "" {
			t.Fatalf("token %d is good before the restore", i)
		}
	}
	afterwards := in.token() // the backup has never heard of it
	listed := in.crlNumber()

	processes := in.vault.PluginPids(pluginName)
	restore(t, in.vault, backup, false, func() bool {
		_, err := in.engine.Token(in.ctx(), afterwards.TokenID)
		return apitype.CodeOf(err) == apitype.TokenUnknown
	})
	if now := in.vault.PluginPids(pluginName); len(now) == 0 || slices.Equal(now, processes) {
		t.Errorf("the plugin's processes were %v and are %v: its memory may be older than its storage", processes, now)
	}

	// This is why there is a drill.
	for i, token := range old {
		if code := in.verdict(token); code != "" {
			t.Errorf("token %d is %s already, and the drill is not needed for it", i, code)
		}
	}
	if code := in.secretVerdict("ci", ci.AdminSecret); code != "" {
		t.Errorf("the secret of the backup is %s already", code)
	}

	ended, err := in.engine.AfterRestore(in.ctx(), apitype.RevokeRequest{Reason: "the disk died"})
	must(t, err)
	if ended.RestoreCount != 1 {
		t.Errorf("the first restore is number %d", ended.RestoreCount)
	}
	if number := in.crlNumber(); number <= listed {
		t.Errorf("the list of revoked certificates had the number %d before the restore, and has %d", listed, number)
	}
	for i, token := range append(old, afterwards.Token) {
		want := apitype.TokenRevoked
		if token == afterwards.Token {
			want = apitype.TokenUnknown
		}
		if code := in.verdict(token); code != want {
			t.Errorf("after the drill token %d is %q, want %s", i, code, want)
		}
		if r := e.mustPost(t, "Bearer "+token, nil, message(newCSR())); r.status != http.StatusUnauthorized {
			t.Errorf("the edge answers token %d with %d %s", i, r.status, r.code)
		}
	}
	for what, secret := range map[string]string{"of the backup": ci.AdminSecret, "from after the backup": later} {
		if code := in.secretVerdict("ci", secret); code != apitype.PoolSecretInvalid {
			t.Errorf("the secret %s is %q", what, code)
		}
		r := in.askPool(e.addr, "ci", secret, `{"ttlMinutes":15}`)
		r.Body.Close()
		if r.StatusCode != http.StatusUnauthorized {
			t.Errorf("the edge answers the secret %s with %d", what, r.StatusCode)
		}
	}
	events, err := in.engine.Events(in.ctx(), apitype.EventsRequest{Action: apitype.ActionConfigRestored})
	must(t, err)
	if len(events.Events) != 1 || events.Events[0].Details["reason"] != "the disk died" || events.Events[0].RequestID == "" {
		t.Errorf("the events of the restore: %s", asJSON(events.Events))
	}

	// The edge has gone on by itself, and what it lets in now is what the backup knows.
	e.awaitReady()
	before := len(known.All())
	known.Stop()
	again := in.agent(e.endpoint("wss"), "", known.State)
	if back := again.AwaitBack(0); back.Serial != kept.Serial {
		t.Errorf("the agent of the backup came back as %s", asJSON(back))
	}
	for _, event := range known.All()[:before] {
		if event.Event == "connect_failed" || event.Event == "log" && strings.Contains(event.Error, "close 1008") {
			t.Errorf("the live session of the agent that the backup has: %s", asJSON(event))
		}
	}
	newcomer.Await("the live session of an agent that the backup does not know is closed", 90*time.Second, 0, func(e agentEvent) bool {
		return e.Event == "log" && strings.Contains(e.Error, "close 1008") && strings.Contains(e.Error, string(apitype.AgentUnknown))
	})
	if r := e.mustPost(t, "", newcomer.Pair(), message(nil)); r.status != http.StatusForbidden || r.code != apitype.AgentUnknown {
		t.Errorf("the edge answers its certificate with %d %s", r.status, r.code)
	}
	newcomer.Stop()
	// A revocation from after the backup is forgotten, and so it has to be said again.
	if r := e.mustPost(t, "", forgotten.Pair(), message(nil)); r.status != http.StatusOK {
		t.Errorf("the agent whose revocation is lost: %d %s", r.status, r.code)
	}
	_, err = in.engine.RevokeAgent(in.ctx(), lives.AgentID, apitype.RevokeRequest{Reason: "keyCompromise"})
	must(t, err)
	eventually(t, "the agent that was revoked again is out", atOnce, func() bool {
		r := e.mustPost(t, "", forgotten.Pair(), message(nil))
		return r.status == http.StatusForbidden && r.code == apitype.CertificateRevoked
	})

	// Issuing and redeeming go on.
	fresh := in.rotate("ci")
	if code := in.secretVerdict("ci", fresh); code != "" {
		t.Errorf("the rotated secret is %s", code)
	}
	token, err := in.issueByScript(e.addr, "ci", fresh)
	must(t, err)
	in.secrets.addToken(token)
	one, single := in.agent(e.endpoint("wss"), token, filepath.Join(in.dir, "after-1")), in.token()
	two := in.agent(e.endpoint("wss"), single.Token, filepath.Join(in.dir, "after-2"))
	for _, a := range []*testAgent{one, two} {
		if enrolled := a.AwaitEnrolled(); serialEnd(enrolled.Serial) != "01:00:01" {
			t.Errorf("the first serial after a restore is %s", enrolled.Serial)
		}
	}
	in.wantEnrolled(single)
	if end := serialEnd(lost.Serial); end != "00:00:01" {
		t.Errorf("the serial from before the restore is %s", lost.Serial)
	}
	if code := in.verdict(in.issuance("ci", 2)[1]); code != "" {
		t.Errorf("a new token of a batch is %s", code)
	}
}

// TestABackupIsPutIntoANewVault is the drill after the whole Vault was lost.
func TestABackupIsPutIntoANewVault(t *testing.T) {
	t.Parallel()
	in := install(t)
	waiting := in.token()
	agent := in.redeemed(in.token())
	backup := snapshot(t, in.vault)
	in.redeemed(waiting)

	// The new one has keys of its own, and takes over those of the backup.
	other := vaulttest.Start(t)
	_, err := other.RegisterAmpora(in.ctx(), "") // the plugin's file must lie there
	must(t, err)
	must(t, other.Client().Sys().RaftSnapshotRestoreWithContext(in.ctx(), bytes.NewReader(backup), true))
	eventually(t, "the new Vault is sealed: the keys of the backup are not its own", time.Minute, func() bool {
		status, err := other.Client().Sys().SealStatusWithContext(in.ctx())
		return err == nil && status.Sealed
	})
	other.UnsealKey, other.RootToken = in.vault.UnsealKey, in.vault.RootToken
	must(t, other.Unseal(in.ctx()))
	restored := in.within(t)
	restored.vault = other
	restored.engine, err = client.New(other.Client(), "ampora")
	must(t, err)

	if code := restored.verdict(waiting.Token); code != "" {
		t.Fatalf("the spent token is %s already", code)
	}
	_, err = restored.engine.AfterRestore(in.ctx(), apitype.RevokeRequest{})
	must(t, err)
	if code := restored.verdict(waiting.Token); code != apitype.TokenRevoked {
		t.Errorf("after the drill it is %q", code)
	}
	if row, err := restored.engine.Agent(in.ctx(), agent.AgentID); err != nil || row.State != apitype.AgentStateActive {
		t.Errorf("the agent of the backup: %+v, %v", row, err)
	}
	if again := restored.redeemed(restored.token()); serialEnd(again.SerialNumber) != "01:00:01" {
		t.Errorf("the first serial after a restore is %s", again.SerialNumber)
	}
}

// redeemed turns a token into an identity, past the edges.
func (in *installation) redeemed(issued *apitype.IssuedToken) *apitype.Identity {
	in.t.Helper()
	identity, err := in.engine.Redeem(in.ctx(), apitype.RedeemRequest{
		Token: issued.Token, CSR: string(newCSR()), Capabilities: apitype.CapabilityAcceptsOpAMP,
	})
	must(in.t, err)
	return identity
}
