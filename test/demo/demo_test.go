package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/vaulttest"
)

// command is scripts/demo.sh with its temporary files in a directory of the test's.
func command(t *testing.T) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	for _, program := range []string{"vault", "vault-plugin-secrets-ampora", "ampora-edge", "ampora"} {
		vaulttest.RequireBin(t, program)
	}
	tmp = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // it may have to be compiled
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, "../../scripts/demo.sh")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	return cmd, tmp
}

func TestTheDemoShowsWhatItPromisesAndLeavesNothing(t *testing.T) {
	cmd, tmp := command(t)
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		"Storage Type            raft\n",
		"changed    ampora/ is mounted and runs v",
		"bootstrap token: intact\n",
		"agent certificate: intact\n",
		"agent connected: kind=agent",
		"token_redeemed",
		"- action: Token.Redeemed\n",
		`"token":"hmac-sha256:`,
		`{"token":"amp-bs.`,
		"urn:ampora:error:pool_secret_invalid",
		"error: the edge refused: pool_revoked",
		"(certificate_revoked); it will be replaced",
		"- action: Certificate.Revoked\n",
		"MovedToPeer west",
		"MovedToPeer demo",
		"  Handover.Completed ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the demo does not show %q", want)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("there are escape sequences in the output, which is no terminal")
	}
	took := regexp.MustCompile(`That took ([0-9.]+) seconds`).FindStringSubmatch(text)
	if took == nil {
		t.Fatalf("the demo does not say how long it took:\n%s", text)
	}
	if seconds, err := strconv.ParseFloat(took[1], 64); err != nil || seconds >= limit.Seconds() {
		t.Errorf("the demo took %s seconds, want less than %s", took[1], limit)
	}
	nothingLeft(t, tmp)
	if t.Failed() {
		t.Log(text)
	}
}

func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	cmd, tmp := command(t)
	out := &seen{want: "bootstrap token: intact", there: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-out.there:
	case err := <-ended:
		t.Fatalf("ended before it could be interrupted: %v\n%s", err, out.text.String())
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("an interrupted demo must not exit with status 0")
	}
	if text := out.text.String(); !strings.Contains(text, "error: the demo ended early") {
		t.Errorf("the demo does not say that it ended early:\n%s", text)
	}
	nothingLeft(t, tmp)
}

func TestAStepThatMisbehavesEndsTheDemo(t *testing.T) {
	for name, step := range map[string]func(*demo){
		"a command that fails":                    func(d *demo) { d.run("false") },
		"a command that prints something else":    func(d *demo) { d.run("echo nay", "yea") },
		"a command that fails early in a pipe":    func(d *demo) { d.run("false | cat") },
		"something that never comes to be":        func(d *demo) { d.await("nothing", running(t), func() bool { return false }) },
		"a background program that does not run":  func(d *demo) { d.await("it", d.start("false", "log"), func() bool { return false }) },
		"a command that hangs until time is over": func(d *demo) { d.run("sleep 60; sleep 60") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			var out bytes.Buffer
			d := &demo{ctx: ctx, out: &out, dir: t.TempDir()}
			step(d)
			if d.err == nil {
				t.Fatalf("the demo goes on:\n%s", out.String())
			}
			out.Reset()
			d.head("next")
			d.run("echo next")
			if out.Len() > 0 {
				t.Errorf("the demo goes on: %s", out.String())
			}
		})
	}
}

// running is a process that runs for as long as the test.
func running(t *testing.T) *proc.Child {
	t.Helper()
	child, err := proc.Start(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.End(syscall.SIGTERM, time.Second) })
	return child
}

// seen is a writer that tells when something was written to it.
type seen struct {
	text  bytes.Buffer
	want  string
	there chan struct{}
	done  bool
}

func (s *seen) Write(p []byte) (int, error) {
	s.text.Write(p)
	if !s.done && strings.Contains(s.text.String(), s.want) {
		s.done = true
		close(s.there)
	}
	return len(p), nil
}

// nothingLeft looks for files in the directory and for processes that were told of it.
func nothingLeft(t *testing.T, tmp string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(tmp, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
	if runtime.GOOS != "linux" {
		return
	}
	processes, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(processes) == 0 {
		t.Fatalf("no processes at all: %v", err)
	}
	for _, environ := range processes {
		env, err := os.ReadFile(environ)
		if err == nil && bytes.Contains(env, []byte("TMPDIR="+tmp)) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(environ), "cmdline"))
			t.Errorf("a process is left: %s", bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
	}
}
