//! On which terms an endpoint is connected to, beside its address.
//!
//! In: what a cluster's policy asks for, whom a connection is for. Out: a value that connections are keyed by, so that one
//! that was begun on other terms (another credential, in clear, for another client) is never used. Absent on purpose:
//! connecting (see `dial`).

use std::{net::SocketAddr, sync::Arc};

use super::{
    endpoint::{At, Endpoint, EndpointKey},
    tls::{Seal, SealError},
};
use crate::{
    book::{TrafficPolicy, cluster::ProxyProtocol},
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
}

impl Terms {
    /// What `policy` asks for; `None` where that is nothing.
    pub async fn of(shared: &Shared, policy: &TrafficPolicy, whom: Whom<'_>) -> Result<Option<Arc<Self>>, SealError> {
        let announced =
            policy.proxy_protocol.map(|version| Announced { version, client: whom.client, dialled: whom.dialled });
        let seal = match &policy.tls {
            Some(tls) => Some(Seal::of(shared, tls, (whom.endpoint, whom.host)).await?),
            None => None,
        };
        let none = announced.is_none() && seal.is_none();
        Ok((!none).then(|| Arc::new(Self { announced, seal })))
    }
}

impl ConnectionKey {
    /// Whether clients make as many of its kind as they like, each of little use: for one client alone, or to a name that
    /// a client brought.
    pub fn is_seldom_used(&self) -> bool {
        let is_of_one_client = self.terms.as_ref().is_some_and(|terms| terms.announced.is_some());
        is_of_one_client || (self.endpoint.workload.is_none() && matches!(self.endpoint.at, At::Host(_)))
    }
}
