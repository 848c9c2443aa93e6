//! Where an endpoint is, if that is to be asked for first.
//!
//! In: an endpoint that may have a name only. Out: an address; never one of ours, nor one that is called in plain though it is
//! in the mesh. Absent on purpose: connecting.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lateen_net::local;
use lateen_rt::deadline::within;
use lateen_state::{wait, workload::Tunnel, world::World};
use lateen_types::{addr::NetworkAddress, id::SpiffeId};

use super::{
    dial::DialError,
    endpoint::{At, Endpoint},
};
use crate::lane::Shared;

/// How long a name may take.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// The address of an endpoint; of a name each that it has in turn.
pub async fn address(shared: &Shared, endpoint: &Endpoint) -> Result<SocketAddr, DialError> {
    let hostname = match &endpoint.key.at {
        At::Ip(ip) => return Ok(SocketAddr::new(*ip, endpoint.key.port)),
        At::Host(hostname) => hostname,
    };
    let unknown = |reason: String| DialError::Name { name: hostname.clone(), reason: reason.into() };
    let looking = tokio::net::lookup_host((hostname.as_str(), endpoint.key.port));
    let found: Vec<SocketAddr> =
        within("resolving a name", DNS_TIMEOUT, looking).await?.map_err(|error| unknown(error.to_string()))?.collect();
    let one = match found.len() {
        0 => return Err(unknown("the answer is empty".to_owned())),
        count => found[rand::random_range(0..count)],
    };
    if endpoint.workload.is_none() {
        // The client has brought the name, and whoever answers for it may say any address.
        outside(shared, one.ip()).await.map_err(unknown)?;
    }
    Ok(one)
}

/// Refuses addresses at which no stranger's name may lead: ours, and those in the mesh, which are never called in plain.
async fn outside(shared: &Shared, ip: IpAddr) -> Result<(), String> {
    let ip = ip.to_canonical();
    if is_own(ip) || local::is_own_address_here(ip) {
        return Err(format!("{ip} is no address of others"));
    }
    let at = NetworkAddress { network: shared.own.network.clone(), ip };
    let world = wait::address(&shared.world, &shared.demands, &at).await.map_err(|error| error.to_string())?;
    is_outside(&world, &at, &shared.own.identity)
}

/// What the world says of an address that a stranger's name leads to.
fn is_outside(world: &World, at: &NetworkAddress, own: &SpiffeId) -> Result<(), String> {
    let (found, ip) = (world.workload_by_ip(at), at.ip);
    // A sibling's: what is sent there may come back to where it came from, without end.
    if found.is_some_and(|workload| workload.identity == *own) {
        return Err(format!("{ip} is this proxy's own"));
    }
    let tunnelled = found.is_some_and(|workload| workload.tunnel == Tunnel::Hbone);
    match tunnelled || world.services_at(at).next().is_some() {
        true => Err(format!("{ip} is in the mesh, and has a name of its own there")),
        false => Ok(()),
    }
}

/// Whether an address means this machine, this link, or nobody.
fn is_own(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use lateen_state::{decode, world::WorldStore};
    use lateen_wire::workload as wire;
    use prost::Message as _;

    use super::*;

    #[test]
    fn names_of_strangers_lead_to_strangers_only() {
        let pod = |name: &str, last: u8, tunnel: wire::TunnelProtocol| wire::Workload {
            uid: name.into(),
            namespace: "shop".into(),
            service_account: name.into(),
            addresses: vec![vec![10, 0, 0, last]],
            tunnel_protocol: tunnel.into(),
            ..Default::default()
        };
        let address = wire::NetworkAddress { address: vec![10, 0, 0, 9], ..Default::default() };
        let service = wire::Service { hostname: "web".into(), addresses: vec![address], ..Default::default() };
        use wire::{TunnelProtocol as Tunnel, address::Type};
        let all = [
            Type::Workload(pod("gateway", 1, Tunnel::None)),
            Type::Workload(pod("web", 2, Tunnel::Hbone)),
            Type::Workload(pod("outside", 3, Tunnel::None)),
            Type::Service(service),
        ];
        let store = WorldStore::new(None);
        let wrap = |one| wire::Address { r#type: Some(one) }.encode_to_vec();
        store.apply(all.map(|one| decode::address(&wrap(one)).expect("good")));
        let own = "spiffe://cluster.local/ns/shop/sa/gateway".parse().expect("an identity");
        let is_let = |ip: &str| {
            let at = NetworkAddress { network: "".into(), ip: ip.parse().expect("an address") };
            is_outside(&store.load(), &at, &own).is_ok()
        };
        for (ip, expected) in
            [("10.0.0.1", false), ("10.0.0.2", false), ("10.0.0.3", true), ("10.0.0.9", false), ("192.0.2.1", true)]
        {
            assert_eq!(is_let(ip), expected, "{ip}");
        }
    }

    #[test]
    fn names_of_strangers_do_not_lead_to_ourselves() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(is_own(text.parse().expect("an address")), "{text}");
        }
        for text in ["10.0.0.1", "192.0.2.7", "2001:db8::1"] {
            assert!(!is_own(text.parse().expect("an address")), "{text}");
        }
    }
}
