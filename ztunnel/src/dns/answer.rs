//! What a query is answered with. Pure.
//!
//! In: a name and type, who asks, the world. Out: a local answer or "forward". Absent on purpose: messages and sockets.

use std::{net::IpAddr, sync::Arc};

use lateen_state::{service::Service, workload::Workload, world::World};
use lateen_types::id::Namespace;

use super::names::{Candidate, candidates, with_wildcards};

/// The address family asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A.
    V4,
    /// AAAA.
    V6,
}

impl Family {
    fn holds(self, ip: &IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }

    fn any(self) -> IpAddr {
        match self {
            Self::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// What holds for every query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The cluster's domain.
    pub domain: String,
    /// IPv6 answers are given.
    pub ipv6: bool,
    /// Whose services win a tie.
    pub preferred: Option<Namespace>,
}

/// How a query is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Not a name of the mesh.
    Forward,
    /// By us. No addresses: the name exists without this type, which is never NXDOMAIN.
    Local {
        /// `asked → this`; the addresses are then this name's. Without a last dot.
        cname: Option<String>,
        /// The addresses, in no order.
        addresses: Vec<IpAddr>,
    },
}

/// Decides for `asked` (no last dot); `family` is `None` for every type but A and AAAA.
pub fn decide(asked: &str, family: Option<Family>, client: &Workload, (world, rules): (&World, &Rules)) -> Decision {
    let Some(family) = family else { return Decision::Forward };
    // Names differ in case only where a resolver plays with it (draft-vixie-dnsext-dns0x20); ours are lower case.
    let asked = asked.to_ascii_lowercase();
    let found = candidates(&asked, client.namespace.as_str(), &rules.domain)
        .into_iter()
        .find_map(|candidate| Some((find(&candidate, client, (world, rules))?, candidate)));
    let Some((service, candidate)) = found else { return Decision::Forward };
    let is_off = family == Family::V6 && !rules.ipv6;
    if is_off || !service.families.allows(family.any()) {
        return Decision::Local { cname: None, addresses: Vec::new() };
    }
    let addresses = addresses(&service, family, client, world);
    let is_wildcard = service.key.hostname.as_str().starts_with("*.");
    let cname = candidate.stripped.filter(|_| !is_wildcard && !addresses.is_empty());
    Decision::Local { cname, addresses }
}

/// The best service for one candidate: by its own name, then by wildcards that hold it.
fn find(candidate: &Candidate, client: &Workload, (world, rules): (&World, &Rules)) -> Option<Arc<Service>> {
    with_wildcards(&candidate.name).find_map(|name| best(world.services_called(&name), client, rules).cloned())
}

/// Among visible services we can answer for: the client's namespace, canonical, preferred, the first.
fn best<'s>(called: &'s [Arc<Service>], client: &Workload, rules: &Rules) -> Option<&'s Arc<Service>> {
    let usable = || {
        called.iter().filter(|service| {
            let in_cluster = service.key.hostname.as_str().strip_suffix(&rules.domain);
            let in_cluster = in_cluster.is_some_and(|rest| rest.ends_with(".svc."));
            (in_cluster || !service.vips.is_empty()) && service.is_visible_from(&client.namespace)
        })
    };
    usable()
        .find(|service| service.key.namespace == client.namespace)
        .or_else(|| usable().find(|service| service.canonical))
        .or_else(|| usable().find(|service| rules.preferred.as_ref() == Some(&service.key.namespace)))
        .or_else(|| usable().next())
}

fn addresses(service: &Service, family: Family, client: &Workload, world: &World) -> Vec<IpAddr> {
    if !service.vips.is_empty() {
        let own = service.vips.iter().filter(|vip| vip.network == client.network);
        return own.map(|vip| vip.ip).filter(|ip| family.holds(ip)).collect();
    }
    let first = |workload: &Workload| workload.addresses.iter().copied().find(|ip| family.holds(ip));
    world.endpoints(service).filter_map(|endpoint| first(&endpoint.workload)).collect()
}
