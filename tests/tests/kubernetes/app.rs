//! An application in a namespace of its own: clients and servers, and what they see.
//!
//! In: a name. Out: calls as the application makes them. The namespace goes when this is dropped.

use super::driver::{Cluster, cluster, until};

/// What travels from client to server; with the mesh on, nobody between them may read it.
pub const SECRET: &str = "my-card-number-is-4111-1111";
/// The server's port behind its service.
pub const APP_PORT: u16 = 8080;

/// A namespace with a client on the first node, a server on the second, and the service `server`.
pub struct App {
    pub cluster: &'static Cluster,
    pub namespace: &'static str,
}

impl App {
    /// Makes it outside the mesh, and waits until it works.
    pub fn start(namespace: &'static str) -> Self {
        let app = Self { cluster: cluster(), namespace };
        app.cluster.kubectl(&["delete", "namespace", namespace, "--ignore-not-found"]);
        let [first, second] = &app.cluster.nodes;
        app.cluster.kubectl(&["create", "namespace", namespace]);
        app.cluster.apply(
            &[app.deployment("client", first), app.deployment("server", second), app.service_of("server")].concat(),
        );
        for name in ["deploy/client", "deploy/server"] {
            app.cluster.rolled_out(namespace, name);
        }
        until("the client reaches the server", || app.call().ok());
        app
    }

    /// The same inside the mesh.
    pub fn start_enrolled(namespace: &'static str) -> Self {
        let app = Self::start(namespace);
        app.label();
        app
    }

    /// Puts the namespace into the mesh, and waits until its pods are in.
    pub fn label(&self) {
        self.cluster.kubectl(&["label", "namespace", self.namespace, "istio.io/dataplane-mode=ambient"]);
        self.enrolled(2);
        until("both ends work in the mesh", || self.call().ok());
    }

    /// Waits until this many running pods of the namespace are in the mesh, and no others are there.
    pub fn enrolled(&self, count: usize) {
        until(&format!("{count} pods of {} are in the mesh", self.namespace), || {
            let words = self.redirections();
            (words.iter().filter(|word| *word == "enabled").count() == count && words.len() == count.max(2))
                .then_some(())
        });
    }

    /// The agent's word on each pod.
    fn redirections(&self) -> Vec<String> {
        let path = r#"jsonpath={range .items[*]}{.metadata.annotations.ambient\.istio\.io/redirection}{"\n"}{end}"#;
        let words = self.cluster.kubectl(&["get", "pods", "-n", self.namespace, "-o", path]);
        words.lines().map(str::to_owned).collect()
    }

    /// One call with the secret in it.
    pub fn call(&self) -> Result<String, String> {
        let url = format!("http://server.{}.svc.cluster.local/pay?{SECRET}", self.namespace);
        // Debian's busybox crashes when its wget is given a timeout of its own.
        self.in_client(&["timeout", "10", "wget", "-q", "-O", "-", &url])
    }

    /// What a command in the client prints.
    pub fn in_client(&self, command: &[&str]) -> Result<String, String> {
        self.cluster.try_kubectl(&[&["exec", "-n", self.namespace, "deploy/client", "--"], command].concat())
    }

    /// A pod on the first node that runs a script.
    pub fn pod(&self, name: &str, script: &str) {
        let Cluster { hub, tag, nodes: [first, _], .. } = self.cluster;
        self.cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
             nodeSelector: {{kubernetes.io/hostname: {first}}}\n  \
             containers: [{{name: c, image: \"{hub}/sleep:{tag}\", command: [sh, -c], args: [\"{script}\"]}}]\n",
            self.namespace
        ));
    }

    /// The address of the pod of a Deployment.
    pub fn address(&self, name: &str) -> String {
        let selector = format!("app={name}");
        self.cluster.field(&["pods", "-n", self.namespace, "-l", &selector], ".items[0].status.podIP")
    }

    /// A Deployment under an account of its own: `client` calls, anybody else answers.
    pub fn deployment(&self, name: &str, node: &str) -> String {
        let Cluster { hub, tag, .. } = self.cluster;
        let container = match name {
            "client" => format!("{{name: client, image: \"{hub}/sleep:{tag}\"}}"),
            _ => format!(
                "{{name: echo, image: \"{hub}/echo:{tag}\", readinessProbe: {{httpGet: {{path: /, port: {APP_PORT}}}, periodSeconds: 1, timeoutSeconds: 5}}}}"
            ),
        };
        let namespace = self.namespace;
        format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             selector: {{matchLabels: {{app: {name}}}}}\n  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}\n  \
             template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      serviceAccountName: {name}\n      \
             nodeSelector: {{kubernetes.io/hostname: {node}}}\n      terminationGracePeriodSeconds: 5\n      \
             tolerations: [{{operator: Exists}}]\n      containers: [{container}]\n"
        )
    }

    /// The Service of such a Deployment.
    pub fn service_of(&self, name: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  \
             selector: {{app: {name}}}\n  ports: [{{name: http, port: 80, targetPort: {APP_PORT}}}, {{name: lines, port: 9000}}]\n",
            self.namespace
        )
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.describe();
        }
        let deleted = self.cluster.try_kubectl(&["delete", "namespace", self.namespace, "--wait=false"]);
        drop(deleted);
    }
}

impl App {
    /// What a person would look at when this failed.
    #[expect(clippy::print_stderr, reason = "the output of a test that failed")]
    fn describe(&self) {
        for arguments in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["get", "events", "-n", self.namespace, "--sort-by=.lastTimestamp"],
            &["logs", "-n", "istio-system", "-l", "app=ztunnel", "--tail=15", "--prefix"],
            &["logs", "-n", "istio-system", "-l", "k8s-app=istio-cni-node", "--tail=15", "--prefix"],
        ] {
            eprintln!(
                "$ kubectl {}\n{}",
                arguments.join(" "),
                self.cluster.try_kubectl(arguments).unwrap_or_else(|e| e)
            );
        }
    }
}
