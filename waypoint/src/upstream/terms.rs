//! On which terms an endpoint is connected to, beside its address.
//!
//! In: what a cluster's policy and an endpoint ask for, whom a connection is for. Out: a value that connections are keyed by, so that one
//! that was begun on other terms (another credential, in clear, for another client) is never used. Absent on purpose:
//! connecting (see `dial`).

use std::{net::SocketAddr, sync::Arc};

use lateen_rt::deadline::within;
use lateen_types::id::SpiffeId;

use super::{
    endpoint::{At, Endpoint, EndpointKey, Way},
    failure::Failure,
    tls::{Seal, SealError},
};
use crate::{
    book::{Cluster, TrafficPolicy, cluster::ProxyProtocol, proxy::ProxyBook},
    lane::Shared,
};

/// What tells connections apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// Where to.
    pub endpoint: EndpointKey,
    /// How; `None`: in clear, for whomever.
    pub terms: Option<Arc<Terms>>,
}

/// What is agreed on before the first byte of a client's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Whom the connection is said to be for, first of all.
    pub announced: Option<Announced>,
    /// TLS of the destination's own, after that.
    pub seal: Option<Seal>,
    /// Whose identity the endpoint's ztunnel is told beside ours. A connection then serves nobody of another.
    pub on_behalf_of: Option<SpiffeId>,
}

/// What the PROXY protocol tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Announced {
    /// In which version.
    pub version: ProxyProtocol,
    /// The original client.
    pub client: SocketAddr,
    /// What it dialled.
    pub dialled: SocketAddr,
}

/// For whom a connection is opened, and to whom.
#[derive(Clone, Copy)]
pub struct Whom<'a> {
    /// The endpoint chosen.
    pub endpoint: &'a Endpoint,
    /// What is asked for where the policy names no server.
    pub host: &'a str,
    /// The original client.
    pub client: SocketAddr,
    /// What it dialled.
    pub dialled: SocketAddr,
    /// Who it has proven to us to be.
    pub identity: Option<&'a SpiffeId>,
}

impl Terms {
    /// What a cluster and the endpoint ask for, within the time a connection may take; why there is no telling is logged.
    pub async fn within(shared: &Shared, cluster: &Cluster, whom: Whom<'_>) -> Result<Option<Arc<Self>>, Failure> {
        let policy = &cluster.policy;
        let terms = within("what TLS needs", policy.pool.connect_timeout, Self::of(shared, policy, whom));
        terms.await.map_err(|_| Failure::ConnectTimeout)?.map_err(|error| {
            let upstream = &cluster.upstream;
            if let Some(more) = shared.reporting.seldom.again(&format!("{upstream}: {error}")) {
                tracing::warn!(%upstream, %error, "it cannot be connected to{more}");
            }
            Failure::Unready(error.to_string().into())
        })
    }

    /// What `policy` and the endpoint ask for; `None` where that is nothing.
    async fn of(shared: &Shared, policy: &TrafficPolicy, whom: Whom<'_>) -> Result<Option<Arc<Self>>, SealError> {
        let announced =
            policy.proxy_protocol.map(|version| Announced { version, client: whom.client, dialled: whom.dialled });
        let seal = match &policy.tls {
            Some(tls) => Some(Seal::of(shared, tls, (whom.endpoint, whom.host)).await?),
            None => None,
        };
        let on_behalf_of = on_behalf_of(shared, whom.endpoint, whom.identity);
        let none = announced.is_none() && seal.is_none() && on_behalf_of.is_none();
        Ok((!none).then(|| Arc::new(Self { announced, seal, on_behalf_of })))
    }
}

/// Whose identity an endpoint's ztunnel is told: the client's own, as we have seen it proven, never what a client says of
/// others. Only where the endpoint's workload asks for it and we are a waypoint of it: of anybody else it is refused.
pub fn on_behalf_of(shared: &Shared, endpoint: &Endpoint, identity: Option<&SpiffeId>) -> Option<SpiffeId> {
    let workload = endpoint.workload.as_ref().filter(|workload| workload.believes_waypoint)?;
    let (identity, book) = (identity?, shared.book.peek());
    let serves = |proxy: &ProxyBook| {
        let backed = || workload.services.iter().any(|(key, _)| proxy.services.contains(key));
        proxy.workloads.contains(&workload.uid) || backed()
    };
    (endpoint.way() == Way::Tunnel && book.proxy().is_some_and(|proxy| serves(proxy))).then(|| identity.clone())
}

impl ConnectionKey {
    /// Whether clients make as many of its kind as they like, each of little use: for one client alone, or to a name that
    /// a client brought.
    pub fn is_seldom_used(&self) -> bool {
        let is_of_one_client = self.terms.as_ref().is_some_and(|terms| terms.announced.is_some());
        is_of_one_client || (self.endpoint.workload.is_none() && matches!(self.endpoint.at, At::Host(_)))
    }
}
