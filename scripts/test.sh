#!/usr/bin/env bash
# Everything that must pass, against real parts: lint, builds, all Go tests under the
# race detector, short fuzzing. Runs to the end whatever fails, and closes with one line
# of counts. A skipped test counts as a failure.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/build/lib.sh"
need_go
cd "$ROOT" || exit

FUZZTIME=${AMPORA_FUZZTIME:-5s}
TIMEOUT=${AMPORA_TEST_TIMEOUT:-20m}
TMP=$(mktemp -d)
counts=$TMP/counts

# The race detector needs cgo, and so a C compiler, on most systems.
race=-race
if ! go build -race -o "$TMP/testsum" ./scripts/testsum >"$TMP/race.log" 2>&1; then
	race=''
	say "NO RACE DETECTOR HERE: $(tail -n 1 "$TMP/race.log"). Install a C compiler (gcc) to have it."
	go build -o "$TMP/testsum" ./scripts/testsum || die "scripts/testsum does not build"
fi

finish() {
	trap - INT TERM
	say "make test took $((SECONDS / 60)) min $((SECONDS % 60)) s"
	"$TMP/testsum" -total "$counts"
	exit
}

# step NAME COMMAND...: something that is not a Go test.
step() {
	local name=$1 rc=0
	shift
	"$@" || rc=$?
	"$TMP/testsum" -into "$counts" -check "$name" -status "$rc"
}

# gotest MODULE NAME ARGUMENTS...
gotest() {
	local module=$1 name=$2
	shift 2
	say "$name"
	(cd "$module" && go test -json -timeout "$TIMEOUT" "$@") | "$TMP/testsum" -into "$counts" -name "$name"
}

fuzz_targets() { # of the module in the working directory: import path and name
	go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}} {{.ImportPath}}{{end}}' ./... | while read -r dir path; do
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go | while read -r name; do echo "$path $name"; done
	done
}

# The search through all states of the handover protocol says how many they are.
# shellcheck disable=SC2317 # step calls it
explore() { go test -count=1 -v -run '^TestExplore$' ./plugin/handover/internal/explore | grep -o 'handover protocol: .*'; }

step lint scripts/lint.sh
step build make --no-print-directory build || finish
step vault make --no-print-directory vault || finish
step tools make --no-print-directory tools || finish

# From here on a program that is missing is a failure, see test/vaulttest.
export AMPORA_E2E=1 AMPORA_BIN=$BIN
for module in $(own_modules); do
	gotest "$module" "tests of ${module/#./github.com/ampora/ampora}" $race -count=1 ./...
done
step "exploring handovers" explore
for module in $(own_modules); do
	targets=$(cd "$module" && fuzz_targets) || step "finding fuzz targets in $module" false
	while read -r path name; do
		if [ -n "$name" ]; then gotest "$module" "fuzzing $name of $path for $FUZZTIME" -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZTIME" "$path" </dev/null; fi
	done <<<"$targets"
done
finish
