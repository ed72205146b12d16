package dev

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/setup"
)

// programs finds what is to be run.
func (d *installation) programs() error {
	for _, p := range []struct {
		at         *string
		name, flag string
		path       bool // look on the PATH as well
		get        string
	}{
		{&d.cmd.Vault, "vault", "--vault", true, "install Vault, or build one with 'make vault'"},
		{&d.cmd.Plugin, setup.PluginName, "--plugin", false, "build it with 'make build'"},
		{&d.cmd.EdgeProgram, "ampora-edge", "--edge-program", true, "build it with 'make build'"},
	} {
		found, err := find(*p.at, p.name, p.path)
		if err != nil {
			return hint.Wrap(err, p.get, "name the file with "+p.flag)
		}
		*p.at = found
	}
	return nil
}

func find(given, name string, onPath bool) (string, error) {
	if given != "" {
		if info, err := os.Stat(given); err != nil || info.IsDir() {
			return "", fmt.Errorf("there is no program %s", given)
		}
		return filepath.Abs(given)
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), name)
			if info, err := os.Stat(beside); err == nil && !info.IsDir() {
				return beside, nil
			}
		}
	}
	if onPath {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("the program %s is not here", name)
}

// addresses replaces ports 0 by free ones, and finds out now rather than in a log file that one is taken.
func (d *installation) addresses() error {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			l.Close()
		}
	}()
	for _, a := range []struct {
		at   *string
		flag string
	}{{&d.cmd.VaultListen, "--vault-listen"}, {&d.cmd.EdgeListen, "--edge-listen"}, {&d.cmd.AdminListen, "--admin-listen"}} {
		host, _, err := net.SplitHostPort(*a.at)
		if err != nil {
			return hint.Wrap(fmt.Errorf("%s: %w", a.flag, err), "it reads like 127.0.0.1:8200")
		}
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			return hint.New(a.flag+": this installation is a toy with a root token lying about; it listens on loopback only", "use 127.0.0.1, and 'ampora setup' for a real Vault")
		}
		l, err := net.Listen("tcp", *a.at)
		if err != nil {
			return hint.Wrap(fmt.Errorf("%s is taken: %w", *a.at, err), "end what listens there, or choose a free port with "+a.flag+" 127.0.0.1:0")
		}
		open = append(open, l)
		*a.at = l.Addr().String()
	}
	return nil
}
