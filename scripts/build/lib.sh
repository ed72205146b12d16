# shellcheck shell=bash
# Shared by the build scripts: where things are, the cache, and progress.
# Sourced, never run.
# shellcheck disable=SC2034 # the variables are for whoever sources this

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=$ROOT/bin
CACHE=${AMPORA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ampora}
PROGRESS_EVERY=${AMPORA_PROGRESS_EVERY:-20} # seconds

export GOWORK=off

say() { printf '==> %s\n' "$*"; }

die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

need_go() {
	command -v go >/dev/null || die "go is not on the PATH; Ampora needs Go $(go_wanted) or newer"
}

go_wanted() { awk '$1 == "go" { print $2; exit }' "$ROOT/go.mod"; }

sha256() {
	if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1
}

# install_file SOURCE DESTINATION: never a half-written file under the final name,
# and a running program keeps the file it was started from.
install_file() {
	local tmp
	mkdir -p "$(dirname "$2")"
	tmp=$(dirname "$2")/.$(basename "$2").$$
	ln -f "$1" "$tmp" 2>/dev/null || cp -p "$1" "$tmp" || { rm -f "$tmp"; return 1; }
	mv -f "$tmp" "$2"
}

# Whatever the script is in the middle of when it ends, it leaves nothing behind.
TMP='' TICKER=''
on_exit() {
	if [ -n "$TICKER" ]; then kill "$TICKER" 2>/dev/null || true; fi
	if [ -n "$TMP" ]; then rm -rf "$TMP"; fi
}
trap on_exit EXIT

# with_progress WHAT LOG COMMAND...: runs the command with all its output in LOG and
# says every now and then how far it is; on failure shows the end of LOG.
with_progress() {
	local what=$1 log=$2 start=$SECONDS rc=0
	shift 2
	: >"$log"
	(
		trap - EXIT
		trap 'kill $! 2>/dev/null; exit 0' TERM
		while :; do
			sleep "$PROGRESS_EVERY" >/dev/null 2>&1 &
			wait $!
			printf '    %s: %d s, %d modules fetched, %d packages compiled\n' "$what" $((SECONDS - start)) \
				"$(grep -c '^go: downloading' "$log")" "$(grep -vc '^go: ' "$log")"
		done
	) </dev/null &
	TICKER=$!
	(trap - EXIT; "$@") >"$log" 2>&1 </dev/null || rc=$?
	kill "$TICKER" 2>/dev/null
	wait "$TICKER" 2>/dev/null || true
	TICKER=''
	if [ "$rc" -ne 0 ]; then
		printf '    %s failed after %d s; the end of its output:\n' "$what" $((SECONDS - start)) >&2
		tail -n 30 "$log" >&2
	fi
	return "$rc"
}

# own_modules: the directories of the modules that hold our code, the main one first.
# Those under test/tools only pin the programs of others.
own_modules() {
	(cd "$ROOT" && echo . && find ./test -path ./test/tools -prune -o -name go.mod -print | sed 's|/go\.mod$||' | sort)
}
