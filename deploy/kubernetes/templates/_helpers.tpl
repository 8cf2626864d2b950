{{- define "curidask.labels" -}}
app.kubernetes.io/name: curidask
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* The labels by which the network policies know the pods of this release, whoever made them. */ -}}
{{- define "curidask.selector" -}}
app.kubernetes.io/name: curidask
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "curidask.scheduler" -}}
{{ .Release.Name }}-scheduler.{{ .Release.Namespace }}.svc
{{- end }}

{{- /* What all pods have in common: who they are, and that they may do nothing to their node. */ -}}
{{- define "curidask.pod" -}}
serviceAccountName: {{ .Values.serviceAccount }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "curidask.container" -}}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* The environment and the Secret of those that use the cache. */ -}}
{{- define "curidask.cache" -}}
env:
  - {name: CURIDASK_CACHE, value: {{ quote .Values.cache }}}
  - {name: AWS_DEFAULT_REGION, value: {{ quote .Values.s3.region }}}
  {{- with .Values.s3.endpoint }}
  - {name: AWS_ENDPOINT_URL_S3, value: {{ quote . }}}
  {{- end }}
{{- end }}

{{- define "curidask.credentials" -}}
{{- with .Values.s3.secret }}
envFrom:
  - secretRef: {name: {{ quote . }}}
{{- end }}
{{- end }}
