//! The labels of the traffic metrics, in the reference's order.

use lateen_state::service::Service;
use lateen_types::id::SpiffeId;
use metrics::{Label, SharedString};

use super::{Flag, Party, Security};

/// What the labels are made of.
#[derive(Debug)]
pub struct Labelled<'a> {
    /// `source` or `destination`.
    pub reporter: &'static str,
    /// The client.
    pub source: &'a Party,
    /// The server.
    pub destination: &'a Party,
    /// The service that was meant.
    pub service: Option<&'a Service>,
    /// What keeps the connection from strangers.
    pub security: Security,
}

const UNKNOWN: SharedString = SharedString::const_str("unknown");

impl Labelled<'_> {
    /// All labels, with `flag` as the response flag.
    pub fn labels(&self, flag: Flag) -> Vec<Label> {
        let (source, destination) = (self.source, self.destination);
        let text = |text: &str| Some(SharedString::from(text.to_owned()));
        let principal = |id: &Option<SpiffeId>| id.as_ref().map(|id| SharedString::from(id.to_string()));
        let mut labels = Vec::with_capacity(28);
        let mut put = |name: &'static str, value: Option<SharedString>| {
            labels.push(Label::new(name, value.unwrap_or(UNKNOWN)));
        };
        put("reporter", Some(SharedString::const_str(self.reporter)));
        put("source_workload", source.workload.clone());
        put("source_canonical_service", source.canonical_service.clone());
        put("source_canonical_revision", source.canonical_revision.clone());
        put("source_workload_namespace", source.namespace.clone());
        put("source_principal", principal(&source.principal));
        put("source_app", source.app.clone());
        put("source_version", source.version.clone());
        put("source_cluster", source.cluster.clone());
        put("destination_service", self.service.and_then(|service| text(service.key.hostname.as_str())));
        put("destination_service_namespace", self.service.and_then(|service| text(service.key.namespace.as_str())));
        put("destination_service_name", self.service.map(|service| service.name.clone().into()));
        put("destination_workload", destination.workload.clone());
        put("destination_canonical_service", destination.canonical_service.clone());
        put("destination_canonical_revision", destination.canonical_revision.clone());
        put("destination_workload_namespace", destination.namespace.clone());
        put("destination_principal", principal(&destination.principal));
        put("destination_app", destination.app.clone());
        put("destination_version", destination.version.clone());
        put("destination_cluster", destination.cluster.clone());
        put("request_protocol", Some(SharedString::const_str("tcp")));
        put("response_flags", Some(SharedString::const_str(flag.as_str())));
        put("connection_security_policy", Some(SharedString::const_str(self.security.as_str())));
        if source.known || destination.known {
            put("source_region", source.region.clone());
            put("source_zone", source.zone.clone());
            put("destination_region", destination.region.clone());
            put("destination_zone", destination.zone.clone());
        }
        labels
    }
}
