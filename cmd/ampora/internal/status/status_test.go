package status_test

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
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/status"
	"github.com/ampora/ampora/cmd/ampora/internal/vaultenv"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/plugintest"
	"github.com/ampora/ampora/scripts/policies"
	"github.com/ampora/ampora/test/vaulttest"
	vault "github.com/hashicorp/vault/api"
)

// run is 'ampora status' with a Vault token.
func run(t *testing.T, address, token string, c status.Cmd) (out, errs string, err error) {
	t.Helper()
	t.Setenv("VAULT_ADDR", address)
	t.Setenv("VAULT_TOKEN", token)
	var o, e bytes.Buffer
	con := &console.Console{Out: &o, Err: &e, Getenv: func(string) string { return "" }}
	c.Mount = "ampora"
	err = c.Run(t.Context(), con)
	return o.String(), e.String(), err
}

// answer is the JSON, as others read it.
type answer struct {
	Issuers []struct {
		IssuerID   string `json:"issuer_id"`
		CommonName string `json:"common_name"`
		State      string
		ExpiresAt  time.Time `json:"expires_at"`
		DaysLeft   int       `json:"days_left"`
		CRL        *struct {
			Number     string
			Entries    int
			ThisUpdate time.Time `json:"this_update"`
			NextUpdate time.Time `json:"next_update"`
		}
	}
	Agents *apitype.AgentsSummary
	Tokens *struct {
		Outstanding int
		More        bool
	}
	Edges []struct {
		apitype.EdgeInfo
		Age int64 `json:"age_seconds"`
	}
	Attention   []string
	Unavailable map[string]string
}

func asked(t *testing.T, address, token string, c status.Cmd) (a answer) {
	t.Helper()
	c.JSON = true
	out, errs, err := run(t, address, token, c)
	if err != nil || errs != "" {
		t.Fatalf("%v %s", err, errs)
	}
	must(t, json.Unmarshal([]byte(out), &a))
	return a
}

// populate makes two agents of nobody, one of them revoked, and one of the tenant acme; an edge, a second one for acme, and a
// token that is still out.
func populate(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	var last *apitype.Identity
	for _, tenant := range []string{"", "acme", ""} {
		issued, err := c.ForTenant(tenant).IssueToken(ctx, apitype.TokenIssueRequest{})
		must(t, err)
		last, err = c.Redeem(ctx, apitype.RedeemRequest{Token: issued.Token, CSR: csr(t)})
		must(t, err)
	}
	_, err := c.RevokeAgent(ctx, last.AgentID, apitype.RevokeRequest{})
	must(t, err)
	_, err = c.IssueToken(ctx, apitype.TokenIssueRequest{})
	must(t, err)
	_, err = c.Report(ctx, apitype.ReportRequest{Name: "edge-1", Version: "v1.2.3", Revision: "abc.7", Live: 42})
	must(t, err)
	_, err = c.ForTenant("acme").Report(ctx, apitype.ReportRequest{Name: "edge-2"})
	must(t, err)
}

func TestTheStatusOfAnInstallation(t *testing.T) {
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://localhost:4320/v1/opamp")
	c := engine.Client(t)
	populate(t, c)
	var a answer
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // the list follows the revocation
		a = asked(t, engine.URL, engine.Token, status.Cmd{})
		if len(a.Issuers) == 1 && a.Issuers[0].CRL != nil && a.Issuers[0].CRL.Entries == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", a)
		}
	}
	month := time.Now().UTC().Add(90 * 24 * time.Hour).Format("2006-01")
	if g := a.Agents; g.Active != 2 || g.Revoked != 1 || g.Expired+g.RenewalsDue+g.Unconfirmed != 0 || g.Expiring[month] != 2 {
		t.Errorf("agents %+v", g)
	}
	if i := a.Issuers[0]; i.State != "active" || i.DaysLeft < 3600 || i.CRL.Number == "" || !i.CRL.NextUpdate.After(i.CRL.ThisUpdate) {
		t.Errorf("issuer %+v", i)
	}
	if !a.hasEdge("edge-1", "", 42) || !a.hasEdge("edge-2", "acme", 0) || len(a.Edges) != 2 || a.Tokens.Outstanding != 1 || a.Tokens.More {
		t.Errorf("%+v", a)
	}
	if len(a.Attention)+len(a.Unavailable) != 0 {
		t.Errorf("%v %v", a.Attention, a.Unavailable)
	}

	page, errs, err := run(t, engine.URL, engine.Token, status.Cmd{})
	must(t, err)
	for _, line := range []string{
		"active Ampora CA", "active 2", "revoked 1", month + " 2 ####", "outstanding 1", "edge-1 ", "acme/edge-2 ", " 42 abc.7 v1.2.3", "no. " + a.Issuers[0].CRL.Number,
	} {
		if !strings.Contains(strings.Join(strings.Fields(page), " "), line) {
			t.Errorf("the page does not tell %q", line)
		}
	}
	if errs != "" || strings.Contains(page, "ATTENTION") || strings.Contains(page, "\x1b") || t.Failed() {
		t.Errorf("%s\n%s", page, errs)
	}

	mine := asked(t, engine.URL, engine.Token, status.Cmd{Engine: vaultenv.Engine{Tenant: "acme"}})
	if len(mine.Edges) != 1 || !mine.hasEdge("edge-2", "acme", 0) || mine.Agents.Active != 1 || mine.Tokens.Outstanding != 0 {
		t.Errorf("acme's: %+v", mine)
	}
}

func (a answer) hasEdge(name, tenant string, live int) bool {
	for _, e := range a.Edges {
		if e.Name == name && e.Tenant == tenant && e.Live == live && e.Age >= 0 && e.Age < 60 {
			return true
		}
	}
	return false
}

func TestACheckIsSilentUntilSomethingNeedsAttention(t *testing.T) {
	engine := plugintest.Start(t)
	engine.Configure(t, "wss://localhost:4320/v1/opamp")
	check := status.Cmd{Check: true}
	if out, errs, err := run(t, engine.URL, engine.Token, check); out+errs != "" || err != nil {
		t.Errorf("%q %q %v", out, errs, err)
	}
	draft, err := engine.Client(t).CARoot(t.Context(), apitype.CARootRequest{TTL: 10 * 24 * 3600})
	must(t, err)
	_, err = engine.Client(t).SetIssuerState(t.Context(), draft.IssuerID, apitype.IssuerRequest{State: "active"})
	must(t, err)
	out, errs, err := run(t, engine.URL, engine.Token, check)
	if !strings.Contains(out, "expires in 9 days") || strings.Count(out, "\n") != 1 || errs != "" || err == nil || !strings.Contains(err.Error(), "1 thing needs attention") {
		t.Errorf("%q %q %v", out, errs, err)
	}
	check.JSON = true
	var a answer
	out, _, err = run(t, engine.URL, engine.Token, check)
	must(t, json.Unmarshal([]byte(out), &a))
	if err == nil || len(a.Attention) != 1 || len(a.Issuers) != 2 {
		t.Errorf("%v %s", err, out)
	}
	// Without --check it is told, and no failure.
	if out, _, err := run(t, engine.URL, engine.Token, status.Cmd{}); err != nil || !strings.Contains(out, "NEEDS ATTENTION") {
		t.Errorf("%v %s", err, out)
	}
	engine.SetAway(true)
	if _, _, err := run(t, engine.URL, engine.Token, check); err == nil || strings.Contains(err.Error(), "attention") {
		t.Errorf("while Vault is sealed: %v", err)
	}
	engine.SetAway(false)
	if _, _, err := run(t, engine.URL, "hvs.another", check); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("with a dead token: %v", err)
	}
}

// TestAPolicyThatAllowsAPartShowsThatPart is on a real Vault, since that alone knows policies.
func TestAPolicyThatAllowsAPartShowsThatPart(t *testing.T) {
	v := vaulttest.Start(t)
	_, err := v.RegisterAmpora(t.Context(), "ampora")
	must(t, err)
	c, err := client.New(v.Client(), "ampora")
	must(t, err)
	must(t, c.UpdateConfig(t.Context(), map[string]any{"peer_id": "north", "trust_domain": "north.example", "endpoint": "wss://localhost:4320/v1/opamp"}))
	_, err = c.CARoot(t.Context(), apitype.CARootRequest{})
	must(t, err)
	populate(t, c)
	all, err := policies.All("ampora")
	must(t, err)
	tokens := map[string]string{}
	for _, p := range all {
		tokens[p.Role] = holder(t, v, p)
	}
	tenant, err := policies.ForTenant("ampora", "acme")
	must(t, err)
	tokens[tenant.Role] = holder(t, v, tenant)

	a := asked(t, v.Addr, tokens[policies.Operator], status.Cmd{})
	if len(a.Unavailable) != 0 || a.Issuers[0].IssuerID == "" || a.Issuers[0].CRL == nil || a.Agents.Active != 2 || len(a.Edges) != 2 || a.Tokens.Outstanding != 1 {
		t.Errorf("the operator sees %+v", a)
	}

	a = asked(t, v.Addr, tokens[policies.Auditor], status.Cmd{})
	if len(a.Edges) != 2 || a.Agents != nil || a.Tokens != nil || len(a.Unavailable) != 4 || len(a.Issuers) != 1 || a.Issuers[0].State != "active" || a.Issuers[0].CRL != nil {
		t.Errorf("the auditor sees %+v", a)
	}
	page, _, err := run(t, v.Addr, tokens[policies.Auditor], status.Cmd{})
	must(t, err)
	if n := strings.Count(page, "the Vault token does not allow this"); n != 4 || !strings.Contains(page, "trust bundle") || !strings.Contains(page, "edge-1") {
		t.Errorf("the auditor's page:\n%s", page)
	}
	out, errs, err := run(t, v.Addr, tokens[policies.Auditor], status.Cmd{Check: true})
	if out != "" || strings.Count(errs, "not checked: ") != 4 || err != nil {
		t.Errorf("the auditor checks: %q %q %v", out, errs, err)
	}

	a = asked(t, v.Addr, tokens[tenant.Role], status.Cmd{Engine: vaultenv.Engine{Tenant: "acme"}})
	if a.Agents.Active != 1 || len(a.Edges) != 1 || a.Tokens.Outstanding != 0 || len(a.Issuers) != 1 || len(a.Unavailable) != 2 {
		t.Errorf("the tenant's operator sees %+v", a)
	}

	for _, token := range []string{tokens[policies.TokenIssuer], "hvs.nobody"} {
		if out, _, err := run(t, v.Addr, token, status.Cmd{}); err == nil || !strings.Contains(err.Error(), "permission denied") || out != "" {
			t.Errorf("%v %s", err, out)
		}
	}
}

func TestColoursAreForTerminalsAlone(t *testing.T) {
	// A character device, as a terminal is.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	defer device.Close()
	file, err := os.Create(t.TempDir() + "/page")
	must(t, err)
	defer file.Close()
	for name, c := range map[string]struct {
		out  io.Writer
		env  map[string]string
		want bool
	}{
		"a terminal":               {device, nil, true},
		"a terminal with NO_COLOR": {device, map[string]string{"NO_COLOR": "1"}, false},
		"an empty NO_COLOR":        {device, map[string]string{"NO_COLOR": ""}, true},
		"a dumb terminal":          {device, map[string]string{"TERM": "dumb"}, false},
		"a file":                   {file, nil, false},
		"a pipe":                   {&bytes.Buffer{}, nil, false},
	} {
		con := &console.Console{Out: c.out, Getenv: func(name string) string { return c.env[name] }}
		if con.Colour() != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// holder is a Vault token with one policy.
func holder(t *testing.T, v *vaulttest.Vault, p policies.Policy) string {
	t.Helper()
	must(t, v.Client().Sys().PutPolicyWithContext(t.Context(), p.Name, p.Text))
	secret, err := v.Client().Auth().Token().CreateWithContext(t.Context(), &vault.TokenCreateRequest{Policies: []string{p.Name}, NoDefaultPolicy: true})
	must(t, err)
	return secret.Auth.ClientToken
}

func csr(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
