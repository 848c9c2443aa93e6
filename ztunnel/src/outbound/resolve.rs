//! What must be known before an outbound connection can be planned; the only wait before deciding.
//!
//! In: the pod and what was dialled. Out: one world, and the pod's own workload in it. Absent on purpose: choosing.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lateen_rt::deadline::{Elapsed, within};
use lateen_state::{
    wait::{self, LOCAL_WORKLOAD_TIMEOUT, Unanswered, UnknownLocal},
    workload::Workload,
    world::World,
};
use lateen_types::name::Hostname;
use rand::seq::IndexedRandom as _;

use super::upstream::key;
use crate::pod::Pod;

/// For names that stand in place of addresses.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Who calls is not known.
    #[error(transparent)]
    Caller(#[from] UnknownLocal),
    /// What was dialled may be anything.
    #[error(transparent)]
    Dialled(#[from] Unanswered),
}

/// The world to plan in, and who calls.
pub async fn resolve(pod: &Pod, dialled: SocketAddr) -> Result<(Arc<World>, Arc<Workload>), ResolveError> {
    let shared = &pod.shared;
    let found = wait::local_workload(&shared.world, &pod.key, LOCAL_WORKLOAD_TIMEOUT).await?;
    if !shared.demands.is_on() {
        return Ok(found);
    }
    let world = wait::address(&shared.world, &shared.demands, &key(&shared.settings.network, dialled.ip())).await?;
    // The newer world may describe the caller anew.
    let source = world.local_workload(&pod.key).cloned().unwrap_or(found.1);
    Ok((world, source))
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It took too long.
    #[error("cannot resolve {0}: {1}")]
    Timeout(Hostname, Elapsed),
    /// The resolver failed.
    #[error("cannot resolve {0}: {1}")]
    Resolver(Hostname, std::io::Error),
    /// There is none.
    #[error("cannot resolve {0}: it has no address")]
    Empty(Hostname),
}

/// An address of `hostname`, of the family of `near` where there is one, at random among several.
pub async fn address_of(hostname: &Hostname, near: IpAddr) -> Result<IpAddr, NameError> {
    let looking = tokio::net::lookup_host((hostname.as_str(), 0));
    let found = within("looking up a name", DNS_TIMEOUT, looking).await;
    let found = found.map_err(|elapsed| NameError::Timeout(hostname.clone(), elapsed))?;
    let found = found.map_err(|error| NameError::Resolver(hostname.clone(), error))?;
    let (same, other): (Vec<IpAddr>, Vec<IpAddr>) =
        found.map(|addr| addr.ip()).partition(|ip| ip.is_ipv4() == near.is_ipv4());
    let choice = if same.is_empty() { other } else { same };
    choice.choose(&mut rand::rng()).copied().ok_or_else(|| NameError::Empty(hostname.clone()))
}
