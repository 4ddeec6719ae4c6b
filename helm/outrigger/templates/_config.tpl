{{/* The proxy's configuration, and the sums that hang on it. Everything here takes the chart's own scope. */}}

{{/* The section `key` of `config`, as JSON. A section that is null, or a word such as `off`, has no keys. */}}
{{- define "outrigger.section" -}}
{{- $section := get .config .key -}}
{{- if kindIs "map" $section }}{{ toJson $section }}{{ else }}{}{{ end -}}
{{- end -}}

{{/* `config` of the values with the addresses that follow `ports`. */}}
{{- define "outrigger.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $listen := include "outrigger.section" (dict "config" $config "key" "listen") | fromJson -}}
{{- $admin := include "outrigger.section" (dict "config" $config "key" "admin") | fromJson -}}
{{- $upstream := include "outrigger.section" (dict "config" $config "key" "upstream") | fromJson -}}
{{- range $key := list "address" "unix" -}}
{{- if get $listen $key -}}
{{- fail (printf "config.listen.%s cannot be set here, since probes, Services and hooks have to know it: set ports.client" $key) -}}
{{- end -}}
{{- end -}}
{{- if get $admin "address" -}}
{{- fail "config.admin.address cannot be set here, since the drain hook has to know it: set ports.admin (it stays on loopback; kubectl port-forward reaches it)" -}}
{{- end -}}
{{- if get $admin "probe_address" -}}
{{- fail "config.admin.probe_address cannot be set here, since the probes have to know it: set ports.probes" -}}
{{- end -}}
{{- if get $admin "token" -}}
{{- fail "config.admin.token would stand in a ConfigMap, where everybody reads it: mount a Secret with volumes and volumeMounts, and name its file in config.admin.token_file" -}}
{{- end -}}
{{- $ports := list (int .Values.ports.client) (int .Values.ports.admin) (int .Values.ports.probes) -}}
{{- $isBeside := and (include "outrigger.hasApp" .) (not (get $upstream "url")) -}}
{{- if $isBeside }}{{ $ports = append $ports (int .Values.app.port) }}{{ end -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- fail (printf "ports.client, ports.admin and ports.probes%s have to differ, since all of them are in one pod" (ternary ", and app.port," "" (not (not $isBeside)))) -}}
{{- end -}}
{{- $_ := set $listen "address" (printf "%s:%d" (ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6")) (int .Values.ports.client)) -}}
{{- $_ := set $admin "address" (printf "127.0.0.1:%d" (int .Values.ports.admin)) -}}
{{- if not (get $upstream "url") -}}
{{- $_ := set $upstream "url" (printf "http://127.0.0.1:%d" (int .Values.app.port)) -}}
{{- end -}}
{{- $_ := set $config "listen" $listen -}}
{{- $_ := set $config "admin" $admin -}}
{{- $_ := set $config "upstream" $upstream -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Sum of those parts of the configuration that a running proxy does not take up again. */}}
{{- define "outrigger.checksum" -}}
{{- $config := include "outrigger.config" . | fromYaml -}}
{{- if eq .Values.configReload "hot" -}}
{{- $config = pick $config "listen" "admin" "log" "metrics" -}}
{{- end -}}
{{- toJson $config | sha256sum -}}
{{- end -}}

{{/* A duration of `config.drain` in seconds, rounded up. Takes the scope, the key, and Outrigger's default. */}}
{{- define "outrigger.drainSeconds" -}}
{{- $drain := include "outrigger.section" (dict "config" .scope.Values.config "key" "drain") | fromJson -}}
{{- $text := default .default (get $drain .key) | toString -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h)$" $text) -}}
{{- fail (printf "config.drain.%s is %q: it has to be a duration, a whole number and ms, s, m or h, such as 10s" .key $text) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+" $text | int64 -}}
{{- if hasSuffix "ms" $text }}{{ div (add $number 999) 1000 }}
{{- else if hasSuffix "s" $text }}{{ $number }}
{{- else if hasSuffix "m" $text }}{{ mul $number 60 }}
{{- else }}{{ mul $number 3600 }}
{{- end -}}
{{- end -}}

{{/* How long the server has to stay while clients are let go: all hooks of a pod run at the same time, so that
without waiting it would close everybody at once. One second for the last Close. */}}
{{- define "outrigger.appSleepSeconds" -}}
{{- $delay := include "outrigger.drainSeconds" (dict "scope" . "key" "delay" "default" "0s") -}}
{{- $spread := include "outrigger.drainSeconds" (dict "scope" . "key" "spread" "default" "5s") -}}
{{- add $delay $spread 1 -}}
{{- end -}}

{{/* From the first signal to the last: the drain, then what the server takes. */}}
{{- define "outrigger.graceSeconds" -}}
{{- $delay := include "outrigger.drainSeconds" (dict "scope" . "key" "delay" "default" "0s") -}}
{{- $timeout := include "outrigger.drainSeconds" (dict "scope" . "key" "timeout" "default" "30s") -}}
{{- add $delay $timeout (ternary (int .Values.app.gracePeriodSeconds) 5 (eq (include "outrigger.hasApp" .) "true")) -}}
{{- end -}}

{{/* `prefix_` of metrics, for rules and dashboards, which are written with the default one. */}}
{{- define "outrigger.metricPrefix" -}}
{{- $metrics := include "outrigger.section" (dict "config" .Values.config "key" "metrics") | fromJson -}}
{{- printf "%s_" (default "outrigger" (get $metrics "prefix")) -}}
{{- end -}}
