package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRunsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines string
		want  string
		good  bool
	}{
		{"a pass", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`, "1 passed, 0 failed, 0 skipped", true},
		{"a failure with a failed subtest", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p","Test":"TestA/x"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, "0 passed, 2 failed, 0 skipped", false},
		{"a skip among passes", `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`, "1 passed, 0 failed, 1 skipped", false},
		{"a package that does not build", `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: no\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`, "0 passed, 1 failed, 0 skipped", false},
		{"a test that never ends", `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}`, "1 passed, 1 failed, 0 skipped", false},
		{"a go command that is killed", `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}`, "1 passed, 1 failed, 0 skipped", false},
		{"a package without tests beside one with", `{"Action":"skip","Package":"q"}
{"Action":"pass","Package":"p","Test":"TestA"}`, "1 passed, 0 failed, 0 skipped", true},
		{"nothing", ``, "0 passed, 0 failed, 0 skipped", false},
		{"chatter of the go command", "go: downloading x\n", "0 passed, 0 failed, 0 skipped", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r := follow(strings.NewReader(c.lines), &out, "run", time.Hour)
			path := filepath.Join(t.TempDir(), "counts")
			if err := record(path, r); err != nil {
				t.Fatal(err)
			}
			out.Reset()
			good, err := sum(path, &out)
			if err != nil {
				t.Fatal(err)
			}
			if got := lastLine(out.String()); got != c.want || good != c.good {
				t.Errorf("got %q, good %v; want %q, good %v", got, good, c.want, c.good)
			}
		})
	}
}

func TestOneBadRunSpoilsTheSum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counts")
	for _, r := range []result{{Name: "a", Passed: 3}, {Name: "b"}} {
		if err := record(path, r); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if good, err := sum(path, &out); err != nil || good || lastLine(out.String()) != "3 passed, 0 failed, 0 skipped" {
		t.Errorf("a run without tests passes: %v, %v\n%s", good, err, &out)
	}
	if good, err := sum(filepath.Join(t.TempDir(), "none"), &out); err != nil || good {
		t.Errorf("no run at all passes: %v, %v", good, err)
	}
	if err := os.WriteFile(path, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sum(path, &out); err == nil {
		t.Error("a spoiled file passes")
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
