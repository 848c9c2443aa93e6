//! What the suites run: names in, YAML out.

/// A namespace; enrolled if `ambient`.
pub fn namespace(name: &str, ambient: bool) -> String {
    let labels = if ambient { "{istio.io/dataplane-mode: ambient}" } else { "{}" };
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
}

/// An echo server (HTTP 8080, lines on TCP 9000) with the label `app: <name>`, which is a client too. `extra` goes into
/// its container.
pub fn echo(pod: &str, node: &str, extra: &str) -> String {
    let (namespace, name) = pod.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}, all: echo}}}}\n\
         spec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: echo\n    image: echo:v1\n    \
         readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1, timeoutSeconds: 10}}\n{extra}"
    )
}

/// A dual-stack service (port 80 is HTTP, 9000 lines) of the pods with a label; `ip` may say `clusterIP: None`.
pub fn service(service: &str, selector: &str, ip: &str) -> String {
    let (namespace, name) = service.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{{selector}}}\n  \
         ipFamilyPolicy: PreferDualStack\n  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: lines, port: 9000}}]\n  {ip}\n"
    )
}
