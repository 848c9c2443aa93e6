//! The pods we serve and their open connections, as the dump shows them.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Serialize;

use crate::{conns::Seen, pods::PodState};

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    /// Who called.
    pub src: SocketAddr,
    /// What was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_dst: Option<String>,
    /// Where it went.
    pub actual_dst: SocketAddr,
    /// `TCP`, `HBONE`, `DOUBLEHBONE` or `SAMENODE`.
    pub protocol: &'static str,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its Kubernetes UID.
    pub uid: String,
    /// Its listeners are up.
    pub is_up: bool,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Connections to it.
    pub inbound: Vec<ConnectionView>,
    /// Connections from it.
    pub outbound: Vec<ConnectionView>,
}

impl PodView {
    /// The view of one pod.
    pub fn of(state: &PodState) -> Self {
        let seen = |list: Vec<Seen>| list.iter().map(ConnectionView::of).collect();
        Self {
            uid: state.uid.as_str().to_owned(),
            is_up: state.conns.is_some(),
            name: state.key.name.to_string(),
            namespace: state.key.namespace.as_str().to_owned(),
            service_account: state.key.service_account.to_string(),
            inbound: state.conns.as_ref().map(|conns| seen(conns.inbound())).unwrap_or_default(),
            outbound: state.conns.as_ref().map(|conns| seen(conns.outbound())).unwrap_or_default(),
        }
    }
}

impl ConnectionView {
    fn of(seen: &Seen) -> Self {
        Self {
            src: seen.source,
            original_dst: seen.dialled.map(|addr| addr.to_string()),
            actual_dst: seen.hop,
            protocol: seen.protocol.as_str(),
        }
    }
}

#[derive(Serialize)]
struct Info<'p> {
    name: &'p str,
    namespace: &'p str,
    #[serde(rename = "serviceAccount")]
    service_account: &'p str,
}

#[derive(Serialize)]
struct Connections<'p> {
    inbound: &'p [ConnectionView],
    outbound: &'p [ConnectionView],
}

#[derive(Serialize)]
pub(super) struct State<'p> {
    state: &'static str,
    connections: Connections<'p>,
    info: Info<'p>,
}

/// By pod UID.
pub(super) fn view(pods: &[PodView]) -> BTreeMap<&str, State<'_>> {
    pods.iter().map(|pod| (pod.uid.as_str(), state(pod))).collect()
}

fn state(pod: &PodView) -> State<'_> {
    State {
        state: if pod.is_up { "Up" } else { "Pending" },
        connections: Connections { inbound: &pod.inbound, outbound: &pod.outbound },
        info: Info { name: &pod.name, namespace: &pod.namespace, service_account: &pod.service_account },
    }
}
