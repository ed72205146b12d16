package proc

import (
	"bytes"
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

// Dialled tells which of the processes has opened a connection over IPv4 loopback that we have accepted.
func Dialled(conn net.Conn, pids []int) (pid int, ok bool) {
	theirs, ok1 := conn.RemoteAddr().(*net.TCPAddr)
	ours, ok2 := conn.LocalAddr().(*net.TCPAddr)
	table, err := os.ReadFile("/proc/net/tcp")
	if !ok1 || !ok2 || err != nil {
		return 0, false
	}
	// A line is: number, local address, remote address, state, queues, timer, retransmissions, uid, timeout, inode, ...
	// There may be very many of them, so that they are not taken apart one by one.
	_, rest, found := bytes.Cut(table, fmt.Appendf(nil, " 0100007F:%04X 0100007F:%04X ", theirs.Port, ours.Port))
	fields := bytes.Fields(rest[:min(len(rest), 200)])
	if !found || len(fields) < 7 {
		return 0, false
	}
	socket := "socket:[" + string(fields[6]) + "]"
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		files, _ := os.ReadDir(dir) // none of a process that has ended
		for _, file := range files {
			if to, err := os.Readlink(filepath.Join(dir, file.Name())); err == nil && to == socket {
				return pid, true
			}
		}
	}
	return 0, false
}
