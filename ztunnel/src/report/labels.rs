//! The labels of the traffic metrics, in the reference's order.

use std::sync::Arc;

use lateen_state::service::Service;
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
    pub service: Option<&'a Arc<Service>>,
    /// What keeps the connection from strangers.
    pub security: Security,
}

const UNKNOWN: SharedString = SharedString::const_str("unknown");

impl Labelled<'_> {
    /// All labels, with `flag` as the response flag.
    pub fn labels(&self, flag: Flag) -> Vec<Label> {
        let (source, destination) = (self.source.words(), self.destination.words());
        let text = |text: &str| Some(SharedString::from(text.to_owned()));
        let principal = |of: &Party| of.principal().map(|id| SharedString::from(id.to_string()));
        let mut labels = Vec::with_capacity(28);
        let mut put = |name: &'static str, value: Option<SharedString>| {
            labels.push(Label::new(name, value.unwrap_or(UNKNOWN)));
        };
        put("reporter", Some(SharedString::const_str(self.reporter)));
        put("source_workload", source.workload);
        put("source_canonical_service", source.canonical_service);
        put("source_canonical_revision", source.canonical_revision);
        put("source_workload_namespace", source.namespace);
        put("source_principal", principal(self.source));
        put("source_app", source.app);
        put("source_version", source.version);
        put("source_cluster", source.cluster);
        put("destination_service", self.service.and_then(|service| text(service.key.hostname.as_str())));
        put("destination_service_namespace", self.service.and_then(|service| text(service.key.namespace.as_str())));
        put("destination_service_name", self.service.map(|service| service.name.clone().into()));
        put("destination_workload", destination.workload);
        put("destination_canonical_service", destination.canonical_service);
        put("destination_canonical_revision", destination.canonical_revision);
        put("destination_workload_namespace", destination.namespace);
        put("destination_principal", principal(self.destination));
        put("destination_app", destination.app);
        put("destination_version", destination.version);
        put("destination_cluster", destination.cluster);
        put("request_protocol", Some(SharedString::const_str("tcp")));
        put("response_flags", Some(SharedString::const_str(flag.as_str())));
        put("connection_security_policy", Some(SharedString::const_str(self.security.as_str())));
        if self.source.is_known() || self.destination.is_known() {
            put("source_region", source.region);
            put("source_zone", source.zone);
            put("destination_region", destination.region);
            put("destination_zone", destination.zone);
        }
        labels
    }
}
