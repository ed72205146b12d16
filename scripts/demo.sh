#!/usr/bin/env bash
# Shows Ampora at work, on a throw-away Vault. What it shows stands in test/demo.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/build/lib.sh"
need_go
command -v curl >/dev/null || say "there is no curl here: a stand-in of the demo's does what it is shown to do"
cd "$ROOT"

mkdir -p "$BIN/tools"
CGO_ENABLED=0 go build -buildvcs=false -trimpath -o "$BIN/tools/demo" ./test/demo
(cd test/agent && CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$BIN/tools/testagent" ./testagent)
export AMPORA_BIN=${AMPORA_BIN:-$BIN}
exec "$BIN/tools/demo"
