//! A namespace's waypoint, as its user meets it.
//!
//! In: a namespace. Out: a waypoint that its traffic passes; what the waypoint's pods say of themselves, and the ztunnels around
//! it.

use super::{Lab, until};

/// What a pod of a proxy says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests and connections under way.
    pub active: f64,
    /// Open descriptors.
    pub descriptors: f64,
    /// Memory in RAM, in bytes.
    pub memory: f64,
}

impl Lab {
    /// Gives a namespace a waypoint, and waits until a request of `client` to `url` passes it.
    pub fn waypoint(&self, namespace: &str, (client, url): (&str, &str)) {
        let apply = format!("lateen waypoint apply -n {namespace} --enroll-namespace --wait");
        self.shell(&apply).unwrap_or_else(|error| panic!("{apply}: {error}"));
        until("requests pass the waypoint", || {
            let head = self.exec(client, &["curl", "-sS", "-m", "20", "-o", "/dev/null", "-D", "-", url]).ok()?;
            head.to_ascii_lowercase().contains("x-envoy-upstream-service-time").then_some(())
        });
    }

    /// What each pod of the Gateway `namespace/name` says at a scrape by `from`.
    pub fn scrapes(&self, from: &str, gateway: &str) -> Vec<String> {
        let (namespace, name) = gateway.split_once('/').expect("namespace/name");
        let label = format!("gateway.networking.k8s.io/gateway-name={name}");
        let ips = self.field(&["pods", "-n", namespace, "-l", &label], ".items[*].status.podIP");
        let scrape = |ip| self.get(from, &format!("http://{ip}:15020/stats/prometheus")).expect("metrics");
        ips.split_whitespace().map(scrape).collect()
    }

    /// What each pod of a Gateway carries.
    pub fn loads(&self, from: &str, gateway: &str) -> Vec<Load> {
        let of = |text: &String| load(text, value(text, "lateen_waypoint_requests_active"));
        self.scrapes(from, gateway).iter().map(of).collect()
    }

    /// What each ztunnel carries; `active` are connections to workloads of a namespace.
    pub fn ztunnels(&self, from: &str, namespace: &str) -> Vec<Load> {
        let ips = self.field(&["pods", "-n", "istio-system", "-l", "app=ztunnel"], ".items[*].status.podIP");
        let to = format!("destination_workload_namespace=\"{namespace}\"");
        let of = |ip| {
            let text = self.get(from, &format!("http://{ip}:15020/metrics")).expect("metrics");
            let [opened, closed] = ["opened", "closed"].map(|word| {
                let name = format!("istio_tcp_connections_{word}_total{{");
                let lines = text.lines().filter(|line| line.starts_with(&name) && line.contains(&to));
                lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
            });
            load(&text, opened - closed)
        };
        ips.split_whitespace().map(of).collect()
    }
}

fn load(text: &str, active: f64) -> Load {
    Load { active, descriptors: value(text, "process_open_fds"), memory: value(text, "process_resident_memory_bytes") }
}

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("there is no {name} in\n{text}"))
}
