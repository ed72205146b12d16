#!/usr/bin/env bash
# Builds the programs of the modules nested in test/ (our own test agents) into bin/tools.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_go

for module in $(own_modules | grep -v '^\.$' || true); do
	TMP=$(mktemp -d)
	mkdir "$TMP/out"
	say "building the programs of ${module#./}"
	build() { cd "$ROOT/$module" && CGO_ENABLED=0 go build -v -buildvcs=false -trimpath -ldflags '-s -w' -o "$TMP/out/" ./...; }
	with_progress "${module#./}" "$TMP/log" build
	for program in "$TMP"/out/*; do
		if [ -f "$program" ]; then install_file "$program" "$BIN/tools/$(basename "$program")"; fi
	done
	rm -rf "$TMP"
	TMP=''
done
