package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ampora/ampora"

// pkg is a package of ours and what its own files, without tests, import.
type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
	Deps       []string
}

// packages asks the go command, which knows build tags as the build does.
func packages(t *testing.T) []pkg {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var all []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module+"/")
		for i, d := range p.Imports {
			p.Imports[i] = strings.TrimPrefix(d, module+"/")
		}
		all = append(all, p)
	}
}

// within reports whether path is the package or below it.
func within(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// rule says what the packages at or below From must not import. With Deps it holds for what they import indirectly, too.
type rule struct {
	From      string
	Except    []string // packages at or below From for which the rule does not hold
	Forbidden []string
	Allowed   []string // of what is forbidden
	Deps      bool
	Because   string
}

const sdk = "github.com/hashicorp/vault/sdk"

var rules = []rule{
	{
		From: "plugin", Except: []string{"plugin/plugintest"}, Forbidden: []string{"edge", "cmd", "test", "scripts"}, Deps: true,
		Because: "the engine runs inside Vault and knows of nobody who calls it",
	},
	{
		From: "plugin/plugintest", Forbidden: []string{"edge", "cmd", "test", "scripts"}, Deps: true,
		Because: "a test of the edge uses it, and it knows of no edge",
	},
	{
		From: "plugin/internal", Except: []string{"plugin/internal/store", "plugin/internal/storetest"}, Forbidden: []string{sdk, "github.com/hashicorp/vault/api"},
		Because: "domain packages work with plain Go values; storage is behind plugin/internal/store",
	},
	{
		From: "plugin/internal/store", Forbidden: []string{sdk + "/framework", sdk + "/plugin", "github.com/hashicorp/vault/api"},
		Because: "of Vault's SDK the store needs the storage alone",
	},
	{
		From: "plugin/internal", Forbidden: []string{"plugin/client", "plugin/plugintest"}, Deps: true,
		Because: "the domain knows no client of itself",
	},
	{
		From: "", Except: []string{"plugin"}, Forbidden: []string{sdk + "/framework"},
		Because: "only the package plugin is glue to the framework",
	},
	{
		From: "plugin/internal/ca", Forbidden: []string{sdk, "plugin/internal"}, Allowed: []string{"plugin/internal/ca"}, Deps: true,
		Because: "keys and signatures need neither storage nor Vault",
	},
	{
		From: "plugin/client", Forbidden: []string{sdk, "plugin/internal", "plugin/token"}, Deps: true,
		Because: "whoever calls the API must not take on the engine with it",
	},
	{
		From: "edge", Forbidden: []string{sdk, "plugin", "cmd", "test", "scripts"}, Allowed: []string{"plugin/apitype", "plugin/client", "plugin/token", "plugin/identity", "plugin/handover"}, Deps: true,
		Because: "the edge sees the API, never path handlers or state",
	},
	{
		From: "edge", Except: []string{"edge/opamp"}, Forbidden: []string{"github.com/open-telemetry/opamp-go"},
		Because: "protobuf stops at edge/opamp",
	},
	{
		From: "cmd/ampora-edge", Forbidden: []string{"plugin"}, Allowed: []string{"plugin/apitype"},
		Because: "it turns flags into edge.Options and runs",
	},
	{
		From: "cmd/vault-plugin-secrets-ampora", Forbidden: []string{"edge", "plugin"}, Allowed: []string{"plugin", "plugin/apitype"},
		Because: "it serves the plugin, nothing else",
	},
	{
		From: "plugin/plugintest", Forbidden: []string{"plugin/internal"},
		Because: "callers' tests stand on the public door",
	},
}

func TestNobodyImportsWhatIsNotTheirs(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		held := 0
		for _, p := range all {
			if r.From != "" && !within(p.ImportPath, r.From) || slices.ContainsFunc(r.Except, func(e string) bool { return except(p.ImportPath, e) }) {
				continue
			}
			held++
			imports := p.Imports
			if r.Deps {
				imports = nil
				for _, d := range p.Deps {
					imports = append(imports, strings.TrimPrefix(d, module+"/"))
				}
			}
			for _, i := range imports {
				if slices.ContainsFunc(r.Forbidden, func(f string) bool { return within(i, f) }) && !slices.Contains(r.Allowed, i) {
					t.Errorf("%s imports %s, but %s", p.ImportPath, i, r.Because)
				}
			}
		}
		if held == 0 {
			t.Errorf("the rule for %s holds for no package any more", r.From)
		}
	}
}

// except leaves out a package alone where it is named plugin, and else what is below it, too.
func except(path, e string) bool { return path == e || e != "plugin" && within(path, e) }

func TestTheTypesOfTheAPIRestOnTheStandardLibraryAlone(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != "plugin/apitype" {
			continue
		}
		for _, i := range p.Deps {
			if first, _, _ := strings.Cut(i, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
		return
	}
	t.Error("plugin/apitype is gone")
}
