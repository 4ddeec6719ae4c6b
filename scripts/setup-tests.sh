#!/usr/bin/env bash
# Installs what the tests need beyond Rust: the interop peers' packages, into tests/interop/node_modules and
# tests/interop/.venv, Helm's engine, into tests/helm/.venv, and what reads services and workflows as systemd, Compose and
# GitHub do, into tests/install/.venv, at the versions pinned there. Commands that are missing (node, npm, python3 with
# venv, chromium, systemd-analyze, a C compiler and make for jemalloc) come from apt-get, nothing else on the system is touched.
# Quick when all is done; safe to run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
peers=tests/interop

say() { printf 'setup-tests: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
has_venv() { has python3 && python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

packages=()
has cc || packages+=(gcc libc6-dev)
has make || packages+=(make)
has node || packages+=(nodejs)
has npm || packages+=(npm)
has_venv || packages+=(python3 python3-venv)
has systemd-analyze || packages+=(systemd)
has chromium || packages+=(chromium)
if ((${#packages[@]})); then
    has apt-get || fail "missing, and there is no apt-get to install them: ${packages[*]}"
    as_root=()
    if (($(id -u) != 0)); then
        has sudo || fail "missing, and only root can install them: apt-get install ${packages[*]}"
        as_root=(sudo)
    fi
    say "installing ${packages[*]}"
    # As arguments of env, so that they reach apt-get through sudo as well.
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -qq)
    "${apt[@]}" update </dev/null
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >/dev/null
fi

node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' ||
    fail "node $(node --version) is too old: the peers need 20 or newer"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$(python3 --version) is too old: the peers need 3.10 or newer"

# A stamp holds the checksum of what an installation was made from; it is written last, so that an
# interrupted one starts over.
is_current() { [[ -f $1 && $(<"$1") == "$(cksum <"$2")" ]]; }
stamp() { cksum <"$2" >"$1"; }

if is_current $peers/node_modules/.stamp $peers/package-lock.json; then
    say "npm packages are in place"
else
    say "installing npm packages"
    (cd $peers && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null)
    stamp $peers/node_modules/.stamp $peers/package-lock.json
fi

# A virtual environment in the folder, from its requirements.txt.
python_packages() {
    local folder=$1
    # The interpreter that a virtual environment points to may have been upgraded away.
    if is_current "$folder/.venv/.stamp" "$folder/requirements.txt" && "$folder/.venv/bin/python" -c '' 2>/dev/null; then
        say "Python packages of $folder are in place"
        return
    fi
    say "installing Python packages of $folder"
    rm -rf "$folder/.venv"
    python3 -m venv "$folder/.venv"
    "$folder/.venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --requirement "$folder/requirements.txt" </dev/null
    stamp "$folder/.venv/.stamp" "$folder/requirements.txt"
}

python_packages $peers
python_packages tests/helm
python_packages tests/install
