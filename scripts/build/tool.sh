#!/usr/bin/env bash
# tool.sh NAME...: builds pinned tools from their nested modules under test/tools/.
# A build is kept outside the repository, under a key made of the nested module's files,
# the Go version and the flags, so the same tool is never built twice.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

all="opampsupervisor otelcol vault-plugin-auth-kubernetes staticcheck"

# describe NAME sets: module (below test/tools), package, flags, target, time
describe() {
	flags=()
	target=$BIN/tools/$1
	case $1 in
	vault)
		module=vault package=github.com/hashicorp/vault flags=(-tags minimal) target=$BIN/vault
		time="5 to 15 minutes" ;;
	opampsupervisor)
		module=supervisor package=github.com/open-telemetry/opentelemetry-collector-contrib/cmd/opampsupervisor
		time="1 to 2 minutes" ;;
	otelcol)
		module=otelcol package=. time="1 to 2 minutes" ;;
	vault-plugin-auth-kubernetes)
		module=kubernetes-auth package=github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes
		time="about a minute" ;;
	staticcheck)
		module=lint package=honnef.co/go/tools/cmd/staticcheck time="half a minute" ;;
	*) die "no tool is called '$1'; there are: vault $all" ;;
	esac
}

# A file's name counts as much as what is in it, and the machine it is for as much as the files.
key() {
	(
		cd "$ROOT/test/tools/$module"
		go version
		go env GOOS GOARCH GOAMD64 GOARM GOARM64
		echo "$package ${flags[*]-}"
		find . -type f | LC_ALL=C sort | while read -r f; do printf '%s %s\n' "$f" "$(sha256 <"$f")"; done
	) | sha256 | cut -c1-20
}

compile() {
	cd "$ROOT/test/tools/$module" || return
	CGO_ENABLED=0 GOFLAGS='' go build -v -mod=readonly -buildvcs=false -trimpath -ldflags '-s -w' ${flags[@]+"${flags[@]}"} -o "$1" "$package"
}

build() {
	local name=$1 dir start=$SECONDS
	describe "$name"
	dir=$CACHE/tools/$name-$(key)
	if [ ! -x "$dir/$name" ]; then
		say "building $name from test/tools/$module (first time only: $time)"
		mkdir -p "$CACHE/tools"
		# What an earlier, killed run may have left behind.
		find "$CACHE/tools" -maxdepth 1 -name '.making.*' -mtime +1 -exec rm -rf {} +
		TMP=$(mktemp -d "$CACHE/tools/.making.XXXXXX")
		with_progress "$name" "$TMP/log" compile "$TMP/$name" || die "$name could not be built"
		chmod 0555 "$TMP/$name"
		# The directory is made first and the file moved into it: whole, or not there.
		mkdir -p "$dir"
		mv -f "$TMP/$name" "$dir/$name"
		rm -rf "$TMP"
		TMP=''
		say "$name built in $((SECONDS - start)) s"
	fi
	if [ ! "$target" -ef "$dir/$name" ] && ! cmp -s "$dir/$name" "$target"; then
		install_file "$dir/$name" "$target"
		say "${target#"$ROOT"/} is ready"
	fi
}

need_go
# shellcheck disable=SC2086 # a list of words
[ $# -gt 0 ] || set -- $all
for name in "$@"; do build "$name"; done
