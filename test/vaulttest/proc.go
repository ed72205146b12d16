package vaulttest

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one running process, told apart from a later one under the same number
// by when it was started.
type process struct {
	pid     int
	started string
	exe     string
}

// signal sends s unless the process is gone. There is a moment between looking and
// sending; a number is not given out again that fast.
func (p process) signal(s syscall.Signal) {
	if p.alive() {
		_ = syscall.Kill(p.pid, s)
	}
}

// gone waits until none of the processes runs, and reports whether that is so.
func gone(all []process, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		running := false
		for _, p := range all {
			running = running || p.alive()
		}
		if !running || time.Now().After(deadline) {
			return !running
		}
	}
}

// child is a process of ours that ends when we do.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process is gone and err is set
	err    error
}

func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, exited: make(chan struct{})}
	cmd.SysProcAttr = diesWithParent()
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

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// end sends s and waits; a process that does not go within patience is killed.
func (c *child) end(s os.Signal, patience time.Duration) {
	_ = c.cmd.Process.Signal(s) // refused only when it is gone already
	select {
	case <-c.exited:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}
