package proc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// diesWithParent makes the kernel send the child a signal when the thread that started it ends. Not SIGKILL: a program that
// has children of its own, as Vault has its plugins, must get to end them.
func diesWithParent(end syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: end}
}

// Children returns the processes whose parent is pid.
func Children(pid int) []Process {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []Process
	for _, path := range stats {
		if p, parent, ok := readStat(path); ok && parent == pid {
			found = append(found, p)
		}
	}
	return found
}

// Alive reports whether p still runs, and is not another process under a used number.
func (p Process) Alive() bool {
	now, _, ok := readStat(filepath.Join("/proc", strconv.Itoa(p.PID), "stat"))
	return ok && now.started == p.started
}

func readStat(path string) (p Process, parent int, ok bool) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Process{}, 0, false
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" {
		return Process{}, 0, false
	}
	p.PID, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	if err != nil {
		return Process{}, 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return Process{}, 0, false
	}
	p.started = fields[19]
	p.Exe, _ = os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
	p.Exe = strings.TrimSuffix(p.Exe, " (deleted)")
	return p, parent, true
}
