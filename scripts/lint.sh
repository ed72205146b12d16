#!/usr/bin/env bash
# Formatting, go vet and staticcheck, over the main module and those nested in test/, and
# where it is installed shellcheck. Looks at everything, then fails if anything was found.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/build/lib.sh"
need_go
cd "$ROOT" || exit
scripts/build/tool.sh staticcheck || exit

bad=0

say "gofmt"
unformatted=$(find . \( -path ./bin -o -path ./.git \) -prune -o -name '*.go' -print0 | xargs -0 gofmt -l) || bad=1
if [ -n "$unformatted" ]; then
	printf 'not formatted as gofmt does: %s\n' "$unformatted"
	bad=1
fi

for module in $(own_modules); do
	say "go vet and staticcheck in ${module#./}"
	(cd "$module" && go vet ./...) || bad=1
	(cd "$module" && "$BIN/tools/staticcheck" ./...) || bad=1
done

scripts=$(find .ci scripts test -name '*.sh' -o -path .ci/run)
if command -v shellcheck >/dev/null; then
	say "shellcheck"
	# shellcheck disable=SC2086 # a list of words
	shellcheck -x $scripts || bad=1
else
	say "shellcheck is not installed: bash -n alone looks at the shell scripts"
	for script in $scripts; do bash -n "$script" || bad=1; done
fi

[ "$bad" -eq 0 ] || die "lint found something, see above"
say "lint found nothing"
