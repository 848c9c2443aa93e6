//! The crowd: which node, service and namespace each pod belongs to, and the objects as an API server takes them.
//!
//! Pods are numbered for ever: those that are there are always a range of numbers, the lowest leave and the next come. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::Range};

use serde_json::{Value, json};

/// The namespace of the proxies and of the controller.
pub(crate) const SYSTEM: &str = "istio-system";
/// The proxies' account.
pub(crate) const ACCOUNT: &str = "ztunnel";
/// Services of one namespace.
const SERVICES_PER_NAMESPACE: usize = 20;
/// Pods' addresses begin here; eight million follow.
const FIRST_ADDRESS: u32 = 0x0a80_0000;
/// Proxies' addresses begin here.
const FIRST_PROXY_ADDRESS: u32 = 0x0a00_0001;
/// Zones of a region.
const ZONES: usize = 3;

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub nodes: usize,
    pub pods: usize,
    pub services: usize,
    /// Services one proxy asks for, on demand.
    pub used: usize,
}

impl Size {
    /// The service of a pod.
    pub fn service_of(&self, pod: usize) -> usize {
        pod % self.services
    }

    /// The node of a pod. Pods of a service come to lie on many nodes.
    pub fn node_of(&self, pod: usize) -> usize {
        (pod + pod / self.services) % self.nodes
    }

    /// Services that the proxy of a node asks for.
    pub fn used_by(&self, node: usize) -> BTreeSet<usize> {
        (0..self.used.min(self.services)).map(|one| (node * 7 + one * 31) % self.services).collect()
    }

    #[cfg(test)]
    /// Whether a pod concerns the proxy of `node` where it asks on demand for the services `used`.
    pub fn concerns(&self, pod: usize, node: usize, used: &BTreeSet<usize>) -> bool {
        self.node_of(pod) == node || used.contains(&self.service_of(pod))
    }

    /// Who asks for what on demand, among these pods.
    pub fn interests(&self, pods: &Range<usize>) -> Interests {
        let mut users = vec![BTreeSet::new(); self.services];
        for node in 0..self.nodes {
            for service in self.used_by(node) {
                users[service].insert(node);
            }
        }
        let mut interests = Interests { proxies: Vec::with_capacity(pods.len()), pods: vec![0; self.nodes] };
        for pod in pods.clone() {
            let (here, users) = (self.node_of(pod), &users[self.service_of(pod)]);
            let elsewhere = users.iter().filter(|node| **node != here);
            let concerned: Vec<usize> = elsewhere.copied().chain([here]).collect();
            concerned.iter().for_each(|node| interests.pods[*node] += 1);
            interests.proxies.push(u32::try_from(concerned.len()).unwrap_or(u32::MAX));
        }
        interests
    }

    /// How many namespaces services have.
    pub fn namespaces(&self) -> usize {
        self.services.div_ceil(SERVICES_PER_NAMESPACE)
    }
}

/// Who is concerned by what, on demand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Interests {
    /// How many proxies each pod concerns.
    pub proxies: Vec<u32>,
    /// How many pods concern the proxy of each node.
    pub pods: Vec<usize>,
}

/// The namespace of a service.
pub(crate) fn namespace_of(service: usize) -> String {
    format!("shop-{}", service / SERVICES_PER_NAMESPACE)
}

/// A node's name.
pub(crate) fn node_name(node: usize) -> String {
    format!("node-{node}")
}

/// A pod's name; `number_in` reads it.
pub(crate) fn pod_name(pod: usize) -> String {
    format!("p-{pod}")
}

/// A proxy's pod.
pub(crate) fn proxy_name(node: usize) -> String {
    format!("ztunnel-{node}")
}

/// The key a service is asked for by.
pub(crate) fn service_key(service: usize) -> String {
    let namespace = namespace_of(service);
    format!("{namespace}/svc-{service}.{namespace}.svc.cluster.local")
}

/// The number of a pod in a resource name such as `Kubernetes//Pod/shop-1/p-17`.
pub(crate) fn number_in(resource: &str) -> Option<usize> {
    resource.rsplit_once('/')?.1.strip_prefix("p-")?.parse().ok()
}

pub(crate) fn node(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name(number), "labels": {
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": format!("zone-{}", number % ZONES),
        "kubernetes.io/hostname": node_name(number), "kubernetes.io/os": "linux"}}})
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
        "labels": {"istio.io/dataplane-mode": "ambient"}}})
}

pub(crate) fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

pub(crate) fn service(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("svc-{number}"), "namespace": namespace_of(number)},
        "spec": {"selector": {"app": format!("svc-{number}")}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

/// The slice of a service, as the cluster's own controller writes it.
pub(crate) fn slice(number: usize, pods: &[usize], size: &Size) -> Value {
    let endpoint = |pod: &usize| {
        json!({"addresses": [address(*pod)], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": node_name(size.node_of(*pod)),
            "targetRef": {"kind": "Pod", "namespace": namespace_of(number), "name": pod_name(*pod)}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": slice_name(number), "namespace": namespace_of(number),
            "labels": {"kubernetes.io/service-name": format!("svc-{number}")}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>()})
}

pub(crate) fn slice_name(service: usize) -> String {
    format!("svc-{service}-0")
}

pub(crate) fn pod(number: usize, size: &Size) -> Value {
    let service = size.service_of(number);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name(number), "namespace": namespace_of(service),
            "labels": {"app": format!("svc-{service}"), "version": "v1", "pod-template-hash": "5d78c9869d"},
            "annotations": {"ambient.istio.io/redirection": "enabled"}},
        "spec": {"nodeName": node_name(size.node_of(number)), "serviceAccountName": format!("svc-{service}"),
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "registry.example/app:1",
                "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

/// The pod of a node's proxy.
pub(crate) fn proxy(node: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": proxy_name(node), "namespace": SYSTEM, "labels": {"app": "ztunnel"}},
        "spec": {"nodeName": node_name(node), "serviceAccountName": ACCOUNT, "automountServiceAccountToken": false,
            "containers": [{"name": "istio-proxy", "image": "registry.example/ztunnel:1"}]}})
}

/// What makes a pod run and be ready.
pub(crate) fn running(address: Ipv4Addr) -> Value {
    json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}]}})
}

pub(crate) fn address(pod: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_ADDRESS.wrapping_add(u32::try_from(pod).unwrap_or(0)))
}

pub(crate) fn proxy_address(node: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_PROXY_ADDRESS.wrapping_add(u32::try_from(node).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { nodes: 10, pods: 100, services: 20, used: 3 };

    #[test]
    fn pods_spread_over_services_and_nodes() {
        for service in 0..SIZE.services {
            let nodes: BTreeSet<usize> =
                (0..SIZE.pods).filter(|pod| SIZE.service_of(*pod) == service).map(|pod| SIZE.node_of(pod)).collect();
            assert_eq!(nodes.len(), SIZE.pods / SIZE.services, "service {service}");
        }
    }

    #[test]
    fn names_are_read_again() {
        assert_eq!(number_in(&format!("Kubernetes//Pod/shop-1/{}", pod_name(17))), Some(17));
        for other in ["Kubernetes//Pod/istio-system/ztunnel-1", &service_key(1), "p-1", "x/p-", "x/p-y"] {
            assert_eq!(number_in(other), None, "{other}");
        }
    }

    #[test]
    fn who_is_concerned_is_counted() {
        let interests = SIZE.interests(&(0..SIZE.pods));
        let concerns = |pod: usize, node: usize| SIZE.concerns(pod, node, &SIZE.used_by(node));
        for (pod, count) in interests.proxies.iter().enumerate() {
            let slow = (0..SIZE.nodes).filter(|node| concerns(pod, *node)).count();
            assert_eq!(*count as usize, slow, "pod {pod}");
        }
        for (node, count) in interests.pods.iter().enumerate() {
            assert_eq!(*count, (0..SIZE.pods).filter(|pod| concerns(*pod, node)).count(), "node {node}");
        }
    }
}
