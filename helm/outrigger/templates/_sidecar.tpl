{{/* The proxy's container and what it needs of its pod. Everything here takes the chart's own scope. */}}

{{/* Lists whose items have names: one that is there twice would be refused by the cluster, or taken for the other. */}}
{{- define "outrigger.refuseTaken" -}}
{{- $follows := dict
  "OUTRIGGER__ADMIN__PROBE_ADDRESS" "ports.probes"
  "OUTRIGGER__ADMIN__ADDRESS" "ports.admin"
  "OUTRIGGER__LISTEN__ADDRESS" "ports.client"
  "OUTRIGGER__LISTEN__UNIX" "ports.client" -}}
{{- range .Values.env -}}
{{- if eq .name "POD_IP" -}}
{{- fail "env: POD_IP is the chart's own: take it out, or call yours by another name" -}}
{{- else if hasKey $follows .name -}}
{{- fail (printf "env: %s follows %s, since probes, hooks and Services have to know it: set that, and take it out of env" .name (get $follows .name)) -}}
{{- end -}}
{{- end -}}
{{- range .Values.volumes -}}
{{- if eq .name "outrigger-config" -}}
{{- fail "volumes: outrigger-config is the chart's own: rename yours" -}}
{{- end -}}
{{- end -}}
{{- range .Values.volumeMounts -}}
{{- if eq (clean .mountPath) "/etc/outrigger/config" -}}
{{- fail (printf "volumeMounts: /etc/outrigger/config is the chart's own: mount %s elsewhere, such as at /etc/outrigger/%s" .name .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "outrigger.container" -}}
{{- include "outrigger.refuseTaken" . -}}
{{- $admin := include "outrigger.section" (dict "config" .Values.config "key" "admin") | fromJson -}}
- name: outrigger
  image: {{ include "outrigger.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- if include "outrigger.isNative" . }}
  restartPolicy: Always
  {{- end }}
  command: [/outrigger]
  args: [run, --config, /etc/outrigger/config/outrigger.yaml]
  ports:
    - name: outrigger
      containerPort: {{ int .Values.ports.client }}
    - name: outrigger-probe
      containerPort: {{ int .Values.ports.probes }}
  env:
    - name: POD_IP
      valueFrom:
        fieldRef:
          fieldPath: status.podIP
    # Health and metrics on the pod's own address; everything else of the operators stays on loopback.
    - name: OUTRIGGER__ADMIN__PROBE_ADDRESS
      value: {{ printf (ternary "[$(POD_IP)]:%d" "$(POD_IP):%d" (eq .Values.ipFamily "IPv6")) (int .Values.ports.probes) | quote }}
    {{- with .Values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  lifecycle:
    preStop:
      exec:
        command:
          - /outrigger
          - drain
          - --wait
          - --admin
          - http://127.0.0.1:{{ int .Values.ports.admin }}
          {{- with get $admin "token_file" }}
          - --token-file
          - {{ . | quote }}
          {{- end }}
  startupProbe:
    httpGet:
      path: /healthz
      port: {{ int .Values.ports.probes }}
    {{- toYaml .Values.probes.startup | nindent 4 }}
  readinessProbe:
    httpGet:
      path: /readyz
      port: {{ int .Values.ports.probes }}
    {{- toYaml .Values.probes.readiness | nindent 4 }}
  livenessProbe:
    httpGet:
      path: /healthz
      port: {{ int .Values.ports.probes }}
    {{- toYaml .Values.probes.liveness | nindent 4 }}
  {{- with get .Values "resources" }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with get .Values "securityContext" }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    # The folder, not the file: only then a change arrives in a running pod.
    - name: outrigger-config
      mountPath: /etc/outrigger/config
      readOnly: true
    {{- with .Values.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "outrigger.podVolumes" -}}
- name: outrigger-config
  configMap:
    name: {{ include "outrigger.fullname" . }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The preStop hook of the server's container. */}}
{{- define "outrigger.sleepHook" -}}
{{- $seconds := include "outrigger.appSleepSeconds" . -}}
{{- $isAction := eq .Values.app.preStop "sleep" -}}
{{- if eq .Values.app.preStop "auto" -}}
{{- $isAction = semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version -}}
{{- end -}}
{{- if $isAction -}}
sleep:
  seconds: {{ $seconds }}
{{- else -}}
exec:
  command: [sleep, {{ $seconds | quote }}]
{{- end -}}
{{- end -}}
