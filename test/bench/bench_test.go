package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/test/vaulttest"
)

// TestBenchmarkRuns runs the whole program at its smallest, so that it does not rot. The figures mean nothing; that each
// target has one does.
func TestBenchmarkRuns(t *testing.T) {
	for _, name := range []string{"vault", "vault-plugin-secrets-ampora", "ampora-edge", "ampora"} {
		vaulttest.RequireBin(t, name)
	}
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "./...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	var out, progress bytes.Buffer
	figures := filepath.Join(dir, "figures.json")
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), "--bareserver", filepath.Join(dir, "bareserver"),
		"--rounds", "2", "--parallel", "4", "--operations", "8", "--alone", "2", "--counted", "2", "--requests", "2", "--expired", "2100", "--single", "100", "--events", "50", "--agents", "12", "--tokens", "20", "--revoked", "150", "--watched", "3", "--moved", "5", "--moves", "2",
		"--heartbeat", "1s", "--settle", "100ms", "--reconnect", "200ms", "--json", figures)
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	raw, err := os.ReadFile(figures)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Targets) != len(targets) {
		t.Errorf("%d of %d targets have a figure", len(r.Targets), len(targets))
	}
	for _, row := range r.Targets {
		if !strings.Contains(out.String(), row.What) {
			t.Errorf("the table does not show %q:\n%s", row.What, out.String())
		}
	}
	for key, want := range map[string]float64{"writes-redeem": 3, "writes-issue": 2, "writes-check": 0} {
		if got := r.single(key); got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	for _, key := range []string{"issue-loaded", "enrol-alone", "reconnects", "issue-count", "expired-enrol", "sweep-enrol-batch"} {
		if f := r.Figures[key]; len(f.Ours) != 2 || len(f.Theirs) != 2 || median(f.Ours) <= 0 || median(f.Theirs) <= 0 {
			t.Errorf("%s: %+v", key, f)
		}
	}
}

func TestJudgement(t *testing.T) {
	for _, c := range []struct {
		name    string
		key     string
		f       figures
		reached string
	}{
		{"more is better, as good as the start", "issue-count", figures{Ours: []float64{100, 300, 100}, Theirs: []float64{100, 100, 200}}, "start"},
		{"more is better, missed", "enrol-loaded", figures{Ours: []float64{120}, Theirs: []float64{100}}, "no"},
		{"less is better, the aim", "memory", figures{Ours: []float64{10}, Theirs: []float64{10}}, "aim"},
		{"less is better, missed", "memory", figures{Ours: []float64{13}, Theirs: []float64{10}}, "no"},
		{"nothing to compare with", "writes-redeem", figures{Ours: []float64{3}}, "start"},
		{"an aim alone", "audit", figures{Ours: []float64{51}}, "no"},
	} {
		var r report
		r.add(c.key, c.f)
		r.judge()
		if len(r.Targets) != 1 || r.Targets[0].Reached != c.reached {
			t.Errorf("%s: %+v, want %q", c.name, r.Targets, c.reached)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all  []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.all); got != c.want {
			t.Errorf("median of %v is %v", c.all, got)
		}
	}
}

// TestChildHearsOfTheEnd: a program of a run whose standard input ends is to end itself, where no kernel sees to that.
func TestChildHearsOfTheEnd(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c, err := begin(log, os.Environ(), "/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.in.Close()
	select {
	case <-c.Exited():
	case <-time.After(5 * time.Second):
		c.end()
		t.Error("it goes on")
	}
}
