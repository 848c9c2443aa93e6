//! A connection to an endpoint whose bytes are not looked into.
//!
//! In: a cluster, an endpoint, whom it is for. Out: a [`Wire`], on the cluster's terms, and through its proxy where there is
//! one. Absent on purpose: choosing the endpoint, keeping connections: each serves one client.

use lateen_rt::deadline::within;

use super::{
    connection::Speak,
    dial::{self, For, To},
    failure::Failure,
    send::keepalive,
    terms::{Terms, Whom},
    through,
    wire::Wire,
};
use crate::{
    book::{Cluster, Protocol},
    lane::Lane,
};

/// A connection.
pub async fn connect(lane: &Lane, cluster: &Cluster, whom: Whom<'_>) -> Result<Wire, Failure> {
    let (policy, limits) = (&cluster.policy, &cluster.policy.pool);
    let terms = Terms::within(&lane.shared, cluster, whom).await?;
    let by = For {
        client: whom.client,
        timeout: limits.connect_timeout,
        keepalive: limits.keepalive.as_ref().map(keepalive),
    };
    let speak = match cluster.protocol {
        Protocol::Http2 | Protocol::Grpc => Speak::Http2,
        Protocol::Auto | Protocol::Http | Protocol::GrpcWeb | Protocol::Tcp | Protocol::Tls => Speak::Http1,
    };
    let speak = policy.tunnel.is_some().then_some(speak);
    let to = To { endpoint: whom.endpoint, terms: terms.as_deref(), speak };
    let connecting = async {
        let wire = dial::wire(lane, to, &by).await?;
        match (&policy.tunnel, speak) {
            (Some(tunnel), Some(speak)) => through::open(lane, wire, (tunnel, speak)).await.map(Wire::through),
            (_, _) => Ok(wire),
        }
    };
    let connected = within("connecting to the endpoint", by.timeout, connecting).await;
    connected.map_err(|_| Failure::ConnectTimeout)?.map_err(Failure::from)
}
