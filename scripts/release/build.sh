#!/usr/bin/env bash
# Builds the binary of a release for one target, on a machine of that architecture, and prints its path.
#
#   scripts/release/build.sh TARGET
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=$1
# As in the Dockerfile. Names of functions stay, for the sake of panics; lines go, and with them four fifths of the size.
export CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=debuginfo
# Kernels for arm64 come with pages of up to 64 KiB, and jemalloc has to know the largest.
case $target in
    aarch64-*) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;;
    *) export JEMALLOC_SYS_WITH_LG_PAGE=12 ;;
esac
# The C library that is linked in, and what it is compiled with.
case $target in
    *-musl) export "CC_${target//-/_}=musl-gcc" ;;
esac
cargo build --release --locked --target "$target" --bin outrigger >&2
binary=${CARGO_TARGET_DIR:-target}/$target/release/outrigger
"$binary" --version >&2
echo "$binary"
