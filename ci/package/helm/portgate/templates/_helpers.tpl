{{- define "portgate.labels" -}}
app.kubernetes.io/name: portgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "portgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "portgate.pod" -}}
metadata:
  labels: {{- include "portgate.labels" . | nindent 4 }}
  annotations:
    # A changed configuration starts new pods.
    portgate.dev/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
spec:
  serviceAccountName: {{ .Release.Name }}
  # The links are the machine's own interfaces.
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  terminationGracePeriodSeconds: 10
  nodeSelector: {{- toYaml .Values.nodeSelector | nindent 4 }}
  tolerations: {{- toYaml .Values.tolerations | nindent 4 }}
  containers:
    - name: dataplane
      image: {{ include "portgate.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: ["portgate-dataplane"]
      env: &env
        - name: PORTGATE__GATEWAY__NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
      securityContext:
        # NICs are opened by /dev/vfio. What it does not need it gives up by itself.
        privileged: true
      resources:
        requests: &resources
          cpu: {{ .Values.cpu | quote }}
          memory: {{ .Values.memory }}
          {{- if .Values.hugePages }}
          hugepages-2Mi: {{ .Values.packetMemory }}Mi
          {{- end }}
        limits: *resources
      volumeMounts:
        - { name: config, mountPath: /etc/portgate, readOnly: true }
        - { name: region, mountPath: /dev/shm/portgate }
        - { name: devices, mountPath: /dev/vfio }
    - name: controlplane
      image: {{ include "portgate.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: ["portgate-controlplane", "--allow-root"]
      env: *env
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: ["ALL"]
        seccompProfile:
          type: RuntimeDefault
      resources:
        requests: { cpu: 100m, memory: 128Mi }
        limits: { memory: 512Mi }
      readinessProbe:
        httpGet: { host: 127.0.0.1, port: 9102, path: /readyz }
      livenessProbe:
        httpGet: { host: 127.0.0.1, port: 9102, path: /livez }
        failureThreshold: 6
      volumeMounts:
        - { name: config, mountPath: /etc/portgate, readOnly: true }
        - { name: region, mountPath: /dev/shm/portgate }
  volumes:
    - name: config
      configMap:
        name: {{ .Release.Name }}
    # On the machine, not of the pod: flows outlive a new pod.
    - name: region
      hostPath: { path: /dev/shm/portgate, type: DirectoryOrCreate }
    - name: devices
      hostPath: { path: /dev/vfio, type: DirectoryOrCreate }
{{- end }}
