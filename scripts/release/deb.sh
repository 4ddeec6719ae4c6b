#!/usr/bin/env bash
# Makes the Debian package of a binary that scripts/release/build.sh has built, and prints its path. Takes cargo-deb
# (`cargo install --locked cargo-deb`).
#
#   scripts/release/deb.sh TARGET FOLDER
set -euo pipefail
target=$1
mkdir -p "$2"
folder=$(realpath "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scripts/release/extras.sh "${CARGO_TARGET_DIR:-target}/$target/release/outrigger" target/extras
# Stripped already, as far as it is to be.
cargo deb --no-build --no-strip --locked --target "$target" --output "$folder"
