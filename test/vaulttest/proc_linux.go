package vaulttest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// diesWithParent makes the kernel end the child when the thread that started it
// does. SIGTERM, not SIGKILL: Vault then ends its plugins before it goes.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}

// children returns the processes whose parent is pid.
func children(pid int) []process {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []process
	for _, path := range stats {
		if p, parent, ok := readStat(path); ok && parent == pid {
			found = append(found, p)
		}
	}
	return found
}

// alive reports whether p still runs, and is not another process under a used number.
func (p process) alive() bool {
	now, _, ok := readStat(filepath.Join("/proc", strconv.Itoa(p.pid), "stat"))
	return ok && now.started == p.started
}

func readStat(path string) (p process, parent int, ok bool) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return process{}, 0, false
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, ok := strings.Cut(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" {
		return process{}, 0, false
	}
	p.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	if err != nil {
		return process{}, 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return process{}, 0, false
	}
	p.started = fields[19]
	p.exe, _ = os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
	p.exe = strings.TrimSuffix(p.exe, " (deleted)")
	return p, parent, true
}
