//! What a connection tells of itself: the same for each of its requests.
//!
//! In: who arrived, what the world knows. Out: values that records and metrics are made from.

use std::sync::Arc;

use lateen_state::service::Service;

use crate::{
    arrival::{Arrival, Target},
    book::{Upstream, proxy::Role},
    lane::Lane,
    report::{self, Client, Reporter},
    upstream::endpoint::Endpoint,
};

impl Lane {
    /// Who calls, as records and metrics have it. In the mesh a gateway's client is the gateway itself.
    pub fn client(&self, arrival: &Arrival) -> Arc<Client> {
        let (caller, own) = (&arrival.caller, &self.shared.own);
        let party = match &arrival.target {
            Target::Port { .. } => {
                let world = self.shared.world.load();
                let workload = own.workload.as_ref().and_then(|uid| world.workload(uid));
                self.shared.reporting.party(workload, &caller.baggage, Some(&own.identity))
            }
            Target::Service { .. } | Target::Workload { .. } => {
                self.shared.reporting.party(caller.workload.as_ref(), &caller.baggage, caller.peer.as_ref())
            }
        };
        Arc::new(Client {
            party,
            hop: caller.hop,
            own_identity: Some(own.identity.to_string().into()),
            server_name: caller.server_name.clone(),
            tls_version: caller.tls.as_ref().map(|tls| tls.version),
            is_mutual: caller.peer.is_some(),
        })
    }

    /// The service that is called, as far as the world knows it.
    pub fn service(&self, arrival: &Arrival) -> Option<Arc<Service>> {
        match &arrival.target {
            Target::Service { key, .. } => self.shared.world.load().service(key).cloned(),
            Target::Workload { .. } | Target::Port { .. } => None,
        }
    }
}

/// Who reports.
pub fn reporter(role: Role) -> Reporter {
    match role {
        Role::Waypoint => Reporter::Waypoint,
        Role::Gateway => Reporter::Source,
    }
}

/// Where something was sent, in the reference's words: `inbound-vip|80|http/v1|host` at a waypoint.
pub fn sent_to(role: Role, kind: &str, upstream: &Upstream, endpoint: &Endpoint) -> report::Upstream {
    let (port, subset, host) = (upstream.port, &*upstream.subset, &upstream.service.hostname);
    let cluster = match (role, subset) {
        (Role::Gateway, _) => format!("outbound|{port}|{subset}|{host}"),
        (Role::Waypoint, "") => format!("inbound-vip|{port}|{kind}|{host}"),
        (Role::Waypoint, _) => format!("inbound-vip|{port}|{kind}/{subset}|{host}"),
    };
    report::Upstream { host: endpoint.addr(), local: None, cluster, version: None, attempts: 1 }
}
