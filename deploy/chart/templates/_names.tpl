{{/* What the release and its objects are called, and the labels that say so. */}}

{{- define "nuncio.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "nuncio.fullname" -}}
{{- $name := include "nuncio.name" . -}}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $made | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "nuncio.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "nuncio.account" -}}
{{- $made := ternary (include "nuncio.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $made -}}
{{- end -}}

{{- define "nuncio.role" -}}
{{- .Values.rbac.nameOverride | default (include "nuncio.fullname" .) -}}
{{- end -}}

{{- define "nuncio.selector" -}}
app.kubernetes.io/name: {{ include "nuncio.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nuncio.labels" -}}
{{ include "nuncio.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Objects of getambassador.io are for the gateway of this release alone, where it has an id. */}}
{{- define "nuncio.id" -}}
{{- with .Values.env.AMBASSADOR_ID }}
ambassador_id:
  - {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Port of the admin interface in the pod. */}}
{{- define "nuncio.adminPort" -}}
{{- .Values.env.AMBASSADOR_HEALTHCHECK_BIND_PORT | default 8877 -}}
{{- end -}}

{{/* What a pod needs between SIGTERM and its end. */}}
{{- define "nuncio.farewell" -}}
{{- $drain := 30 -}}
{{- if hasKey .Values.env "AMBASSADOR_DRAIN_TIME" -}}
{{- $drain = int .Values.env.AMBASSADOR_DRAIN_TIME -}}
{{- end -}}
{{- add (int .Values.shutdownDelaySeconds) $drain -}}
{{- end -}}
