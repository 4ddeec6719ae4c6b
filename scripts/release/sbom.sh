#!/usr/bin/env bash
# Lists what a release is made of, as CycloneDX: FOLDER/outrigger-VERSION.cdx.json. What only tests, builds or other
# systems use is left out. Takes cargo-cyclonedx (`cargo install --locked cargo-cyclonedx`). Prints the path.
#
#   scripts/release/sbom.sh FOLDER
set -euo pipefail
mkdir -p "$1"
folder=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

name=outrigger-$(scripts/release/version.sh).cdx
# It writes beside Cargo.toml, and nowhere else.
cargo cyclonedx --format json --spec-version 1.5 --no-build-deps --target x86_64-unknown-linux-gnu \
    --override-filename "$name" >&2
mv "$name.json" "$folder/$name.json"
echo "$folder/$name.json"
