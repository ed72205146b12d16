package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ampora/ampora/test/proc"
)

// child is a program of ours with its standard input and output.
type child struct {
	*proc.Child
	name string
	in   io.WriteCloser
	out  *bufio.Reader
}

// begin starts a program. What it says to standard error goes to the log.
func begin(log *os.File, env []string, path string, args ...string) (*child, error) {
	c := &child{name: filepath.Base(path)}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stderr = env, log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = in, bufio.NewReader(out)
	if c.Child, err = proc.Start(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.name, err)
	}
	return c, nil
}

// line is the next line that the child prints.
func (c *child) line() (string, error) {
	text, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s says no more: %w", c.name, err)
	}
	return strings.TrimSpace(text), nil
}

func (c *child) end() {
	_ = c.in.Close()
	c.End(syscall.SIGTERM, 5*time.Second)
}

var errNoProc = errors.New("this system has no /proc to read a process's memory and processor time from")

// resident is how much memory the child has, in bytes.
func (c *child) resident() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID()))
	if err != nil {
		return 0, errNoProc
	}
	for l := range strings.Lines(string(raw)) {
		if rest, found := strings.CutPrefix(l, "VmRSS:"); found {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errNoProc
}

// processor is how much processor time the process has used. The kernel counts it in hundredths of a second.
func processor(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, errNoProc
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	const user, system = 11, 12 // counted from the state, the first field after the name
	if len(fields) <= system {
		return 0, errNoProc
	}
	var ticks int64
	for _, f := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
