#!/usr/bin/env bash
# Builds the three programs into bin/: static, without paths of this machine, version stamped.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_go
cd "$ROOT"

version=${VERSION:-$(scripts/build/version.sh)}
TMP=$(mktemp -d)

start=$SECONDS
say "building Ampora $version (the first time takes about a minute)"
with_progress ampora "$TMP/log" env CGO_ENABLED=0 \
	go build -v -buildvcs=false -trimpath -ldflags "-s -w -X github.com/ampora/ampora/plugin/apitype.Version=$version" \
	-o "$TMP/" ./cmd/vault-plugin-secrets-ampora ./cmd/ampora-edge ./cmd/ampora
for name in vault-plugin-secrets-ampora ampora-edge ampora; do
	install_file "$TMP/$name" "$BIN/$name"
done
say "bin/vault-plugin-secrets-ampora, bin/ampora-edge and bin/ampora are ready ($((SECONDS - start)) s)"
