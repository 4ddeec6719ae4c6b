#!/usr/bin/env bash
# Runs outrigger side by side with nginx, HAProxy, Envoy and a raw TCP forwarder, and where one feed goes
# to many clients with nchan and pushpin, on loopback, and prints a table for each workload and a verdict.
# How to read the figures: README.md beside this file.
#
# usage: bench.sh [options]
#   -r N, --rounds N       rounds; every round runs every workload through every proxy (default 9)
#   -o DIR, --out DIR      where configurations, logs and results go (default: bench/target/results/TIME)
#   -p LIST, --proxies LIST     any of: direct forward nginx haproxy envoy outrigger outrigger-session guarded bare nchan
#                          pushpin (outrigger-session: outrigger in mode session; in the echoes, handshakes and idle.
#                          guarded: outrigger with every layer of admission on; in handshakes alone.
#                          bare, nchan and pushpin: in the fan-outs alone, where outrigger broadcasts)
#   -w LIST, --workloads LIST   any of: echo-64x16 echo-64x1K echo-64x64K echo-1x16 echo-1000x16-paced
#                          spread-100 spread-5000 handshakes idle stalled
#                          fanout-1000x20x256 fanout-events fanout-100 fanout-5000 fanout-burst fanout-stalled
#                          (fanout: these six)
#   --hold SECONDS         how long connections are watched in idle (default 3: the first heartbeat is
#                          not due yet; 40 sees one on every connection)
#   --syscalls             runs each proxy under strace, which counts its system calls (NAME.WORKLOAD.strace in
#                          the results' folder); its times say nothing then
#   --quick                one short round of everything: says whether all of it works, not how fast
#   --no-build             take the binaries as they are
#   -h, --help             this text
# A LIST is separated by spaces or commas. Exit code: 0 if every run worked, whatever the figures say;
# 1 if one failed or counted an error; 2 on a wrong option. A peer that cannot be installed is left out with a message.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
die() {
  echo "bench.sh: $*" >&2
  exit 2
}

all_proxies="direct forward nginx haproxy envoy outrigger outrigger-session guarded bare nchan pushpin"
fanouts="fanout-1000x20x256 fanout-events fanout-100 fanout-5000 fanout-burst fanout-stalled"
all_workloads="echo-64x16 echo-64x1K echo-64x64K echo-1x16 echo-1000x16-paced spread-100 spread-5000 handshakes idle stalled $fanouts"
rounds='' out='' hold='' proxies=$all_proxies workloads=$all_workloads quick='' build=yes syscalls=''
while [ $# -gt 0 ]; do
  case $1 in
    -r | --rounds | -o | --out | -p | --proxies | -w | --workloads | --hold)
      [ $# -ge 2 ] || die "$1 wants a value"
      case $1 in
        -r | --rounds) rounds=$2 ;;
        -o | --out) out=$2 ;;
        --hold) hold=$2 ;;
        -p | --proxies) proxies=${2//,/ } ;;
        -w | --workloads) workloads=${2//,/ } ;;
      esac
      shift 2
      ;;
    --quick) quick=yes && shift ;;
    --syscalls) syscalls=yes && shift ;;
    --no-build) build='' && shift ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown option $1 (try --help)" ;;
  esac
done
for name in $proxies; do
  case " $all_proxies " in *" $name "*) ;; *) die "unknown proxy $name; known: $all_proxies" ;; esac
done
workloads=" $workloads "
workloads=$(xargs <<<"${workloads// fanout / $fanouts }")
for name in $workloads; do
  case " $all_workloads " in *" $name "*) ;; *) die "unknown workload $name; known: $all_workloads" ;; esac
done
rounds=${rounds:-${quick:+1}}
rounds=${rounds:-9}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || die "--rounds wants a number above 0, found $rounds"
[[ ${hold:-3} =~ ^[0-9]{1,2}$ ]] || die "--hold wants 0 to 99 seconds, found $hold"

# shellcheck source=peers.sh
. "$here/peers.sh"

# --- every process started here is ended here, by its pid ------------------------------------------

job_pid='' upstream_pid='' proxy_pid=''

# Runs a command as a background job and waits for it, so that a signal is acted on at once.
run() {
  "$@" &
  job_pid=$!
  local code=0
  wait "$job_pid" || code=$?
  job_pid=''
  return "$code"
}

descendants() { # PID
  local children child
  read -r -a children <<<"$(cat "/proc/$1/task/"*/children 2>/dev/null | tr '\n' ' ')"
  for child in ${children[@]+"${children[@]}"}; do
    echo "$child"
    descendants "$child"
  done
}

any_alive() {
  local pid
  for pid in "$@"; do kill -0 "$pid" 2>/dev/null && return 0; done
  return 1
}

stop() { # PID: asks it and what it started to end, waits 5 s, then ends what is left
  [ -n "$1" ] || return 0
  local family pid
  read -r -a family <<<"$1 $(descendants "$1" | xargs)"
  for pid in "${family[@]}"; do kill "$pid" 2>/dev/null; done
  for _ in $(seq 100); do
    any_alive "${family[@]}" || break
    sleep 0.05
  done
  for pid in "${family[@]}"; do kill -9 "$pid" 2>/dev/null; done
  wait "$1" 2>/dev/null
  return 0
}

stop_all() {
  stop "$job_pid"
  stop "$proxy_pid"
  stop "$upstream_pid"
  job_pid='' proxy_pid='' upstream_pid=''
}
finish() {
  trap '' INT TERM
  stop_all
  allow_services_again
  [ -n "$pushpin_dir" ] && rm -rf "$pushpin_dir"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT

await_port() { # PORT PID: at most 10 s, as long as the process lives
  for _ in $(seq 200); do
    answers "$1" && return 0
    kill -0 "$2" 2>/dev/null || break
    sleep 0.05
  done
  echo "nothing listens on 127.0.0.1:$1 (see the logs in $out)" >&2
  return 1
}

# --- one measurement -------------------------------------------------------------------------------

measure() { # SUBCOMMAND OPTIONS...: one line of results, or one that says that there is none
  local sub=$1
  shift
  run timeout 180 taskset -c "$load_cpu" "$bench" "$sub" --url "ws://127.0.0.1:$proxy_port/$path" \
    ${proxy_pid:+--proxy-pid "$proxy_pid"} ${upstream_pid:+--upstream-pid "$upstream_pid"} \
    --tag "workload=$workload" --tag "proxy=$proxy" --tag "round=$round" "$@" \
    >"$out/line.json" || return 1
  cat "$out/line.json" >>"$results"
  grep -q '"errors":0[,}]' "$out/line.json" && return 0
  # The line is kept, and the report leaves its figures out.
  echo "errors: $workload through $proxy in round $round: $(grep -o '"errors":[0-9]*' "$out/line.json")" >&2
  failures=$((failures + 1))
}

takes_part() { # PROXY WORKLOAD
  case $1:$2 in
    # It refuses some of 5,000 subscribers, and takes minutes to fill the buffers of those that stall.
    pushpin:fanout-5000 | pushpin:fanout-stalled) return 1 ;;
    # Neither has event streams here.
    bare:fanout-events | pushpin:fanout-events) return 1 ;;
    outrigger:* | bare:fanout-* | nchan:fanout-* | pushpin:fanout-* | guarded:handshakes) return 0 ;;
    *:fanout-* | bare:* | nchan:* | pushpin:* | guarded:*) return 1 ;;
    # It closes a client that is so far behind, as a broadcast would: there is nothing to compare.
    outrigger-session:stalled) return 1 ;;
    # Without a proxy there is nothing to be charged for memory.
    direct:idle | direct:stalled) return 1 ;;
  esac
}

# The feed is in the generator: it stamps the messages, and knows how many there were.
run_fanout() {
  local path=feed events_path=feed/events feed=(--feed "127.0.0.1:$upstream_port" --secs "$fanout_secs" --warmup "$warmup")
  start_proxy || return 1
  await_port "$proxy_port" "$proxy_pid" || return 1
  case $proxy in
    nchan)
      events_path=events
      feed+=(--publish "ws://127.0.0.1:$nchan_port/publish")
      ;;
    pushpin)
      feed+=(--grip "127.0.0.1:$pushpin_publish_port" --connects 300)
      await_port "$pushpin_publish_port" "$proxy_pid" || return 1
      ;;
  esac
  # The same number of deliveries a second in each.
  case $workload in
    fanout-1000x20x256) measure fanout "${feed[@]}" --conns 1000 --rate 20 ;;
    fanout-events) path=$events_path && measure fanout "${feed[@]}" --events --conns 1000 --rate 20 ;;
    fanout-100) measure fanout "${feed[@]}" --conns 100 --rate 200 ;;
    fanout-5000) measure fanout "${feed[@]}" --conns 5000 --rate 4 ;;
    fanout-burst) measure fanout "${feed[@]}" --conns 1000 --rate 20 --burst 16 ;;
    fanout-stalled) measure fanout "${feed[@]}" --conns 1000 --rate 20 --stalled 10 ;;
  esac
}

run_workload() {
  local path='' flood=() time=(--secs "$secs" --warmup "$warmup")
  if [[ $workload == fanout-* ]]; then
    run_fanout
    return
  fi
  # 8 MB/s for each client: one that stops reading fills every buffer on its way within 2 s.
  [ "$workload" = stalled ] && flood=(--flood 500 --size 16384)
  taskset -c "$load_cpu" "$bench" upstream --listen "127.0.0.1:$upstream_port" "${flood[@]}" \
    >>"$out/upstream.log" 2>&1 &
  upstream_pid=$!
  await_port "$upstream_port" "$upstream_pid" || return 1
  if [ "$proxy" = direct ]; then
    proxy_port=$upstream_port proxy_pid=''
  else
    start_proxy || return 1
    await_port "$proxy_port" "$proxy_pid" || return 1
  fi
  case $workload in
    echo-64x16) measure load --conns 64 --size 16 "${time[@]}" ;;
    echo-64x1K) measure load --conns 64 --size 1024 "${time[@]}" ;;
    echo-64x64K) measure load --conns 64 --size 65536 "${time[@]}" ;;
    echo-1x16) measure load --conns 1 --size 16 "${time[@]}" ;;
    # One message a second on each: what a wake-up costs that brings one message.
    echo-1000x16-paced) measure load --conns 1000 --size 16 --every 1 "${time[@]}" ;;
    # The same number of messages a second over few connections and over many.
    spread-100) measure load --conns 100 --size 16 --every 0.02 "${time[@]}" ;;
    spread-5000) measure load --conns 5000 --size 16 --every 1 "${time[@]}" ;;
    # Every proxy gets the headers that guarded asks for: they cost all of them alike.
    handshakes)
      measure handshakes --concurrency 32 "${time[@]}" \
        --header "Origin: https://app.example.com" --header "Authorization: Bearer $(token)"
      ;;
    # Slower than outrigger's default limit of 500 handshakes a second, for every proxy alike.
    idle)
      measure idle --conns "$idle_conns" --rate 450 --hold "$hold" --after-close "$after_close" \
        ${binary_bytes:+--tag "binary_bytes=$binary_bytes"}
      ;;
    stalled) measure stalled --upstream "127.0.0.1:$upstream_port" --readers 10 "${time[@]}" ;;
  esac
}

# --- the whole ---------------------------------------------------------------------------------------

out=${out:-$here/target/results/$(date +%Y%m%d-%H%M%S)}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
results=$out/results.jsonl
[ -e "$results" ] && die "$results is there already: results are never mixed"

# Core for the proxy, core for the load. Without a second one the figures say little.
read -r proxy_cpu load_cpu <<<"$(allowed_cpus)"
if [ -z "$load_cpu" ]; then
  load_cpu=$proxy_cpu
  echo "warning: one core only; proxy and load share it, figures are of little use" >&2
fi

# A proxy needs two descriptors for each connection; 10,000 is outrigger's default limit. No more than
# needed: some proxies size their tables by the limit.
descriptors=$(ulimit -Hn)
[ "$descriptors" != unlimited ] && [ "$descriptors" -lt 21000 ] || descriptors=21000
ulimit -n "$descriptors"
idle_conns=$(((descriptors - 1000) / 2))
if [ -z "$quick" ]; then
  secs=5 fanout_secs=10 warmup=1 hold=${hold:-3} after_close=4
else
  secs=1 fanout_secs=3 warmup=0.2 hold=${hold:-0.5} after_close=2
  [ "$idle_conns" -gt 500 ] && idle_conns=500
fi
[ "$idle_conns" -ge 100 ] || die "$descriptors descriptors are too few"
if [[ " $workloads " == *" fanout-5000 "* && $descriptors -lt 6000 ]]; then
  echo "warning: going on without fanout-5000: $descriptors descriptors are too few" >&2
  workloads=$(xargs <<<"${workloads//fanout-5000/}")
fi

bench=$here/target/release/outrigger-bench
if [ -n "$build" ]; then
  cargo build --release --quiet --target-dir "$here/target" --manifest-path "$here/Cargo.toml" || exit 1
fi
install_peers # drops from $proxies what cannot be had
if [[ " $proxies " =~ \ (outrigger|outrigger-session|guarded)\  ]]; then
  if [ -n "$build" ]; then
    cargo build --release --quiet --manifest-path "$root/Cargo.toml" || exit 1
  fi
  [ -x "$outrigger" ] || die "$outrigger is not there"
fi
for port in $all_ports; do
  answers "$port" && die "port $port of 127.0.0.1 is in use: that process would be measured"
done
# What is shipped has no debug information: the size of that.
binary_bytes=''
if [[ " $proxies " == *" outrigger "* ]] && strip -g -o "$out/stripped" "$outrigger" 2>>"$out/outrigger.log"; then
  binary_bytes=$(stat -c %s "$out/stripped")
  rm -f "$out/stripped"
fi
write_configs
describe_machine | tee "$out/machine.txt"
echo "results: $results"

failures=0
for round in $(seq "$rounds"); do
  for workload in $workloads; do
    for proxy in $proxies; do
      takes_part "$proxy" "$workload" || continue
      if ! run_workload; then
        failures=$((failures + 1))
        echo "failed: $workload through $proxy in round $round" >&2
        printf '{"workload":"%s","proxy":"%s","round":%d,"failed":true}\n' "$workload" "$proxy" "$round" \
          >>"$results"
      fi
      stop_all
    done
  done
  echo "round $round of $rounds done at $(date +%T)"
  # The next round begins with another proxy: none has the same predecessor or place every time.
  [[ $proxies == *" "* ]] && proxies="${proxies#* } ${proxies%% *}"
done
rm -f "$out/line.json"
"$bench" report "$results" | tee "$out/report.md"
if [ "$failures" -gt 0 ]; then
  echo "bench.sh: $failures runs failed or counted errors; logs are in $out" >&2
  exit 1
fi
