#!/usr/bin/env bash
# Leaves a real Vault in bin/vault: the one on the PATH where its version will do,
# else one built from test/tools/vault. AMPORA_VAULT=build always builds the pinned one.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

oldest=1.20 # the oldest that we test with: plugin versions with build metadata, and the audit and raft behaviour that the tests rely on

version_of() { "$1" version 2>/dev/null | sed -n 's/^Vault v\([0-9][0-9.]*\).*/\1/p'; }

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# The first vault on the PATH that is not our own bin/vault.
find_vault() {
	local candidate
	while read -r candidate; do
		[ "$candidate" -ef "$BIN/vault" ] || { echo "$candidate" && return; }
	done < <(type -aP vault)
}

if [ "${AMPORA_VAULT:-}" != build ] && found=$(find_vault) && [ -n "$found" ]; then
	version=$(version_of "$found")
	if [ -n "$version" ] && at_least "$version" "$oldest"; then
		say "bin/vault is $found: Vault $version, and $oldest or newer will do (AMPORA_VAULT=build builds the pinned one instead)"
		mkdir -p "$BIN"
		ln -sfn "$found" "$BIN/vault"
		exit
	fi
	if [ -n "$version" ]; then why="Vault $version is older than $oldest"; else why="it does not say that it is a Vault"; fi
	say "not using $found: $why"
fi

if [ -L "$BIN/vault" ]; then rm -f "$BIN/vault"; fi
"$(dirname "${BASH_SOURCE[0]}")/tool.sh" vault
say "bin/vault is $("$BIN/vault" version), built from test/tools/vault"
