#!/usr/bin/env bash
# Prints the version of this source tree. Vault registers a plugin only under a
# semantic version with a leading v, so that is what it always is: the tag where the
# commit has one, else v0.0.0+g<commit>. ".dirty" says that files differ from the commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# A source archive may be unpacked inside somebody else's repository: that one's commit is not ours.
if ! top=$(git rev-parse --show-toplevel 2>/dev/null) || [ ! "$top" -ef . ] || ! commit=$(git rev-parse --verify --short=12 HEAD 2>/dev/null); then
	echo v0.0.0+gunknown
	exit
fi

tag=$(git tag --points-at HEAD | grep -E '^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$' | sort -V | tail -n 1 || true)
version=${tag:-v0.0.0+g${commit:0:12}}
if [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then
	case $version in
	*+*) version=$version.dirty ;;
	*) version=$version+dirty ;;
	esac
fi
echo "$version"
