#!/usr/bin/env bash
# Writes FOLDER/SHA256SUMS over the files in it: `sha256sum --check SHA256SUMS` there tells whether they are still what
# they were.
#
#   scripts/release/checksums.sh FOLDER
set -euo pipefail
cd "$1"

rm -f SHA256SUMS
shopt -s nullglob
files=(*)
((${#files[@]})) || { echo "checksums.sh: $1 is empty" >&2; exit 1; }
for file in "${files[@]}"; do
    [[ -f $file ]] || { echo "checksums.sh: $1/$file is no file" >&2; exit 1; }
done
sha256sum -- "${files[@]}" >SHA256SUMS
