//! On whose behalf does a waypoint call, and is it to be believed?
//!
//! In: what a CONNECT says of its client, who said it, the workload it is for. Out: the client's identity, or why the
//! connection is refused. Absent on purpose: what policy makes of the identity (see `conns`); it goes nowhere else.
//!
//! Whoever has a certificate of the mesh can open a tunnel and write any header, so a name counts only
//!
//! * for a workload that asks for it,
//! * from a pod that the control plane has named as a waypoint of that workload, at that pod's own address, under
//!   that pod's own identity, and
//! * within the waypoint's trust domain, as a waypoint admits no client of another.
//!
//! From anybody else it is not ignored but refused: a waypoint whose word does not count yet would have its clients judged
//! as itself, and let in who is to be kept out.

use std::time::Duration;

use lateen_hbone::request::OnBehalf;
use lateen_state::{
    gateway::GatewayDestination,
    wait::{self, Unanswered},
    workload::Workload,
    world::World,
};
use lateen_types::{
    addr::NetworkAddress,
    id::{SpiffeId, TrustDomain},
};

use super::admit::Carrier;
use crate::{outbound::upstream::key, pod::Pod};

/// How long a waypoint may be ahead of us: that it is one now, we and it are told at the same time.
const WAYPOINT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why nobody is believed.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// There is no telling whom.
    #[error("the peer calls on behalf of something that is not one SPIFFE id")]
    Unreadable,
    /// From another trust domain.
    #[error("the peer calls on behalf of {client}, who is not of its trust domain {domain}")]
    Foreign {
        /// Whom it named.
        client: Box<SpiffeId>,
        /// Its own.
        domain: TrustDomain,
    },
    /// It may not speak for anybody.
    #[error("the peer {peer} calls on behalf of {client}, and is not known as a waypoint of this workload")]
    Stranger {
        /// Who it is.
        peer: Box<SpiffeId>,
        /// Whom it named.
        client: Box<SpiffeId>,
    },
    /// Who it is was not told.
    #[error("the peer calls on behalf of another: {0}")]
    Unanswered(#[from] Unanswered),
}

/// Whom the peer calls for, where that is somebody else. Waits a little for word that it may.
pub async fn origin(
    pod: &Pod,
    local: &Workload,
    carrier: &Carrier,
    named: &OnBehalf,
) -> Result<Option<SpiffeId>, OriginError> {
    let Some(client) = named_client(local, &carrier.peer, named)? else { return Ok(None) };
    let shared = &pod.shared;
    let at = key(&shared.settings.network, carrier.client.ip());
    wait::address(&shared.world, &shared.demands, &at).await?;
    let speaks = |world: &World| {
        let local = world.local_workload(&pod.key)?;
        if may_speak(world, (&carrier.peer, &at), local) {
            return Some(());
        }
        unknown(world, local).into_iter().for_each(|key| shared.demands.ask(key));
        None
    };
    match wait::until(&shared.world, WAYPOINT_TIMEOUT, speaks).await {
        Some(_) => Ok(Some(client)),
        None => Err(OriginError::Stranger { peer: carrier.peer.clone().into(), client: client.into() }),
    }
}

/// Whom a peer names, as far as `local` asks for it.
fn named_client(local: &Workload, peer: &SpiffeId, named: &OnBehalf) -> Result<Option<SpiffeId>, OriginError> {
    match named {
        _ if !local.believes_waypoint => Ok(None),
        OnBehalf::Itself => Ok(None),
        OnBehalf::Unreadable => Err(OriginError::Unreadable),
        OnBehalf::Client(client) if client.trust_domain() != peer.trust_domain() => {
            Err(OriginError::Foreign { client: client.clone().into(), domain: peer.trust_domain().clone() })
        }
        OnBehalf::Client(client) => Ok(Some(client.clone())),
    }
}

/// Whether whoever is at `at` and has proven to be `peer` is a waypoint of `local` (pure). Both address and identity count:
/// other pods may run under a waypoint's account.
fn may_speak(world: &World, (peer, at): (&SpiffeId, &NetworkAddress), local: &Workload) -> bool {
    let proxy = world.workload_by_ip(at).filter(|proxy| proxy.identity == *peer);
    proxy.is_some_and(|proxy| world.is_waypoint_of(&proxy.uid, local))
}

/// What leads from `local` to its waypoints and is not known, as keys to ask for.
fn unknown(world: &World, local: &Workload) -> Vec<String> {
    let services = || local.services.iter().map(|(key, _)| key);
    let known = services().filter_map(|key| world.service(key));
    let waypoints = local.waypoint.iter().chain(known.flat_map(|service| service.waypoints()));
    let missing = waypoints.filter_map(|gateway| match &gateway.destination {
        GatewayDestination::Address(address) => (!world.holds(address)).then(|| address.to_string()),
        GatewayDestination::Hostname(key) => world.service(key).is_none().then(|| key.to_string()),
    });
    services().filter(|key| world.service(key).is_none()).map(ToString::to_string).chain(missing).collect()
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
