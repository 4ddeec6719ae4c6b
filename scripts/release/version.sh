#!/usr/bin/env bash
# Prints the version of this tree. With a tag (`v1.2.3`): fails unless the tag, and every place where the version stands,
# say the same.
#
#   scripts/release/version.sh [TAG]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The first version in a file, after what stands before it.
after() { sed -n "s/^$2\"\{0,1\}\([0-9][0-9A-Za-z.+-]*\)\"\{0,1\}\$/\1/p" "$1" | head -n 1; }

version=$(after Cargo.toml 'version = ')
if (($# == 0)); then
    echo "$version"
    exit
fi

wrong=0
expect() {
    [[ $2 == "$version" ]] && return
    echo "version.sh: $1 says \"$2\", Cargo.toml \"$version\"" >&2
    wrong=1
}
expect "the tag $1" "${1#v}"
expect Dockerfile "$(after Dockerfile 'ARG VERSION=')"
expect helm/outrigger/Chart.yaml "$(after helm/outrigger/Chart.yaml 'version: ')"
expect "appVersion in helm/outrigger/Chart.yaml" "$(after helm/outrigger/Chart.yaml 'appVersion: ')"
expect config/examples/docker-compose.yaml "$(after config/examples/docker-compose.yaml ' *image: outrigger:')"
[[ $1 == v* ]] || { echo "version.sh: the tag $1 does not begin with v" >&2; wrong=1; }
grep -q "^## $version\( \|\$\)" CHANGELOG.md || {
    echo "version.sh: CHANGELOG.md has no heading \"## $version\": what is under \"## Unreleased\" goes there" >&2
    wrong=1
}
((wrong == 0)) && echo "$version"
