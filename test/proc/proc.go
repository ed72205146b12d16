// Package proc runs the programs of tests, demonstrations and benchmarks, so that none of them stays behind: a child ends
// when its parent does, and a process is never mistaken for a later one under the same number.
package proc

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is one running process, told apart from a later one under the same number
// by when it was started.
type Process struct {
	PID     int
	Exe     string
	started string
}

// Signal sends s unless the process is gone. There is a moment between looking and
// sending; a number is not given out again that fast.
func (p Process) Signal(s syscall.Signal) {
	if p.Alive() {
		_ = syscall.Kill(p.PID, s)
	}
}

// Gone waits until none of the processes runs, and reports whether that is so.
func Gone(all []Process, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		running := false
		for _, p := range all {
			running = running || p.Alive()
		}
		if !running || time.Now().After(deadline) {
			return !running
		}
	}
}

// Child is a process of ours that ends when we do.
type Child struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process is gone and err is set
	err    error
}

// Start starts a command as a child. When we end without having ended it, it gets SIGTERM.
func Start(cmd *exec.Cmd) (*Child, error) { return StartFor(cmd, syscall.SIGTERM) }

// StartFor is Start for a program that ends in good order on another signal.
func StartFor(cmd *exec.Cmd, end syscall.Signal) (*Child, error) {
	c := &Child{cmd: cmd, exited: make(chan struct{})}
	cmd.SysProcAttr = diesWithParent(end)
	started := make(chan error, 1)
	go func() {
		// The kernel watches the thread, not the process, that started the child: keep
		// it for as long as the child lives. Never unlocked, it ends with the goroutine.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
		close(c.exited)
	}()
	return c, <-started
}

// PID is the child's process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Exited is closed when the child is gone.
func (c *Child) Exited() <-chan struct{} { return c.exited }

// Err is how the child ended, as exec.Cmd.Wait says it. It waits for the end.
func (c *Child) Err() error {
	<-c.exited
	return c.err
}

// Running reports whether the child has not ended yet.
func (c *Child) Running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// Signal sends s, unless the child is gone.
func (c *Child) Signal(s os.Signal) { _ = c.cmd.Process.Signal(s) }

// End sends s and waits; a process that does not go within patience is killed.
func (c *Child) End(s os.Signal, patience time.Duration) {
	c.Signal(s)
	select {
	case <-c.exited:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}
