//! Pods that run the programs of `clients/`, and the services before them.

use lateen_tests::lab::Lab;

const SERVER: &str = include_str!("clients/server.py");
const CALLS: &str = include_str!("clients/calls.py");
const GRPC_SERVER: &str = include_str!("clients/grpc_server.py");
const GRPC_CLIENT: &str = include_str!("clients/grpc_client.py");
const WEBSOCKET: &str = include_str!("clients/websocket.py");
const HOSTILE: &str = include_str!("clients/hostile.py");

/// A program of `clients/`.
#[derive(Debug, Clone, Copy)]
pub enum Program {
    /// An HTTP server.
    Server,
    /// A client of it that never pauses.
    Calls,
    /// A gRPC server.
    GrpcServer,
    /// A gRPC client.
    Grpc,
    /// A WebSocket server and client.
    WebSocket,
    /// Clients that nobody wants.
    Hostile,
}

impl Program {
    fn text(self) -> &'static str {
        match self {
            Self::Server => SERVER,
            Self::Calls => CALLS,
            Self::GrpcServer => GRPC_SERVER,
            Self::Grpc => GRPC_CLIENT,
            Self::WebSocket => WEBSOCKET,
            Self::Hostile => HOSTILE,
        }
    }

    /// The command that runs it.
    pub fn command(self, words: &[&'static str]) -> Vec<&'static str> {
        [&["python3", "-c", self.text()], words].concat()
    }

    /// What it prints in a pod, or its complaint.
    pub fn ask(self, lab: &Lab, pod: &str, words: &[&'static str]) -> Result<String, String> {
        lab.exec(pod, &self.command(words))
    }
}

/// A Deployment of a program that listens on `port`; its pods are labelled `app: <name>`.
pub fn deployment(of: &str, (program, words): (Program, &[&'static str]), port: u16, replicas: u8) -> String {
    let (namespace, name) = of.split_once('/').expect("namespace/name");
    let command = serde_json::to_string(&program.command(words)).expect("JSON");
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         strategy: {{type: RollingUpdate, rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 30\n      containers:\n      \
         - name: main\n        image: python:3\n        command: {command}\n        \
         readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1, timeoutSeconds: 10}}\n"
    )
}

/// A Service with one port.
pub fn port(of: &str, (name, number): (&str, u16), target: u16) -> String {
    let (namespace, service) = of.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {service}, namespace: {namespace}}}\nspec:\n  \
         selector: {{app: {service}}}\n  ports: [{{name: {name}, port: {number}, targetPort: {target}}}]\n"
    )
}

/// Waits until a Deployment is as it should be.
pub fn rolled_out(lab: &Lab, namespace: &str, name: &str) {
    lab.kubectl(&["rollout", "status", "-n", namespace, &format!("deploy/{name}"), "--timeout=55s"]);
}
