package readme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/test/vaulttest"
	"github.com/ampora/ampora/test/vaulttest/tokenreview"
	"github.com/hashicorp/vault/api"
)

var pages = []string{"README.md", "cmd/README.md", "edge/README.md", "plugin/README.md", "scripts/README.md"}

func TestWhatTheTopPageTellsWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, all := page(t, "README.md")
	for _, b := range all {
		switch {
		case b.kind == "" || b.kind == "output":
			continue
		case b.kind == "run" && b.name == "ca":
			w.must("vault secrets enable pki && vault secrets tune -max-lease-ttl=87600h pki && vault write pki/root/generate/internal common_name=Root ttl=87600h")
		case b.kind == "background" && b.name == "supervisor":
			w.end("collector")
		case b.kind == "background" && b.name == "dev":
			w.dev(b)
			continue
		}
		w.do(b)
	}

	// What the page says of a supervisor that is started again: refused, until it gets a fresh token.
	again := func() {
		for _, b := range all {
			if b.kind == "background" && b.name == "supervisor" {
				w.do(b)
			}
		}
	}
	again()
	w.eventually("the supervisor is refused after its restart", func() error {
		if !strings.Contains(w.read("edge.log"), "code=token_redeemed") {
			return errors.New("not yet")
		}
		return nil
	})
	w.must(`vault write -f -field=token ampora/tokens/issue > ` + w.dir + `/etc/ampora/supervisor-token`)
	again()
	w.eventually("the supervisor is back as another agent", func() error {
		_, err := w.bash(`test $(vault list -format=yaml ampora/agents | wc -l) = 3`)
		return err
	})
}

func TestWhatTheEdgesPageTellsWorks(t *testing.T) {
	t.Parallel()
	w := installed(t)
	cert, key := serverCertificate(t)
	w.write("etc/ampora/edge.pem", cert)
	w.write("etc/ampora/edge-root.pem", cert)
	w.write("etc/ampora/edge-key.pem", key)
	cluster := w.kubernetes()
	_, all := page(t, "edge/README.md")
	for _, b := range all {
		switch b.kind {
		case "", "output":
			continue
		case "kubernetes":
			must(t, w.vault.RegisterPlugin(t.Context(), api.PluginTypeCredential, "kubernetes", vaulttest.RequireBin(t, "vault-plugin-auth-kubernetes"), ""))
			b.kind, b.text = "run", strings.ReplaceAll(b.text, "https://kubernetes.default.svc", cluster.URL)
		}
		w.do(b)
	}
}

func TestWhatThePluginsPageTellsWorks(t *testing.T) {
	t.Parallel()
	w := installed(t)
	build := exec.Command("go", "build", "-o", filepath.Join(w.dir, "new")+"/", "-ldflags", "-X github.com/ampora/ampora/plugin/apitype.Version=v99.0.0",
		"../../cmd/vault-plugin-secrets-ampora")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.must("OLD_VERSION=$VERSION")
	drill := &drill{world: w}
	_, all := page(t, "plugin/README.md")
	for _, b := range all {
		switch b.kind {
		case "", "output":
			continue
		case "upgrade":
			b.kind = "run"
		}
		switch b.name {
		case "backup":
			drill.before()
			w.do(b)
			drill.since()
		case "enrolled since":
			w.do(b)
			drill.finds("NEWCOMER")
		case "renewed since":
			w.do(b)
			drill.finds("RENEWED")
			drill.after()
		default:
			w.do(b)
		}
	}
	if !drill.done {
		t.Error("the page has no drill")
	}
	if out := w.must("vault plugin list -detailed secret; vault secrets list; vault policy list; vault auth list"); strings.Contains(out, "ampora") || strings.Contains(out, "approle") {
		t.Errorf("something is left after uninstalling:\n%s", out)
	}
}

// dev runs 'ampora dev' on free ports, and types what it says.
func (w *world) dev(b *block) {
	w.t.Helper()
	command, found := strings.CutPrefix(b.text, "make build vault\n")
	if !found {
		w.t.Fatalf("line %d: the test expects 'make build vault' in the first line", b.line)
	}
	// The reader has not put bin/ on the PATH yet.
	path := "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
	w.start("dev", strings.TrimSpace(command)+" --vault-listen 127.0.0.1:0 --edge-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0", []string{path})
	_, all := page(w.t, "README.md")
	w.eventually("ampora dev says what the page shows", func() error {
		for _, b := range all {
			if b.kind == "output" && b.name == "dev" {
				return shows(b.text, w.read("dev.log"))
			}
		}
		return errors.New("the page does not show it")
	})
	typed := 0
	script := ""
	for _, line := range lines(w.read("dev.log")) {
		command, indented := strings.CutPrefix(line, "  ")
		for _, first := range []string{"export ", "vault ", "ampora "} {
			if indented && strings.HasPrefix(command, first) {
				script += command + "\n"
				typed++
			}
		}
	}
	if typed < 8 {
		w.t.Fatalf("only %d commands are told:\n%s", typed, w.read("dev.log"))
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euc", script)
	cmd.Dir, cmd.Env = filepath.Join(w.dir, "etc"), []string{path, "HOME=" + w.dir}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Token.Redeemed") {
		w.t.Fatalf("what ampora dev says does not work: %v\n%s\n%s", err, script, out)
	}
	w.end("dev")
}

// kubernetes is a cluster, with what the page takes from one.
func (w *world) kubernetes() *tokenreview.Server {
	w.t.Helper()
	cluster, err := tokenreview.Start()
	must(w.t, err)
	w.t.Cleanup(cluster.Close)
	reviewer, err := cluster.Token("vault", "reviewer", time.Hour)
	must(w.t, err)
	pod, err := cluster.Token("ampora", "ampora-edge", time.Hour)
	must(w.t, err)
	w.write("etc/ampora/kubernetes-ca.pem", cluster.CA)
	w.write("etc/ampora/reviewer.jwt", reviewer)
	w.write("etc/ampora/pod.jwt", pod)
	w.env = append(w.env, "AMPORA_EDGE_KUBERNETES_TOKEN_FILE="+w.dir+"/etc/ampora/pod.jwt")
	return cluster
}

// installed is the world after the top page's installation, with the unit's edge running.
func installed(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	_, all := page(t, "README.md")
	for _, b := range all {
		if b.kind == "run" && b.name == "install" || b.kind == "unit" {
			w.do(b)
		}
	}
	return w
}

// must runs what is no part of a page.
func (w *world) must(command string) string {
	w.t.Helper()
	out, err := w.bash(command)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

func TestTheDemoOnTheTopPageIsWhatItPrints(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"vault", "vault-plugin-secrets-ampora", "ampora", "ampora-edge"} {
		vaulttest.RequireBin(t, program)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "../../scripts/demo.sh").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, all := page(t, "README.md")
	for _, b := range all {
		if b.kind == "output" && b.name == "demo" {
			if err := shows(b.text, string(out)); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error("the page does not show the demo")
}

func TestEveryBlockOfCommandsSaysHowItIsTested(t *testing.T) {
	for _, path := range pages {
		text, all := page(t, path)
		for _, b := range all {
			if b.kind == "" && b.lang != "text" {
				t.Errorf("%s, line %d: nothing says how this block is tested", path, b.line)
			}
			if b.kind == "example" && !strings.Contains(text, "*example*") {
				t.Errorf("%s, line %d: the page does not say which blocks are examples only", path, b.line)
			}
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]+))?\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.+)$`)
	for _, path := range pages {
		text, _ := page(t, path)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor := m[1], m[2]
			if strings.HasPrefix(target, "https://") {
				continue
			}
			file := filepath.Join("../..", filepath.Dir(path), target)
			if target == "" {
				file = filepath.Join("../..", path)
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			found := anchor == ""
			for _, h := range heading.FindAllStringSubmatch(string(raw), -1) {
				slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
				found = found || strings.ReplaceAll(slug, " ", "-") == anchor
			}
			if !found {
				t.Errorf("%s: %s has no heading %q", path, target, anchor)
			}
		}
	}
}

func TestEveryPolicyIsOnTheTopPage(t *testing.T) {
	text, _ := page(t, "README.md")
	files, err := filepath.Glob("../../scripts/policies/*.hcl")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("there are no policies")
	}
	for _, file := range files {
		name := filepath.Base(file)
		if row := "| [`ampora-" + strings.TrimSuffix(name, ".hcl") + "`](scripts/policies/" + name + ") |"; !strings.Contains(text, row) {
			t.Errorf("the page has no row %s", row)
		}
	}
}

// serverCertificate is what an edge might have from elsewhere.
func serverCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"edge.example.com"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
