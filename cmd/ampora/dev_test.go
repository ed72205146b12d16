package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/ampora/ampora/test/vaulttest"
)

// devRun is "ampora dev" as a process.
type devRun struct {
	cmd    *exec.Cmd
	out    *safeBuffer
	temp   string // where it may put things
	exited chan struct{}
	all    []proc.Process // itself, Vault, the plugin and the edge, once it is ready
}

// startDev runs the built program on free ports and returns when it has explained itself.
func startDev(t *testing.T) *devRun {
	t.Helper()
	program := vaulttest.RequireBin(t, "ampora")
	for _, name := range []string{"vault", "ampora-edge", "vault-plugin-secrets-ampora"} {
		vaulttest.RequireBin(t, name)
	}
	d := &devRun{out: &safeBuffer{}, temp: t.TempDir(), exited: make(chan struct{})}
	d.cmd = exec.Command(program, "dev", "--vault-listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.temp, "VAULT_ADDR=http://127.0.0.1:1", "VAULT_TOKEN=hvs.of-another-vault")
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait() // how it ended is looked at by those who care
		close(d.exited)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // refused when it is gone, as it should be
		<-d.exited
		if t.Failed() {
			t.Log(d.out.String())
		}
	})
	for begin := time.Now(); !strings.Contains(d.out.String(), "accepts_opamp_connection_settings"); time.Sleep(50 * time.Millisecond) {
		select {
		case <-d.exited:
			t.Fatal("it ended by itself")
		default:
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("it does not become ready")
		}
	}
	d.all = proc.Children(d.cmd.Process.Pid)
	for _, p := range d.all {
		d.all = append(d.all, proc.Children(p.PID)...)
	}
	if len(d.all) != 3 {
		t.Fatalf("there are %d processes, not Vault, its plugin and the edge: %+v", len(d.all), d.all)
	}
	return d
}

// wait waits for the end and answers the exit code.
func (d *devRun) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	return d.cmd.ProcessState.ExitCode()
}

func (d *devRun) leftOnDisk(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(d.temp, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestDevWorksAsItExplainsAndLeavesNothing runs the printed commands as they are printed, then presses Ctrl-C.
func TestDevWorksAsItExplainsAndLeavesNothing(t *testing.T) {
	d := startDev(t)
	bin, err := vaulttest.BinDir()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	script := exec.CommandContext(t.Context(), "bash", "-eu", "-c", printedCommands(t, d.out.String()))
	script.Dir = work
	script.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + work}
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("the printed commands: %v\n%s", err, out)
	}
	for _, want := range []string{"agent certificate: intact", "private key: intact", "belongs_to"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the printed commands do not say %q:\n%s", want, out)
		}
	}
	data, err := os.ReadFile(filepath.Join(work, "token"))
	if err != nil || bytes.Contains(out, bytes.TrimSpace(data)) {
		t.Errorf("the token is shown, or was not written: %v", err)
	}
	if rootToken := regexp.MustCompile(`dev-[A-Z2-7]{20,}`); rootToken.MatchString(d.out.String()) {
		t.Error("the root token is shown")
	}

	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := d.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !proc.Gone(d.all, 0) {
		t.Error("a process is left")
	}
	if left := d.leftOnDisk(t); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(work, ".vault-token")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a Vault token was left in the home directory")
	}
}

// printedCommands are the lines from the first export to the inspection, indented as they are printed.
func printedCommands(t *testing.T, out string) string {
	t.Helper()
	var lines []string
	for _, line := range strings.Split(out, "\n") {
		command, indented := strings.CutPrefix(line, "  ")
		if !indented || strings.HasPrefix(command, "tail -f") {
			continue
		}
		if strings.HasPrefix(command, "server:") {
			break
		}
		lines = append(lines, command)
	}
	if len(lines) < 6 {
		t.Fatalf("only %d commands are printed", len(lines))
	}
	return strings.Join(lines, "\n")
}

func TestWhenVaultEndsDevEndsAndSaysSo(t *testing.T) {
	d := startDev(t)
	for _, p := range d.all {
		if filepath.Base(p.Exe) == "vault" {
			p.Signal(syscall.SIGKILL)
		}
	}
	if code := d.wait(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(d.out.String(), "Vault ended by itself") {
		t.Error("it does not say what happened")
	}
	if !proc.Gone(d.all, 5*time.Second) {
		t.Error("a process is left")
	}
	if left := d.leftOnDisk(t); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestWhenDevIsKilledItsProcessesEnd(t *testing.T) {
	d := startDev(t)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !proc.Gone(d.all, 20*time.Second) {
		t.Error("a process is left")
	}
}

// safeBuffer is written by a process and read by a test.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
