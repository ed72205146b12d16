package readme

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// drill is what happens around the page's restore: what the backup knows, what it misses, and what must be true in the end.
type drill struct {
	*world
	done bool
}

// enrol makes an agent, whose id is then in the variable of that name, from a token in the file of that name.
func (d *drill) enrol(name string) {
	d.t.Helper()
	d.must(`ampora enroll --endpoint wss://` + d.listen + `/v1/opamp --ca-file drill/ca.pem --token-file drill/` + name + ` --out drill/` + name + `.d > /dev/null
		` + name + `=$(ampora inspect drill/` + name + `.d/cert.pem | awk '$1 == "agent_id" { print $2 }')`)
}

// before makes what is in the backup.
func (d *drill) before() {
	d.t.Helper()
	d.must(`mkdir drill && vault read -field=bundle ampora/ca/bundle > drill/ca.pem
		for name in STAYS RENEWED REVOKED DELETED SPENT WAITING; do vault write -f -field=token ampora/tokens/issue > drill/$name; done
		vault write -f -field=token ampora/tenants/acme/tokens/issue > drill/TENANTS
		vault write -f -field=admin_secret ampora/pools/ci > /dev/null
		vault write -f -field=admin_secret ampora/pools/old > /dev/null`)
	for _, name := range []string{"STAYS", "RENEWED", "REVOKED", "DELETED", "TENANTS"} {
		d.enrol(name)
	}
}

// since does what the backup does not know.
func (d *drill) since() {
	d.t.Helper()
	d.enrol("SPENT")
	d.must(`vault write ampora/agents/$RENEWED/renew fingerprint=$(vault read -field=fingerprint ampora/agents/$RENEWED)
		vault write ampora/agents/$REVOKED/revoke reason=keyCompromise
		vault write -f ampora/tenants/acme/agents/$TENANTS/revoke
		vault write -f ampora/agents/$SPENT/revoke && vault delete ampora/agents/$SPENT
		vault delete ampora/agents/$DELETED && vault delete ampora/pools/old
		vault write -f -field=token ampora/tokens/issue > drill/NEWCOMER`)
	d.enrol("NEWCOMER")
}

// finds says whom the page's last command must have found, and nobody else: who must enrol again.
func (d *drill) finds(name string) {
	d.t.Helper()
	if want := "enrol again: " + strings.TrimSpace(d.quietly(`echo $`+name)) + "\n"; d.last != want {
		d.t.Errorf("the page finds\n%sand should find\n%s", d.last, want)
	}
}

// after runs when the drill is over.
func (d *drill) after() {
	d.t.Helper()
	d.done = true
	for command, want := range map[string]string{
		`vault read -field=state ampora/agents/$STAYS`:                  "active",
		`vault read -field=state ampora/agents/$REVOKED`:                "revoked",
		`vault read -field=state ampora/tenants/acme/agents/$TENANTS`:   "revoked",
		`vault read -field=admin_secret_enabled ampora/pools/ci`:        "true",
		`vault read ampora/agents/$DELETED 2>&1 || true`:                "No value found",
		`vault read ampora/pools/old 2>&1 || true`:                      "No value found",
		`vault write -f -field=token ampora/tokens/issue > drill/SPENT`: "",
	} {
		if out := d.quietly(command); !strings.Contains(out, want) {
			d.t.Errorf("after the drill %s says %s and not %s", command, out, want)
		}
	}
	d.eventually("the edge is ready again", func() error { return d.ready(d.edge, "edge.log", d.admin) })
	if out, err := d.bash(`ampora enroll --endpoint wss://` + d.listen + `/v1/opamp --ca-file drill/ca.pem --token-file drill/WAITING --out drill/none`); err == nil || !strings.Contains(out, "token_revoked") {
		d.t.Errorf("a token of the backup: %v\n%s", err, out)
	}
	for name, want := range map[string]string{"STAYS": "", "REVOKED": "certificate_revoked", "DELETED": "certificate_revoked", "NEWCOMER": "agent_unknown"} {
		d.eventually("the edge's answer to "+name, func() error { return d.answers(name, want) })
	}
}

// answers shows an agent's certificate to the edge, which must refuse it with the code, or let it in when there is none.
func (d *drill) answers(name, code string) error {
	identity := filepath.Join(d.dir, "drill", name+".d")
	pair, err := tls.LoadX509KeyPair(filepath.Join(identity, "cert.pem"), filepath.Join(identity, "key.pem"))
	must(d.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(d.read("drill/ca.pem")))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	uid := uuid.Must(uuid.NewV7())
	message, err := proto.Marshal(&protobufs.AgentToServer{InstanceUid: uid[:], AgentDescription: &protobufs.AgentDescription{}})
	must(d.t, err)
	resp, err := client.Post("https://"+d.listen+"/v1/opamp", "application/x-protobuf", bytes.NewReader(message))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && code == "" != (resp.StatusCode == http.StatusOK) || !strings.Contains(string(body), code) {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

func (d *drill) quietly(command string) string {
	d.t.Helper()
	last := d.last
	defer func() { d.last = last }()
	return d.must(command)
}
