#!/usr/bin/env bash
# Packs a binary and what belongs to it: FOLDER/outrigger-VERSION-TARGET.tar.gz. The same files make the same archive,
# byte for byte. Prints its path.
#
#   scripts/release/pack.sh BINARY TARGET FOLDER
set -euo pipefail
binary=$(realpath "$1") target=$2
mkdir -p "$3"
folder=$(realpath "$3")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

name=outrigger-$(scripts/release/version.sh)-$target
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
tree=$staging/$name
mkdir -p "$tree/config" "$tree/dashboards"
install -m 755 "$binary" "$tree/outrigger"
install -m 644 LICENSE README.md CHANGELOG.md "$tree"
install -m 644 config/outrigger.yaml config/outrigger.schema.json "$tree/config"
scripts/release/extras.sh "$binary" "$staging/extras"
cp -R "$staging/extras/man" "$staging/extras/completions" "$tree"
cp -R config/examples "$tree/config/examples"
cp -R helm/outrigger/rules "$tree/rules"
install -m 644 helm/outrigger/dashboards/outrigger.json "$tree/dashboards"
chmod -R u=rwX,go=rX "$tree"

time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
tar --create --directory "$staging" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" --format=gnu "$name" |
    gzip -9 --no-name >"$folder/$name.tar.gz"
echo "$folder/$name.tar.gz"
