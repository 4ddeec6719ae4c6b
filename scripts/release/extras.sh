#!/usr/bin/env bash
# Has a binary print its manual pages and its completions for shells: FOLDER/man/*.1, and
# FOLDER/completions/{outrigger,_outrigger,outrigger.fish} for bash, zsh and fish.
#
#   scripts/release/extras.sh BINARY FOLDER
set -euo pipefail
binary=$(realpath "$1") folder=$2

rm -rf "$folder"
mkdir -p "$folder/man" "$folder/completions"
"$binary" man >"$folder/man/outrigger.1"
commands=$("$binary" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p')
[[ -n $commands ]] || { echo "extras.sh: $binary --help lists no commands" >&2; exit 1; }
for command in $commands; do
    # The help of help is the program's own page.
    [[ $command == help ]] || "$binary" man "$command" >"$folder/man/outrigger-$command.1"
done
"$binary" completions bash >"$folder/completions/outrigger"
"$binary" completions zsh >"$folder/completions/_outrigger"
"$binary" completions fish >"$folder/completions/outrigger.fish"
