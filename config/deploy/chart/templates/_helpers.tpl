{{- define "exports.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "exports.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "exports.labels" -}}
{{ include "exports.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What all pods of the release have in common. */}}
{{- define "exports.pod" -}}
# Variables that Kubernetes makes for a service called `exports` would look like settings.
enableServiceLinks: false
automountServiceAccountToken: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 256Mi}
  {{- with .Values.artifacts.existingClaim }}
  - name: artifacts
    persistentVolumeClaim: {claimName: {{ . }}}
  {{- end }}
{{- end }}

{{/* What all containers of the release have in common. */}}
{{- define "exports.container" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.artifacts.existingClaim }}
  - {name: artifacts, mountPath: /srv/artifacts}
  {{- end }}
{{- end }}

{{- define "exports.settings" -}}
- {name: EXPORTS_PUBLIC_URL, value: {{ .Values.publicUrl | quote }}}
- {name: ARTIFACTS_URL, value: {{ if .Values.artifacts.existingClaim }}"file:///srv/artifacts"{{ else }}{{ .Values.artifacts.url | quote }}{{ end }}}
- {name: EXPORTS_INTERNAL_URL, value: "http://{{ include "exports.fullname" . }}:{{ .Values.service.port }}"}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
