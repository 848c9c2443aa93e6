{{- /* What the charts of the mesh share. Each has it as templates/_shared.tpl. */ -}}

{{- /* The image: a name below the hub, or a whole reference, which may end in a digest. */ -}}
{{- define "lateen.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{ .Values.global.hub }}/{{ .Values.image }}:{{ .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The revision as a label: never empty. */ -}}
{{- define "lateen.revision" -}}
{{ .Values.global.revision | default "default" }}
{{- end -}}

{{- /* The revision as the end of a name: nothing for the usual one. */ -}}
{{- define "lateen.suffix" -}}
{{- $revision := include "lateen.revision" . -}}
{{- if ne $revision "default" }}-{{ $revision }}{{ end -}}
{{- end -}}

{{- /* Labels of every object. */ -}}
{{- define "lateen.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: lateen
{{- end -}}

{{- /* Who pulls the images. */ -}}
{{- define "lateen.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- /* Variables the user adds. */ -}}
{{- define "lateen.env" -}}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end -}}
{{- end -}}
