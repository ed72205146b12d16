#!/usr/bin/env bash
# Measures speed and memory beside what Vault and a bare OpAMP server do; takes fifteen to
# twenty minutes. Flags of test/bench come as arguments or in AMPORA_BENCH, for example
# AMPORA_BENCH='--agents 500 --json figures.json' make bench; --help names them all.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/build/lib.sh"
need_go

TMP=$(mktemp -d)
(cd "$ROOT" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$TMP/" ./test/bench/...)
# shellcheck disable=SC2086 # a list of words
AMPORA_BIN=$BIN "$TMP/bench" --bareserver "$TMP/bareserver" ${AMPORA_BENCH:-} "$@"
