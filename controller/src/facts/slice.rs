//! What is used of an EndpointSlice.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;
use lateen_cluster::{
    labels,
    store::{Key, Reading},
};

/// The pod an endpoint stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its place.
    pub key: Key,
    /// Its uid: a pod of the same name made later is another one.
    pub uid: String,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its first address.
    pub address: IpAddr,
    /// Whether it may be used.
    pub ready: bool,
    /// The pod behind it, if there is one.
    pub pod: Option<PodRef>,
}

/// One TCP port of all endpoints of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the service port it answers.
    pub name: String,
    /// The number at the endpoints.
    pub number: u16,
}

/// What is used of an endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The service it belongs to.
    pub service: Key,
    /// Its TCP ports.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl EndpointSlice {
    /// Reads a Kubernetes slice; one without a service, or of names instead of addresses, is of no use here.
    pub fn read(slice: discovery::EndpointSlice) -> Reading<Self> {
        let namespace = slice.metadata.namespace.unwrap_or_default();
        let service = slice.metadata.labels.and_then(|mut all| all.remove(labels::SERVICE_NAME));
        let Some(service) = service.filter(|_| slice.address_type != "FQDN") else { return Reading::Nothing };
        let ports = slice.ports.unwrap_or_default();
        Reading::Value(Self {
            service: Key::new(&namespace, &service),
            ports: ports.into_iter().filter_map(port_of).collect(),
            endpoints: slice.endpoints.into_iter().filter_map(|one| endpoint_of(one, &namespace)).collect(),
        })
    }
}

fn port_of(port: discovery::EndpointPort) -> Option<SlicePort> {
    let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let number = port.port.and_then(|number| u16::try_from(number).ok()).filter(|_| tcp)?;
    Some(SlicePort { name: port.name.unwrap_or_default(), number })
}

fn endpoint_of(endpoint: discovery::Endpoint, namespace: &str) -> Option<Endpoint> {
    let target = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(Endpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        ready: endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
        pod: target.map(|target| PodRef {
            key: Key::new(target.namespace.as_deref().unwrap_or(namespace), &target.name.unwrap_or_default()),
            uid: target.uid.unwrap_or_default(),
        }),
    })
}
