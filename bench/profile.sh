#!/usr/bin/env bash
# Where the time goes: user and kernel microseconds of a small message and of a handshake, and the system calls of a
# handshake, for outrigger and nginx side by side.
#
# usage: profile.sh [-r ROUNDS] [--no-build]     (3 rounds if not said; half a minute each)
#
# The times are those of bench.sh, on an undisturbed proxy; the calls are counted in a run of their own under strace, and are
# those of the whole life of the process divided by all handshakes that were begun: what the start takes is spread over
# some thousand of them. To see the functions: perf record -g -p PID while a workload runs (the release build has
# line tables), or valgrind --tool=callgrind for exact counts of instructions in user space.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
rounds=3 options=()
while [ $# -gt 0 ]; do
  case $1 in
    -r) rounds=${2:?-r wants a number} && shift 2 ;;
    --no-build) options+=(--no-build) && shift ;;
    -h | --help) usage && exit 0 ;;
    *) echo "profile.sh: unknown option $1 (try --help)" >&2 && exit 2 ;;
  esac
done
command -v strace >/dev/null || {
  echo "profile.sh: strace is missing (apt-get install strace)" >&2
  exit 2
}

out=$here/target/results/profile-$(date +%Y%m%d-%H%M%S)
"$here/bench.sh" -r "$rounds" -o "$out" -p nginx,outrigger -w echo-64x16,echo-64x1K,handshakes "${options[@]}"
"$here/bench.sh" -r 1 -o "$out/syscalls" --no-build --quick --syscalls -p nginx,outrigger -w handshakes >"$out/syscalls.log" 2>&1 || {
  cat "$out/syscalls.log" >&2
  exit 1
}

echo
echo "## System calls of a handshake"
for proxy in nginx outrigger; do
  begun=$(grep "\"proxy\":\"$proxy\"" "$out/syscalls/results.jsonl" | sed -n 's/.*"started":\([0-9]*\).*/\1/p')
  echo
  echo "$proxy, of $begun handshakes:"
  # Columns: % time, seconds, usecs/call, calls, errors (or nothing), name.
  awk -v begun="$begun" '
    $4 ~ /^[0-9]+$/ && $NF != "total" {
      errors = NF == 6 ? $5 : 0
      if ($4 / begun >= 0.02) printf "  %-16s %6.2f%s\n", $NF, $4 / begun, errors ? sprintf("  (%.2f of them failed)", errors / begun) : ""
      sum += $4
    }
    END { printf "  %-16s %6.2f\n", "all", sum / begun }' "$out/syscalls/$proxy.handshakes.strace"
done
