package readme

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/test/vaulttest"
)

var update = flag.Bool("update", false, "write the sections that are made from the programs into the pages")

// check compares a section with what it should be, or writes it.
func check(t *testing.T, path, name, want string) {
	t.Helper()
	if *update {
		must(t, replaceSection(filepath.Join("../..", path), name, want))
		return
	}
	text, _ := page(t, path)
	have, err := section(text, name)
	must(t, err)
	if have != want {
		t.Errorf("%s: the section %q is out of date; 'go test ./test/readme -update' makes it:\n%s", path, name, want)
	}
}

// TestTheErrorTableIsTheCatalogue makes all columns but the one that says what a code means: that one is written by hand.
func TestTheErrorTableIsTheCatalogue(t *testing.T) {
	text, _ := page(t, "README.md")
	old, err := section(text, "codes")
	must(t, err)
	meaning := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]* \\| [^|]* \\| ([^|]*) \\|").FindAllStringSubmatch(old, -1) {
		meaning[m[1]] = strings.TrimSpace(m[2])
	}
	var b strings.Builder
	b.WriteString("| code | Vault | edge | what it means | what to do |\n|---|---|---|---|---|\n")
	for _, code := range apitype.Codes() {
		if meaning[string(code)] == "" {
			t.Errorf("the page does not say what %s means", code)
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %s | %s |\n", code, code.VaultStatus(), code.EdgeStatus(), meaning[string(code)], markdown(code.Next()))
	}
	check(t, "README.md", "codes", b.String())
}

func TestTheFlagTableIsTheHelp(t *testing.T) {
	out, err := exec.Command(vaulttest.RequireBin(t, "ampora-edge"), "--help").Output()
	must(t, err)
	start := regexp.MustCompile(`^ {2,6}(?:-\w, )?--([a-z-]+)(?:=(\S+))?(?:  +(.*))?$`)
	type entry struct{ name, value, help string }
	var flags []*entry
	for _, line := range strings.Split(string(out), "\n") {
		if m := start.FindStringSubmatch(line); m != nil {
			flags = append(flags, &entry{name: m[1], value: m[2], help: m[3]})
		} else if len(flags) > 0 && strings.HasPrefix(line, "          ") {
			flags[len(flags)-1].help += " " + strings.TrimSpace(line)
		}
	}
	var b strings.Builder
	b.WriteString("| flag | value or default | meaning | environment |\n|---|---|---|---|\n")
	for _, f := range flags {
		help, env := strings.TrimSpace(f.help), ""
		if m := regexp.MustCompile(`^(.*?) ?\(\$(AMPORA_EDGE_[A-Z_]+)\)\.?$`).FindStringSubmatch(help); m != nil {
			help, env = m[1], "`"+m[2]+"`"
		}
		value := strings.ReplaceAll(strings.Trim(f.value, `"`), "|", " or ")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", f.name, value, markdown(strings.TrimSuffix(help, ".")), env)
	}
	if len(flags) < 10 {
		t.Fatalf("the help is not understood:\n%s", out)
	}
	check(t, "edge/README.md", "flags", b.String())
}

func TestTheMakeTargetsAreThoseOfTheMakefile(t *testing.T) {
	out, err := exec.Command("make", "--no-print-directory", "-C", "../..", "help").Output()
	must(t, err)
	var b strings.Builder
	b.WriteString("| target | what it does |\n|---|---|\n")
	for _, line := range lines(string(out))[1:] {
		name, help, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Fprintf(&b, "| `make %s` | %s |\n", name, markdown(strings.TrimSpace(help)))
	}
	check(t, "README.md", "make", b.String())
}

// TestWhatThePluginsPageSaysOfAMount reads the tables off a mount that 'ampora setup' has made.
func TestWhatThePluginsPageSaysOfAMount(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	version, err := v.RegisterAmpora(t.Context(), "fresh")
	must(t, err)
	setup := exec.Command(vaulttest.RequireBin(t, "ampora"), "setup", "--plugin-version", version, "--no-ca")
	setup.Env = append(environment(), v.Env()...)
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	tune, err := v.Client().Logical().Read("sys/mounts/ampora/tune")
	must(t, err)
	var b strings.Builder
	for _, kind := range []string{"request", "response"} {
		var keys []string
		for _, k := range tune.Data["audit_non_hmac_"+kind+"_keys"].([]any) {
			keys = append(keys, "`"+k.(string)+"`")
		}
		slices.Sort(keys)
		if len(keys) == 0 {
			t.Fatal("no keys are open")
		}
		fmt.Fprintf(&b, "- **In %ss**: %s\n", kind, strings.Join(keys, ", "))
	}
	check(t, "plugin/README.md", "audit keys", b.String())

	config, err := v.Client().Logical().Read("fresh/config")
	must(t, err)
	help, err := v.Client().Help("fresh/config")
	must(t, err)
	meaning := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ {4}([a-z_]+) \(.+\)\n+ {8}(.+)$`).FindAllStringSubmatch(help.Help, -1) {
		meaning[m[1]] = strings.TrimSuffix(m[2], ".")
	}
	var names []string
	for name := range config.Data {
		names = append(names, name)
	}
	slices.Sort(names)
	b.Reset()
	b.WriteString("| field | default | meaning |\n|---|---|---|\n")
	for _, name := range names {
		if meaning[name] == "" {
			t.Errorf("the help does not explain %s:\n%s", name, help.Help)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, defaultOf(config.Data[name]), markdown(meaning[name]))
	}
	check(t, "plugin/README.md", "config", b.String())
}

// defaultOf shows a value. All numbers in the configuration are seconds.
func defaultOf(v any) string {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		switch {
		case err != nil || n == 0:
			return v.String()
		case n%86400 == 0:
			return fmt.Sprintf("%dd", n/86400)
		case n%3600 == 0:
			return fmt.Sprintf("%dh", n/3600)
		case n%60 == 0:
			return fmt.Sprintf("%dm", n/60)
		}
		return v.String() + "s"
	case []any:
		if len(v) == 0 {
			return "none"
		}
	case string:
		if v == "" {
			return "none"
		}
	}
	return fmt.Sprint(v)
}

// markdown sets what stands in quotes as code, and keeps the rest from being read as HTML or as the end of a cell.
func markdown(text string) string {
	var b strings.Builder
	for i, part := range strings.Split(regexp.MustCompile(`(^|[ (])'([^']+)'`).ReplaceAllString(text, "$1\x00$2\x00"), "\x00") {
		if i%2 == 1 {
			b.WriteString("`" + part + "`")
		} else {
			b.WriteString(strings.NewReplacer("<", "&lt;", "|", "\\|").Replace(part))
		}
	}
	return b.String()
}

// TestTheHarness is about the test itself: a page that is wrong must not pass.
func TestTheHarness(t *testing.T) {
	for name, c := range map[string]struct{ rendering, output string }{
		"a line that is not there":     {"a\nx", "a\nb"},
		"a line left out without dots": {"a\nc", "a\nb\nc"},
		"lines in another order":       {"a\n...\nb", "b\na"},
		"more lines than there are":    {"a\nb", "a"},
	} {
		if shows(c.rendering, c.output) == nil {
			t.Errorf("%s passes", name)
		}
	}
	for name, c := range map[string]struct{ rendering, output string }{
		"the same":          {"a\nb", "a\nb\n"},
		"a middle left out": {"a\n...\nd", "a\nb\nc\nd"},
		"only the end":      {"c\n...", "a\nb\nc\nd"},
		"other values":      {"id 11111111-2222-3333-4444-555555555555 at 2026-01-02T03:04:05Z", "id   aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee at 2027-01-02T03:04:05.678Z"},
	} {
		if err := shows(c.rendering, c.output); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"```sh\nno end", "<!-- test: run -->\nno block\n", "<!-- test: -->\n", "````\n"} {
		if _, err := blocks(text); err == nil {
			t.Errorf("this page passes: %q", text)
		}
	}
	if _, err := section("no marks", "x"); err == nil {
		t.Error("a section that is not there is found")
	}
	file := filepath.Join(t.TempDir(), "page")
	must(t, os.WriteFile(file, []byte("a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n"), 0o600))
	must(t, replaceSection(file, "x", "new\n"))
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "a\n<!-- begin: x -->\nnew\n<!-- end: x -->\nb\n" {
		t.Errorf("%v: %s", err, raw)
	}
}
