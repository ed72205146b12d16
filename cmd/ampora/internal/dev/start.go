package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/process"
	"github.com/ampora/ampora/cmd/ampora/internal/setup"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	vault "github.com/hashicorp/vault/api"
)

// startPatience is how long Vault and the edge may take, each.
const startPatience = 30 * time.Second

// start brings everything up, one after the other.
func (d *installation) start(ctx context.Context) error {
	d.con.Sayf("Starting Vault ...")
	if err := d.startVault(ctx); err != nil {
		return err
	}
	v, err := d.vaultClient()
	if err != nil {
		return err
	}
	if err := d.setUp(ctx, v); err != nil {
		return err
	}
	d.con.Sayf("Starting the edge ...")
	if err := d.startEdge(ctx); err != nil {
		return err
	}
	return d.leaveFiles(ctx, v)
}

func (d *installation) startVault(ctx context.Context) error {
	plugins := d.file("plugins")
	if err := os.Mkdir(plugins, 0o700); err != nil {
		return err
	}
	if err := copyProgram(d.cmd.Plugin, filepath.Join(plugins, setup.PluginName)); err != nil {
		return err
	}
	config := fmt.Sprintf("plugin_directory = %q\ndisable_mlock = true\n", plugins)
	if err := os.WriteFile(d.file("vault.hcl"), []byte(config), 0o600); err != nil {
		return err
	}
	d.rootToken = "dev-" + rand.Text()
	var err error
	d.vault, err = process.Start("Vault", d.cmd.Vault, d.file("vault.log"),
		append(d.environment(), "VAULT_DEV_ROOT_TOKEN_ID="+d.rootToken), // not as an argument, where others can read it
		[]string{"server", "-dev", "-dev-no-store-token", "-dev-listen-address=" + d.cmd.VaultListen, "-config=" + d.file("vault.hcl"), "-log-level=" + d.cmd.LogLevel})
	if err != nil {
		return err
	}
	return d.await(ctx, d.vault, "Vault", d.vaultAddr()+"/v1/sys/health")
}

// environment is what the programs see of ours: nothing that is meant for other Vaults, and a home that goes with the rest.
func (d *installation) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "TMPDIR=" + d.dir, "LANG=C.UTF-8"}
}

func (d *installation) vaultClient() (*vault.Client, error) {
	config := vault.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	v, err := vault.NewClient(config)
	if err != nil {
		return nil, err
	}
	v.SetToken(d.rootToken)
	v.ClearNamespace()
	// After NewClient, which listens to VAULT_ADDR.
	return v, v.SetAddress(d.vaultAddr())
}

// setUp does what 'ampora setup' does, with an audit device that shows what happens.
func (d *installation) setUp(ctx context.Context, v *vault.Client) error {
	err := v.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &vault.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": d.file("audit.log"), "mode": "0600"},
	})
	if err != nil {
		return fmt.Errorf("enabling the audit device: %w", err)
	}
	version, err := pluginVersion(ctx, d.cmd.Plugin)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	quiet := &console.Console{In: d.con.In, Out: &said, Err: &said, Getenv: d.con.Getenv}
	host, _, _ := strings.Cut(d.cmd.EdgeListen, ":") // addresses has checked it
	err = setup.Run(ctx, quiet, v, setup.Options{
		Mount: apitype.DefaultMount, Plugin: d.cmd.Plugin, PluginCommand: setup.PluginName, PluginVersion: version,
		PeerID: "dev", TrustDomain: "dev.test", Endpoint: d.endpoint(), Config: map[string]string{"edge_allowed_domains": "localhost," + host},
		Edge: []string{"dev"}, AppRolePath: "approle", EdgeTokenTTL: time.Hour, EdgeTokenMax: 24 * time.Hour, CredentialsDir: d.file("edge"),
	})
	if err != nil {
		return fmt.Errorf("setting Vault up: %w", err)
	}
	return nil
}

func (d *installation) startEdge(ctx context.Context) error {
	var err error
	d.edge, err = process.Start("the edge", d.cmd.EdgeProgram, d.file("edge.log"),
		append(d.environment(), "VAULT_ADDR="+d.vaultAddr()),
		[]string{
			"--listen", d.cmd.EdgeListen, "--admin-listen", d.cmd.AdminListen, "--name", "dev", "--san", "localhost",
			"--approle-role-id-file", d.file("edge/dev.role_id"), "--approle-secret-id-file", d.file("edge/dev.secret_id"),
			"--log-level", d.cmd.LogLevel, "--drain-timeout", "5s",
		})
	if err != nil {
		return err
	}
	return d.await(ctx, d.edge, "the edge", "http://"+d.cmd.AdminListen+"/readyz")
}

// await waits until a program answers 200.
func (d *installation) await(ctx context.Context, child *process.Child, name, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-child.Exited():
			return child.Failure()
		case <-ctx.Done():
			return fmt.Errorf("%s does not become ready: %w", name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// leaveFiles writes what people need: the root token and what verifies the edge.
func (d *installation) leaveFiles(ctx context.Context, v *vault.Client) error {
	engine, err := client.New(v, apitype.DefaultMount)
	if err != nil {
		return err
	}
	bundle, err := engine.CABundle(ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(d.file("vault-token"), []byte(d.rootToken+"\n"), 0o600),
		os.WriteFile(d.file("ca.pem"), []byte(bundle.Bundle), 0o600),
	)
}

// pluginVersion asks the program; Vault registers it under nothing else.
func pluginVersion(ctx context.Context, program string) (string, error) {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) != 2 || fields[0] != setup.PluginName {
		return "", fmt.Errorf("%s --version does not answer as the plugin does: %w", program, err)
	}
	return fields[1], nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
