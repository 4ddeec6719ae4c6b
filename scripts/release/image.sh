#!/usr/bin/env bash
# Builds and pushes the image, each platform on a machine of its own; then puts the platforms together under one name.
# Whoever pushes has logged in before.
#
#   scripts/release/image.sh push IMAGE ARCHITECTURE       # amd64 or arm64: IMAGE:VERSION-ARCHITECTURE
#   scripts/release/image.sh join IMAGE ARCHITECTURE...    # IMAGE:VERSION
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command=$1 image=$2
shift 2
version=$(scripts/release/version.sh)
case $command in
    push)
        docker buildx build --platform "linux/$1" --provenance=false --push \
            --build-arg VERSION="$version" \
            --build-arg REVISION="$(git rev-parse HEAD)" \
            --build-arg SOURCE="${SOURCE:-}" \
            --tag "$image:$version-$1" .
        ;;
    join)
        docker buildx imagetools create --tag "$image:$version" "${@/#/$image:$version-}"
        docker buildx imagetools inspect "$image:$version"
        ;;
    *)
        echo "image.sh: $command is neither push nor join" >&2
        exit 2
        ;;
esac
