#!/usr/bin/env bash
# Gets the compiler that releases are built with, which is the Dockerfile's, for this folder, and what a target needs
# beside it.
#
#   scripts/release/toolchain.sh TARGET
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=$1
version=$(sed -n 's/^ARG RUST_VERSION=//p' Dockerfile)
rustup toolchain install "$version" --profile minimal --target "$target"
rustup override set "$version"
if [[ $target == *-musl ]] && ! command -v musl-gcc >/dev/null 2>&1; then
    as_root=()
    (($(id -u) == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends musl-tools
fi
