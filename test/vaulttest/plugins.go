package vaulttest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ampora/ampora/test/proc"
	"github.com/hashicorp/vault/api"
)

// ampora is the plugin's program, and the name it is registered under.
const ampora = "vault-plugin-secrets-ampora"

// RegisterPlugin copies the program into Vault's plugin directory, under a name
// that carries the version so that several lie side by side, and registers it.
func (v *Vault) RegisterPlugin(ctx context.Context, kind api.PluginType, name, path, version string) error {
	command, sum, err := v.addProgram(name, path, version)
	if err != nil {
		return err
	}
	err = v.client.Sys().RegisterPluginWithContext(ctx, &api.RegisterPluginInput{
		Name: name, Type: kind, Command: command, SHA256: sum, Version: version,
	})
	if err != nil {
		return fmt.Errorf("register plugin %s: %w", name, err)
	}
	return nil
}

// addProgram copies a plugin's program into the plugin directory.
func (v *Vault) addProgram(name, path, version string) (command, sum string, err error) {
	command = name
	if version != "" {
		command += "_" + version
	}
	if sum, err = copyProgram(path, filepath.Join(v.PluginDir, command)); err != nil {
		return "", "", fmt.Errorf("copy plugin %s: %w", name, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Contains(v.commands[name], command) {
		v.commands[name] = append(v.commands[name], command)
	}
	return command, sum, nil
}

// EnableSecrets mounts a secrets engine; an empty version leaves the choice to Vault.
func (v *Vault) EnableSecrets(ctx context.Context, mount, plugin, version string) error {
	err := v.client.Sys().MountWithContext(ctx, mount, &api.MountInput{
		Type: plugin, Config: api.MountConfigInput{PluginVersion: version},
	})
	if err != nil {
		return fmt.Errorf("mount %s: %w", mount, err)
	}
	return nil
}

// EnableAuth mounts an auth method; an empty version leaves the choice to Vault.
func (v *Vault) EnableAuth(ctx context.Context, mount, plugin, version string) error {
	err := v.client.Sys().EnableAuthWithOptionsWithContext(ctx, mount, &api.EnableAuthOptions{
		Type: plugin, Config: api.AuthConfigInput{PluginVersion: version},
	})
	if err != nil {
		return fmt.Errorf("mount auth/%s: %w", mount, err)
	}
	return nil
}

// RegisterAmpora registers bin/vault-plugin-secrets-ampora under the version that it
// reports itself and mounts it at the given path, unless that is empty. It returns
// the version.
func (v *Vault) RegisterAmpora(ctx context.Context, mount string) (version string, err error) {
	path, version, err := amporaProgram(ctx)
	if err != nil {
		return "", err
	}
	if err := v.RegisterPlugin(ctx, api.PluginTypeSecrets, ampora, path, version); err != nil {
		return "", err
	}
	if mount == "" {
		return version, nil
	}
	return version, v.EnableSecrets(ctx, mount, ampora, version)
}

// amporaProgram is the program of our own plugin and the version that it reports.
func amporaProgram(ctx context.Context) (path, version string, err error) {
	if path, err = Bin(ampora); err != nil {
		return "", "", err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("%s --version: %w", ampora, err)
	}
	fields := strings.Fields(string(out))
	if len(fields) != 2 || fields[0] != ampora || !strings.HasPrefix(fields[1], "v") {
		return "", "", fmt.Errorf("%s --version says %q, want its name and a version", ampora, strings.TrimSpace(string(out)))
	}
	return path, fields[1], nil
}

// ReloadPlugin makes Vault start the plugin's processes anew.
func (v *Vault) ReloadPlugin(ctx context.Context, name string) error {
	if _, err := v.client.Sys().ReloadPluginWithContext(ctx, &api.ReloadPluginInput{Plugin: name}); err != nil {
		return fmt.Errorf("reload plugin %s: %w", name, err)
	}
	return nil
}

// PluginPids returns the processes of a registered plugin that this Vault runs.
func (v *Vault) PluginPids(name string) []int {
	var pids []int
	for _, p := range v.pluginProcesses(name) {
		pids = append(pids, p.PID)
	}
	return pids
}

// KillPlugin kills every process of a registered plugin that this Vault runs, as a
// crash would, and returns when they are gone.
func (v *Vault) KillPlugin(name string) error {
	running := v.pluginProcesses(name)
	if len(running) == 0 {
		return fmt.Errorf("no process of plugin %s is running", name)
	}
	for _, p := range running {
		p.Signal(syscall.SIGKILL)
	}
	if !proc.Gone(running, 10*time.Second) {
		return fmt.Errorf("plugin %s does not die", name)
	}
	return nil
}

func (v *Vault) pluginProcesses(name string) []proc.Process {
	pid := v.Pid()
	if pid == 0 {
		return nil
	}
	v.mu.Lock()
	commands := slices.Clone(v.commands[name])
	v.mu.Unlock()
	return slices.DeleteFunc(proc.Children(pid), func(p proc.Process) bool {
		return !slices.Contains(commands, filepath.Base(p.Exe))
	})
}

// copyProgram copies an executable file and returns its SHA-256 in hex. It replaces
// an older copy instead of writing into it: that one may be running.
func copyProgram(from, to string) (sum string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".copy-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name()) // after a failure; else there is nothing to remove
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), in)
	if err = errors.Join(err, out.Chmod(0o700), out.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), os.Rename(out.Name(), to)
}
