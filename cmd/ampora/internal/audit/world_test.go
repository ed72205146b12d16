package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/plugintest"
)

// installation is a real engine that has peers.
type installation struct {
	*client.Client
	server *plugintest.Server
	id     string
}

// federation is so many installations, each the peer of each other.
func federation(t *testing.T, ids ...string) []*installation {
	t.Helper()
	var all []*installation
	for _, id := range ids {
		server := plugintest.Start(t)
		in := &installation{server.Client(t), server, id}
		if err := in.UpdateConfig(t.Context(), map[string]any{
			"peer_id": id, "trust_domain": id + ".example", "endpoint": "wss://edge." + id + ".example:4320/v1/opamp",
			"federation_url": "https://edge." + id + ".example:4320/federation",
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := in.CARoot(t.Context(), apitype.CARootRequest{}); err != nil {
			t.Fatal(err)
		}
		all = append(all, in)
	}
	for _, in := range all {
		for _, other := range all {
			if in != other {
				card := good(other.FederationBundle(t.Context()))(t)
				fields := apitype.PeerRequest{}
				if err := json.Unmarshal(asJSON(t, card), &fields); err != nil {
					t.Fatal(err)
				}
				good(in.WritePeer(t.Context(), other.id, fields))(t)
			}
		}
	}
	return all
}

// good ends the test when there is an error.
func good[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func asJSON(t *testing.T, value any) []byte { return good(json.Marshal(value))(t) }

// enrols answers the id of a new agent with a key of its own.
func (in *installation) enrols(t *testing.T) string {
	t.Helper()
	key := good(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	der := good(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))(t)
	issued := good(in.IssueToken(t.Context(), apitype.TokenIssueRequest{}))(t)
	return good(in.Redeem(t.Context(), apitype.RedeemRequest{
		Token: issued.Token, CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		Capabilities: apitype.CapabilityAcceptsOpAMP, DisplayName: "collector-7",
	}))(t).AgentID
}

// moves moves an agent, as edges and people would, and answers its id there.
func moves(t *testing.T, from, to *installation, agentID string) string {
	t.Helper()
	handed := good(from.Handover(t.Context(), agentID, apitype.HandoverRequest{Peer: to.id}))(t)
	there := good(to.RedeemHandover(t.Context(), apitype.HandoverRedeemRequest{Token: handed.HandoverToken}))(t).AgentID
	carry(t, to, from)
	guests := good(to.Sync(t.Context(), apitype.SyncRequest{}))(t).Guests
	i := slices.IndexFunc(guests, func(g apitype.SyncGuest) bool { return g.AgentID == there })
	if i < 0 {
		t.Fatal("nobody is expected")
	}
	to.sees(t, there, good(identity.LeafSerial(there, guests[i].Generation))(t).String(), "")
	carry(t, to, from)
	next := good(to.Renew(t.Context(), there, apitype.RenewRequest{Fingerprint: guests[i].Fingerprint}))(t)
	to.sees(t, there, next.SerialNumber, next.Fingerprint)
	return there
}

func (in *installation) sees(t *testing.T, agentID, serial, applied string) {
	t.Helper()
	answer := good(in.Report(t.Context(), apitype.ReportRequest{
		Name: "edge-1", Sessions: []apitype.SessionReport{{AgentID: agentID, SerialNumber: serial, Applied: applied}},
	}))(t)
	if answer.Sessions[0].Leaf != apitype.LeafCurrent {
		t.Fatalf("the leaf counts as %s", answer.Sessions[0].Leaf)
	}
}

// carry takes the outbox of the target to the source, and the answers back.
func carry(t *testing.T, target, source *installation) {
	t.Helper()
	bring := func(to *installation, receipt string) string {
		answer := good(to.Vault().Logical().WriteWithContext(t.Context(), "ampora/handover/receipt", map[string]any{"receipt": receipt}))(t)
		if answer == nil {
			return ""
		}
		text, _ := answer.Data["receipt"].(string)
		return text
	}
	box := good(target.Vault().Logical().ReadWithContext(t.Context(), "ampora/handover/outbox"))(t)
	var outbox apitype.Outbox
	if err := json.Unmarshal(asJSON(t, box.Data), &outbox); err != nil {
		t.Fatal(err)
	}
	for _, message := range outbox.Messages {
		if message.Peer != source.id {
			continue
		}
		if answer := bring(source, message.Receipt); answer != "" {
			bring(target, answer)
		}
	}
}

// inside makes the installation the one that the VAULT_* variables name.
func (in *installation) inside(t *testing.T) {
	t.Setenv("VAULT_ADDR", in.server.URL)
	t.Setenv("VAULT_TOKEN", in.server.Token)
}

// flag is --peer for the installation.
func (in *installation) flag(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(in.server.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return in.id + "=" + in.server.URL + ",token-file=" + file
}

// export is the installation's trail in a file.
func (in *installation) export(t *testing.T) string {
	t.Helper()
	in.inside(t)
	out, _, err := run(t, func(con *console.Console) error {
		c := &EventsCmd{JSON: true}
		c.Mount = "ampora"
		return c.Run(t.Context(), con)
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), in.id+".json")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run answers what a command prints.
func run(t *testing.T, command func(*console.Console) error) (out, said string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err = command(&console.Console{In: io.MultiReader(), Out: &stdout, Err: &stderr, Getenv: os.Getenv})
	return stdout.String(), stderr.String(), err
}

// history runs ampora history.
func history(t *testing.T, c HistoryCmd) (out, said string, err error) {
	t.Helper()
	c.Mount = "ampora"
	return run(t, func(con *console.Console) error { return c.Run(t.Context(), con) })
}

// entries reads what --json prints.
func entries(t *testing.T, out string) (all []entry) {
	t.Helper()
	for line := range strings.Lines(out) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}
