{{/*
For charts that have this one among their dependencies. Each takes `.` of such a chart, or, where the dependency
has an alias, `.Subcharts.ALIAS`:

  metadata of the pod   outrigger.podLabels, outrigger.podAnnotations
  spec of the pod       outrigger.initContainers, outrigger.containers, outrigger.volumes,
                        outrigger.gracePeriodSeconds
  your container        outrigger.appPreStop
  your Service          outrigger.port
*/}}

{{/* The sidecar, as an item of a list of containers: of `initContainers` or `containers`, whichever it is. */}}
{{- define "outrigger.sidecar" -}}
{{- include "outrigger.container" (default . (get .Subcharts "outrigger")) -}}
{{- end -}}

{{/* The sidecar where it is an init container, else nothing. */}}
{{- define "outrigger.initContainers" -}}
{{- $scope := default . (get .Subcharts "outrigger") -}}
{{- if include "outrigger.isNative" $scope }}{{ include "outrigger.container" $scope }}{{ end -}}
{{- end -}}

{{/* The sidecar where it is an ordinary container, else nothing. */}}
{{- define "outrigger.containers" -}}
{{- $scope := default . (get .Subcharts "outrigger") -}}
{{- if not (include "outrigger.isNative" $scope) }}{{ include "outrigger.container" $scope }}{{ end -}}
{{- end -}}

{{/* Items of the pod's `volumes`. */}}
{{- define "outrigger.volumes" -}}
{{- include "outrigger.podVolumes" (default . (get .Subcharts "outrigger")) -}}
{{- end -}}

{{/* The hook under `lifecycle.preStop` of your container. */}}
{{- define "outrigger.appPreStop" -}}
{{- include "outrigger.sleepHook" (default . (get .Subcharts "outrigger")) -}}
{{- end -}}

{{/* `terminationGracePeriodSeconds` of the pod. */}}
{{- define "outrigger.gracePeriodSeconds" -}}
{{- include "outrigger.graceSeconds" (default . (get .Subcharts "outrigger")) -}}
{{- end -}}

{{/* A label of the pod, by which monitors and policies find it. */}}
{{- define "outrigger.podLabels" -}}
outrigger-sidecar: {{ include "outrigger.fullname" (default . (get .Subcharts "outrigger")) }}
{{- end -}}

{{/* An annotation of the pod that changes when the pod has to be replaced for a new configuration. */}}
{{- define "outrigger.podAnnotations" -}}
checksum/outrigger-config: {{ include "outrigger.checksum" (default . (get .Subcharts "outrigger")) }}
{{- end -}}

{{/* The `targetPort` of your Service: a number, since not every cluster looks for names in init containers. */}}
{{- define "outrigger.port" -}}
{{- int (default . (get .Subcharts "outrigger")).Values.ports.client -}}
{{- end -}}
