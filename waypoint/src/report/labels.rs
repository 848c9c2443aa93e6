//! The labels of the traffic metrics.
//!
//! In: both ends, the service, how it ended. Out: every label, `unknown` where nothing is known.

use lateen_state::{service::Service, workload::Workload};
use metrics::{Label, SharedString};

use super::{
    Reporter,
    party::{Party, Words},
};

/// What the labels are made of.
pub(super) struct Labelled<'a> {
    pub(super) reporter: Reporter,
    pub(super) is_mutual: bool,
    pub(super) source: &'a Party,
    pub(super) destination: Option<&'a Workload>,
    pub(super) service: Option<&'a Service>,
    pub(super) flags: &'a [&'static str],
    /// Nothing for a connection that is not looked into.
    pub(super) request: Option<Asked>,
}

/// What only requests have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) is_grpc: bool,
    pub(super) status: u16,
    pub(super) grpc_status: Option<u32>,
}

const UNKNOWN: SharedString = SharedString::const_str("unknown");

impl Labelled<'_> {
    pub(super) fn labels(&self) -> Vec<Label> {
        let text = |text: &str| Some(SharedString::from(text.to_owned()));
        let fixed = |text: &'static str| Some(SharedString::const_str(text));
        let source = self.source.words();
        let destination = self.destination.map(Words::of).unwrap_or_default();
        let mut labels = Vec::with_capacity(28);
        let mut put = |name: &'static str, value: Option<SharedString>| {
            labels.push(Label::new(name, value.unwrap_or(UNKNOWN)));
        };
        put("reporter", fixed(self.reporter.as_str()));
        put("source_workload", source.workload);
        put("source_canonical_service", source.canonical_service);
        put("source_canonical_revision", source.canonical_revision);
        put("source_workload_namespace", source.namespace);
        put("source_principal", source.principal);
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
        put("destination_principal", destination.principal);
        put("destination_app", destination.app);
        put("destination_version", destination.version);
        put("destination_cluster", destination.cluster);
        put("request_protocol", fixed(self.protocol()));
        if let Some(Asked { status, grpc_status, is_grpc }) = self.request {
            put("response_code", Some(status.to_string().into()));
            let grpc = grpc_status.filter(|_| is_grpc).map(|status| status.to_string());
            put("grpc_response_status", Some(grpc.unwrap_or_default().into()));
        }
        put("response_flags", Some(if self.flags.is_empty() { "-".into() } else { self.flags.join(",").into() }));
        put("connection_security_policy", fixed(self.security()));
        labels
    }

    fn protocol(&self) -> &'static str {
        match self.request {
            None => "tcp",
            Some(Asked { is_grpc: true, .. }) => "grpc",
            Some(_) => "http",
        }
    }

    fn security(&self) -> &'static str {
        match (self.reporter, self.is_mutual) {
            // A client's side does not know what the server's side demands.
            (Reporter::Source, _) => "unknown",
            (Reporter::Waypoint, true) => "mutual_tls",
            (Reporter::Waypoint, false) => "none",
        }
    }
}
