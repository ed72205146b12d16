package proc

import (
	"fmt"
	"net"
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

// Dialled tells which of the processes has opened a connection over IPv4 that we have accepted.
func Dialled(conn net.Conn, pids []int) (pid int, ok bool) {
	theirs, ok1 := conn.RemoteAddr().(*net.TCPAddr)
	ours, ok2 := conn.LocalAddr().(*net.TCPAddr)
	table, err := os.ReadFile("/proc/net/tcp")
	if !ok1 || !ok2 || err != nil {
		return 0, false
	}
	// A line is: number, local address, remote address, state, queues, timer, retransmissions, uid, timeout, inode, ...
	local, remote := fmt.Sprintf(":%04X", theirs.Port), fmt.Sprintf(":%04X", ours.Port)
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) < 10 || !strings.HasSuffix(f[1], local) || !strings.HasSuffix(f[2], remote) {
			continue
		}
		for _, pid := range pids {
			files, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
			for _, file := range files {
				if to, err := os.Readlink(file); err == nil && to == "socket:["+f[9]+"]" {
					return pid, true
				}
			}
		}
	}
	return 0, false
}
