// Package process runs the programs of 'ampora dev', so that none of them stays behind: each is a process group of its own, which
// a Ctrl-C in the terminal does not reach, and ends when we do.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Child is a running program.
type Child struct {
	name   string
	log    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the program is gone
}

// Start runs a program with exactly this environment; what it prints goes to the file log.
func Start(name, program, log string, env, args []string) (*Child, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own
	c := &Child{name: name, log: log, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	c.cmd.Dir, c.cmd.Env = filepath.Dir(log), env
	c.cmd.Stdout, c.cmd.Stderr = f, f
	c.cmd.SysProcAttr = attributes()
	started := make(chan error, 1)
	go func() {
		// The kernel ends the child with the thread that started it, so that thread must stay for as long as the child runs.
		runtime.LockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			_ = c.cmd.Wait() // how it ended stands in its log
		}
		close(c.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return c, nil
}

// Exited is closed when the program is gone.
func (c *Child) Exited() <-chan struct{} { return c.exited }

// Failure is an error that says that the program ended by itself, with the end of its log.
func (c *Child) Failure() error {
	return fmt.Errorf("%s ended by itself: %s\n%s", c.name, c.cmd.ProcessState, c.tail())
}

// Stop asks the program to end, and kills its whole group when it has not after patience.
func (c *Child) Stop(patience time.Duration) error {
	if err := terminate(c.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.exited:
	case <-time.After(patience):
	}
	// Also after a good end: what the program left in its group goes too.
	kill(c.cmd.Process)
	<-c.exited
	return nil
}

// tailLines is how much of a log an error shows.
const tailLines = 15

func (c *Child) tail() string {
	data, err := os.ReadFile(c.log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
