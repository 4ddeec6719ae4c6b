{{/* Names, labels, and what the cluster can do. Everything here takes the chart's own scope. */}}

{{- define "outrigger.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters, so that every suffix that is put behind it still fits into a name. */}}
{{- define "outrigger.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "outrigger.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "outrigger.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "outrigger.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "outrigger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The user's map `user` laid over the chart's `own`, key by key; `fixed` stays, since something goes by it. Each is a
map or nothing. Not `merge`: that takes an empty text for none. */}}
{{- define "outrigger.merged" -}}
{{- $all := dict -}}
{{- range $map := list .own .user .fixed -}}
{{- range $key, $value := default dict $map }}{{ $_ := set $all $key $value }}{{ end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Labels of an object with those of the `user`. Those that name the release stay, and so does what is `fixed`.
Takes the scope as `scope`. */}}
{{- define "outrigger.mergedLabels" -}}
{{- $own := include "outrigger.labels" .scope | fromYaml -}}
{{- $fixed := pick $own "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/managed-by" -}}
{{- range $key, $value := get . "fixed" | default dict }}{{ $_ := set $fixed $key $value }}{{ end -}}
{{- include "outrigger.merged" (dict "own" $own "user" .user "fixed" $fixed) -}}
{{- end -}}

{{/* The Service that clients come by: the chart's own, or in mode inject the user's. */}}
{{- define "outrigger.serviceName" -}}
{{- if and (eq .Values.mode "inject") (not .Values.service.name) -}}
{{- fail "ingress and httpRoute in mode inject need service.name: the name of your Service, whose targetPort is the proxy's; and service.port if that is not 80" -}}
{{- end -}}
{{- default (include "outrigger.fullname" .) .Values.service.name -}}
{{- end -}}

{{/* What finds the pods: those of the chart's Deployment, or those that the sidecar was put into. */}}
{{- define "outrigger.selectorLabels" -}}
{{- if eq .Values.mode "standalone" -}}
app.kubernetes.io/name: {{ include "outrigger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- else if .Values.selectorLabels -}}
{{- toYaml .Values.selectorLabels -}}
{{- else -}}
outrigger-sidecar: {{ include "outrigger.fullname" . }}
{{- end -}}
{{- end -}}

{{- define "outrigger.serviceAccountName" -}}
{{- default (ternary (include "outrigger.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "outrigger.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* "true" where the sidecar is an init container that goes on running, else nothing. Alone in its pod it is an
ordinary one, since a pod needs one. */}}
{{- define "outrigger.isNative" -}}
{{- if not (include "outrigger.hasApp" .) -}}
{{- else if eq (toString .Values.nativeSidecar) "auto" -}}
{{- if semverCompare ">=1.29.0-0" .Capabilities.KubeVersion.Version }}true{{ end -}}
{{- else if eq (toString .Values.nativeSidecar) "true" -}}
true
{{- end -}}
{{- end -}}

{{/* "true" where there is a container of the user's whose end the pod has to wait for. */}}
{{- define "outrigger.hasApp" -}}
{{- if or (eq .Values.mode "inject") .Values.app.image }}true{{ end -}}
{{- end -}}
