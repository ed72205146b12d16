package dev

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const usage = `
Ampora runs: Vault at {vault}, an edge at {endpoint}.
Everything is in memory and in {dir}, and goes when you press Ctrl-C.

In another terminal:

{path}  export VAULT_ADDR={vault}
  export VAULT_TOKEN=$(cat {dir}/vault-token)

Issue a bootstrap token, and turn it into an agent's identity:

  vault write -f -field=token ampora/tokens/issue > token
  ampora enroll --endpoint {endpoint} --ca-file {dir}/ca.pem --token-file token --out my-agent

Look at what is there:

  ampora inspect my-agent
  vault list ampora/agents
  vault read ampora/audit/events
  tail -f {dir}/edge.log {dir}/audit.log

A collector connects with my-agent/supervisor.yaml or my-agent/extension.yaml in its configuration. An OpAMP supervisor can also
enrol by itself, with a fresh token; it keeps its identity in memory, so after a restart it needs another one:

  server:
    endpoint: {endpoint}
    headers:
      Authorization: Bearer ${file:token}
    tls:
      ca_file: {dir}/ca.pem
  capabilities:
    accepts_opamp_connection_settings: true

`

// explain prints how to use what runs. It names files with secrets, never a secret.
func (d *installation) explain() {
	d.con.Printf("%s", strings.NewReplacer("{path}", d.path(), "{vault}", d.vaultAddr(), "{endpoint}", d.endpoint(), "{dir}", d.dir).Replace(usage))
}

// path is the line that puts the programs on the PATH, where they are not.
func (d *installation) path() string {
	ampora, err := os.Executable()
	if err != nil {
		return ""
	}
	line := ""
	for _, program := range []string{ampora, d.cmd.Vault} {
		dir := filepath.Dir(program)
		if _, err := exec.LookPath(filepath.Base(program)); err != nil && !strings.Contains(line, dir+":") {
			line += dir + ":"
		}
	}
	if line == "" {
		return ""
	}
	return "  export PATH=" + line + "$PATH\n"
}
