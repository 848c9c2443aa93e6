//! Every name of the cluster with its records. Pure.
//!
//! In: Services and EndpointSlices. Out: look-ups by name, as the Kubernetes DNS specification (1.1.0) names things.
//! Absent on purpose: pod names by address (`1-2-3-4.ns.pod`), reverse look-ups.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::{
    core::v1::{Service, ServiceSpec},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::ResourceExt as _;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its addresses, of both families.
    pub addresses: BTreeSet<IpAddr>,
    /// The name it is another word for.
    pub alias: Option<String>,
    /// Ports behind a `_port._protocol` name.
    pub ports: BTreeSet<ServicePort>,
}

/// One SRV record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// The host.
    pub target: String,
    /// The port there.
    pub port: u16,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'z> {
    /// The name, which may have no record of the wanted type.
    Name(&'z Entry),
    /// No such name in the cluster.
    Nothing,
    /// The name is not the cluster's.
    Outside,
}

/// All names, in lower case and without a final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    domain: String,
    names: BTreeMap<String, Entry>,
}

impl Zone {
    /// The names of these objects.
    pub fn of<'o>(
        domain: &str,
        services: impl Iterator<Item = &'o Service>,
        slices: impl Iterator<Item = &'o EndpointSlice>,
    ) -> Self {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let mut zone = Self { domain, names: BTreeMap::new() };
        for parent in ["", "svc."] {
            zone.names.entry(format!("{parent}{}", zone.domain)).or_default();
        }
        let mut by_service: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            let Some(service) = slice.labels().get("kubernetes.io/service-name") else { continue };
            by_service.entry((slice.namespace().unwrap_or_default(), service.clone())).or_default().push(slice);
        }
        for service in services {
            let key = (service.namespace().unwrap_or_default(), service.name_any());
            if let Some(spec) = &service.spec {
                zone.add(&key.0, &key.1, spec, by_service.get(&key).map(Vec::as_slice).unwrap_or_default());
            }
        }
        zone
    }

    /// The domain, without a final dot.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Looks a name up; case and a final dot do not matter.
    pub fn find(&self, name: &str) -> Found<'_> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let inside = name.strip_suffix(&self.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        match self.names.get(&name) {
            _ if !inside => Found::Outside,
            Some(entry) => Found::Name(entry),
            None => Found::Nothing,
        }
    }

    fn add(&mut self, namespace: &str, name: &str, spec: &ServiceSpec, slices: &[&EndpointSlice]) {
        self.names.entry(format!("{namespace}.svc.{}", self.domain)).or_default();
        let host = format!("{name}.{namespace}.svc.{}", self.domain);
        self.names.entry(host.clone()).or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            self.entry(&host).alias = target;
        } else if spec.cluster_ip.as_deref() == Some("None") {
            for slice in slices {
                for endpoint in slice.endpoints.iter().filter(|endpoint| is_published(endpoint)) {
                    self.add_endpoint(&host, slice, endpoint);
                }
            }
        } else {
            self.add_virtual(&host, spec);
        }
    }

    fn add_virtual(&mut self, host: &str, spec: &ServiceSpec) {
        let ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let ips: BTreeSet<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
        self.entry(host).addresses.extend(ips);
        for port in spec.ports.iter().flatten() {
            if let (Some(name), Ok(number)) = (&port.name, u16::try_from(port.port)) {
                self.add_port(
                    host,
                    name,
                    port.protocol.as_deref(),
                    ServicePort { target: host.to_owned(), port: number },
                );
            }
        }
    }

    fn add_endpoint(&mut self, host: &str, slice: &EndpointSlice, endpoint: &Endpoint) {
        let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok()) else { return };
        let label = endpoint.hostname.clone().unwrap_or_else(|| ip.to_string().replace(['.', ':'], "-"));
        let target = format!("{label}.{host}").to_ascii_lowercase();
        self.entry(host).addresses.insert(ip);
        self.entry(&target).addresses.insert(ip);
        for port in slice.ports.iter().flatten() {
            let name = port.name.as_deref().filter(|name| !name.is_empty());
            if let (Some(name), Some(number)) = (name, port.port.and_then(|port| u16::try_from(port).ok())) {
                let here = ServicePort { target: target.clone(), port: number };
                self.add_port(host, name, port.protocol.as_deref(), here);
            }
        }
    }

    fn add_port(&mut self, host: &str, name: &str, protocol: Option<&str>, port: ServicePort) {
        let protocol = format!("_{}.{host}", protocol.unwrap_or("TCP").to_ascii_lowercase());
        self.entry(&protocol);
        self.entry(&format!("_{name}.{protocol}")).ports.insert(port);
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        self.names.entry(name.to_owned()).or_default()
    }
}

/// Absent means ready (discovery/v1).
fn is_published(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}
