{{- /* What the charts of Gateways share. Each has it as templates/_gateways.tpl. */ -}}

{{- /* A Gateway's own name: the release's, if no other is given. */ -}}
{{- define "lateen.gatewayName" -}}
{{ .Values.name | default .Release.Name }}
{{- end -}}

{{- /* Labels and annotations of a Gateway's proxy. The revision chooses who runs it. */ -}}
{{- define "lateen.gatewayLabels" -}}
{{- include "lateen.labels" . }}
{{- with .Values.revision }}
istio.io/rev: {{ . }}
{{- end }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The patches of what the controller makes of a Gateway: the data of a ConfigMap, or nothing where all is as the mesh has it. */ -}}
{{- define "lateen.overlays" -}}
{{- $pod := dict -}}
{{- with .Values.resources }}{{ $_ := set $pod "containers" (list (dict "name" "istio-proxy" "resources" .)) }}{{ end -}}
{{- with .Values.nodeSelector }}{{ $_ := set $pod "nodeSelector" . }}{{ end -}}
{{- with .Values.tolerations }}{{ $_ := set $pod "tolerations" . }}{{ end -}}
{{- with .Values.affinity }}{{ $_ := set $pod "affinity" . }}{{ end -}}
{{- with .Values.priorityClassName }}{{ $_ := set $pod "priorityClassName" . }}{{ end -}}
{{- $spec := dict -}}
{{- if $pod }}{{ $_ := set $spec "template" (dict "spec" $pod) }}{{ end -}}
{{- if and .Values.replicas (not .Values.autoscaling.enabled) }}{{ $_ := set $spec "replicas" .Values.replicas }}{{ end -}}
{{- if $spec }}
deployment: |
  {{- toYaml (dict "spec" $spec) | nindent 2 }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if .enabled }}
horizontalPodAutoscaler: |
  spec:
    minReplicas: {{ .minReplicas }}
    maxReplicas: {{ .maxReplicas }}
    metrics:
      - type: Resource
        resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .targetCPUUtilizationPercentage }}}}
{{- end }}
{{- end }}
{{- with .Values.service }}
service: |
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The ConfigMap of those patches, where there are any. */ -}}
{{- define "lateen.overlayMap" -}}
{{- with include "lateen.overlays" . | trim }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "lateen.gatewayName" $ }}-options
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "lateen.labels" $ | nindent 4 }}
data:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What a Gateway says of what is made for it. */ -}}
{{- define "lateen.infrastructure" -}}
{{- if include "lateen.overlays" . | trim }}
parametersRef: {group: "", kind: ConfigMap, name: {{ include "lateen.gatewayName" . }}-options}
{{- end }}
{{- end -}}
