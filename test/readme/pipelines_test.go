package readme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// job is what a service makes of one job in a pipeline's file.
type job struct {
	script   string            // as the service hands it to bash
	env      map[string]string // that the file says
	audience map[string]string // of the JWTs that the service puts into variables, by the variable's name
	mayAsk   bool              // the job may ask the service for a JWT
}

// gitlab reads a .gitlab-ci.yml with one job, as far as the page uses its keywords. An unknown one is an error.
func gitlab(text string) (job, error) {
	var file map[string]struct {
		Tags     []string
		Rules    []struct{ If string }
		IDTokens map[string]struct{ Aud string } `yaml:"id_tokens"`
		Env      map[string]string               `yaml:"variables"`
		Script   []string
	}
	if err := strict(text, &file); err != nil {
		return job{}, err
	}
	if len(file) != 1 {
		return job{}, fmt.Errorf("%d jobs", len(file))
	}
	for _, found := range file {
		j := job{env: found.Env, audience: map[string]string{}, script: "set -eo pipefail\n" + strings.Join(found.Script, "\n")}
		for name, token := range found.IDTokens {
			j.audience[name] = token.Aud
		}
		if len(j.audience) == 0 {
			return job{}, errors.New("the job has no id_tokens")
		}
		return j, lint(j.script)
	}
	return job{}, nil
}

// github likewise reads a workflow with one job of one step.
func github(text string) (job, error) {
	var file struct {
		Name, On    string
		Permissions map[string]string
		Jobs        map[string]struct {
			RunsOn []string `yaml:"runs-on"`
			Env    map[string]string
			Steps  []struct{ Name, Shell, Run string }
		}
	}
	if err := strict(text, &file); err != nil {
		return job{}, err
	}
	if len(file.Jobs) != 1 {
		return job{}, fmt.Errorf("%d jobs", len(file.Jobs))
	}
	if file.Permissions["id-token"] != "write" || len(file.Permissions) != 1 {
		return job{}, fmt.Errorf("the permissions are %v", file.Permissions)
	}
	for _, found := range file.Jobs {
		if len(found.Steps) != 1 || found.Steps[0].Shell != "bash" {
			return job{}, errors.New("not one step, or not for bash, without which there is no pipefail")
		}
		j := job{env: found.Env, mayAsk: true, script: "set -eo pipefail\n" + found.Steps[0].Run}
		return j, lint(j.script)
	}
	return job{}, nil
}

func strict(text string, into any) error {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	return decoder.Decode(into)
}

// lint refuses what could show a secret in the log of a job or to others on the runner's machine.
func lint(script string) error {
	for what, pattern := range map[string]string{
		"prints":                         `\b(echo|cat|tee|printenv|less)\b`,
		"shows what bash does":           `\bset -[a-z]*[xv]`,
		"prints a variable to the log":   `printf [^|)]*$`,
		"puts a JWT on a command line":   `\bjwt=[^-]`,
		"puts a token on a command line": `(--token |amp-bs|hvs\.)`,
		"writes to a file":               `[^<=-]>`,
		"shows an answer whole":          `vault write (?:[^|]*/issue|[^|]*/login)(?:[^|)]*)$`,
	} {
		for _, line := range strings.Split(strings.ReplaceAll(script, "\\\n", " "), "\n") {
			if regexp.MustCompile(pattern).MatchString(line) {
				return fmt.Errorf("a step %s: %s", what, line)
			}
		}
	}
	if strings.Count(script, "vault write ") != strings.Count(script, "vault write -field=token ") {
		return errors.New("a step writes to Vault without -field=token")
	}
	return nil
}

// runner runs a job as the service's runner would, with nothing of ours in its environment.
func (w *world) runner(j job, from *issuer, env ...string) (out string, err error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	dir, err := os.MkdirTemp(w.dir, "job-")
	must(w.t, err)
	cmd := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", "-c", j.script)
	cmd.Dir = dir
	cmd.Env = append(w.bare(), append(env, "HOME="+dir)...)
	for name, value := range j.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for name, audience := range j.audience {
		cmd.Env = append(cmd.Env, name+"="+from.token(audience))
	}
	if j.mayAsk {
		cmd.Env = append(cmd.Env, "ACTIONS_ID_TOKEN_REQUEST_TOKEN="+from.asking, "ACTIONS_ID_TOKEN_REQUEST_URL="+from.URL+"/job?api-version=2.0")
	}
	raw, err := cmd.CombinedOutput()
	return string(raw), err
}

// bare is the environment of a machine that nobody has logged in on. It trusts Vault's certificate.
func (w *world) bare() []string {
	var kept []string
	for _, kv := range w.env {
		if !strings.HasPrefix(kv, "VAULT_") || strings.HasPrefix(kv, "VAULT_CACERT=") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// enrols runs a job of the right project, which must make one agent and show no secret, and one of another, which must get nothing.
func (w *world) enrols(j job, from *issuer, right, wrong map[string]any, env ...string) {
	w.t.Helper()
	before := w.agents()
	from.claims = wrong
	if out, err := w.runner(j, from, env...); err == nil || w.agents() != before || !strings.Contains(out, "claim") {
		w.t.Errorf("a job of another project: %v, %d agents after %d\n%s", err, w.agents(), before, out)
	}
	from.claims = right
	out, err := w.runner(j, from, env...)
	if err != nil || w.agents() != before+1 {
		w.t.Fatalf("the job: %v, %d agents after %d\n%s\n%s", err, w.agents(), before, j.script, out)
	}
	for _, secret := range append(from.given, "amp-bs.", "hvs.", from.asking) {
		if strings.Contains(out, secret) {
			w.t.Errorf("the job's log has %s:\n%s", secret, out)
		}
	}
	w.t.Logf("the job\n%s\nprinted\n%s", j.script, out)
}

func (w *world) agents() int {
	w.t.Helper()
	list, err := w.vault.Client().Logical().ListWithContext(w.t.Context(), "ampora/agents")
	must(w.t, err)
	if list == nil {
		return 0
	}
	keys, _ := list.Data["keys"].([]any)
	return len(keys)
}

// without fails if a file of the reader's machine has the text in it.
func (w *world) without(text string) {
	w.t.Helper()
	looked := 0
	must(w.t, filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		looked++
		if strings.Contains(string(raw), text) {
			w.t.Errorf("%s has %q in it", path, text)
		}
		return err
	}))
	if looked < 5 {
		w.t.Errorf("only %d files were looked at", looked)
	}
}

func TestWhatTheScriptsPageTellsWorks(t *testing.T) {
	t.Parallel()
	w := installed(t)
	lab, hub := newIssuer(t), newIssuer(t)
	w.replace("https://gitlab.example.com", lab.URL, "https://token.actions.githubusercontent.com", hub.URL)
	text, all := page(t, "scripts/README.md")
	for _, b := range all {
		switch {
		case b.kind == "" || b.kind == "output":
			continue
		case b.kind == "gitlab":
			j, err := gitlab(w.places.Replace(b.text))
			if err != nil {
				t.Fatalf("line %d: %v", b.line, err)
			}
			w.enrols(j, lab, map[string]any{"project_path": "fleet/machines", "ref_protected": "true"},
				map[string]any{"project_path": "fleet/machines-2", "ref_protected": "true"}, "CI_JOB_URL=https://gitlab.example.com/fleet/machines/-/jobs/1")
			continue
		case b.kind == "github":
			j, err := github(w.places.Replace(b.text))
			if err != nil {
				t.Fatalf("line %d: %v", b.line, err)
			}
			w.enrols(j, hub, map[string]any{"repository": "fleet/machines", "ref": "refs/heads/main"},
				map[string]any{"repository": "fleet/machines", "ref": "refs/heads/mine"}, "GITHUB_REPOSITORY=fleet/machines", "GITHUB_RUN_ID=1")
			continue
		}
		w.do(b)
		if b.name == "first boot" {
			w.boot()
		}
	}
	w.without("amp-bs.") // until here no bootstrap token was on the disk
	w.clicks(text)
}

// boot runs the user data as the machine does, and then as somebody who has found it on another one.
func (w *world) boot() {
	w.t.Helper()
	before := w.agents()
	run := func(script string) (string, error) {
		cmd := exec.CommandContext(w.t.Context(), "bash", "-c", script)
		cmd.Dir, cmd.Env = w.dir, append(w.bare(), "HOME="+w.t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	script := w.read("etc/ampora/web-18.sh")
	if out, err := run(script); err != nil || w.agents() != before+1 {
		w.t.Errorf("the first boot: %v, %d agents after %d\n%s", err, w.agents(), before, out)
	}
	out, err := run(strings.ReplaceAll(script, "/otelcol/identity", "/otelcol/another"))
	if err == nil || w.agents() != before+1 || !strings.Contains(out, "wrapping token is not valid or does not exist") {
		w.t.Errorf("the same user data elsewhere: %v, %d agents after %d\n%s", err, w.agents(), before, out)
	}
}

// clicks runs the commands of the table.
func (w *world) clicks(text string) {
	w.t.Helper()
	table, err := section(text, "clicks")
	must(w.t, err)
	w.must(`AGENT_ID=$(vault list -format=yaml ampora/agents | awk 'NR == 1 { print $2 }')
		TOKEN_ID=$(vault write -f -field=token_id ampora/tokens/issue)
		POOL_ID=$(vault read -field=pool_id ampora/pools/ci)`)
	rows := regexp.MustCompile("(?m)^\\| [^|`]+ \\| `([^`]+)` \\|$").FindAllStringSubmatch(table, -1)
	if len(rows) < 20 || len(rows) != strings.Count(table, "\n")-2 {
		w.t.Fatalf("%d rows of the table are understood:\n%s", len(rows), table)
	}
	for _, row := range rows {
		w.t.Logf("%s\n%s", row[1], w.must(row[1]))
	}
}

func TestPipelinesThatShowSecretsDoNotPass(t *testing.T) {
	_, all := page(t, "scripts/README.md")
	for _, b := range all {
		read := map[string]func(string) (job, error){"gitlab": gitlab, "github": github}[b.kind]
		if read == nil {
			continue
		}
		if _, err := read(b.text); err != nil {
			t.Errorf("the page's own: %v", err)
		}
		for _, change := range [][2]string{
			{"id_tokens:", "secrets:"}, {"id-token: write", "id-token: read"}, {"id-token: write", "contents: write"}, {"shell: bash", "shell: sh"},
			{"vault write -field=token ampora", "vault write ampora"}, {"export VAULT_TOKEN", "echo $VAULT_TOKEN; export VAULT_TOKEN"},
			{"jwt=-", `jwt="$VAULT_ID_TOKEN"`}, {"--out identity", "--out identity; set -x"}, {"--out identity", "--out identity; printenv"},
			{"ampora enroll", "tee token | ampora enroll"}, {"--ca-file", "> token; cat token --ca-file"},
			{"jwt=-)", "jwt=-); printf %s $VAULT_TOKEN"},
		} {
			changed := strings.Replace(b.text, change[0], change[1], 1)
			if changed == b.text {
				continue
			}
			if _, err := read(changed); err == nil {
				t.Errorf("%s: this passes, after %q:\n%s", b.kind, change, changed)
			}
		}
	}
}
