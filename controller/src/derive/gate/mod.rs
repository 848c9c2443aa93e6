//! What a gateway listens on.
//!
//! ```text
//! listeners of its Gateway ─► judge ─► attach routes ─► sections ─┐
//!                                                                 ├─► doors ─► one wire listener for each port
//! servers of Gateways of the mesh's own API ─► virtual services ──┘
//! ```
//! In: what is written, a look at routes, services and Secrets. Out: `lateen.proxy.Listener`s, what they need of Secrets,
//! and what authors are told. What cannot be done is not listened on; nothing is opened with less than was asked for.

pub mod attach;
pub mod client;
pub mod hosts;
pub mod judge;
pub mod sections;
mod server_tls;
pub mod servers;
pub mod taken;
pub mod tls;

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use lateen_wire::proxy::{self as wire, listener::Kind, tls_host::Then};

use self::judge::Spoken;
use super::{attached::Problem, served};
use crate::facts::{Lookup, Source};

/// What listeners name besides routes.
pub trait Secrets {
    /// What is known of a Secret or ConfigMap.
    fn look(&self, source: &Source) -> Lookup;
    /// Whether a grant lets Gateways of `namespace` name it.
    fn lets(&self, namespace: &str, to: &Source) -> bool;
}

/// A part of what is listened on at a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Door {
    /// The port.
    pub port: u16,
    /// What is there.
    pub kind: Kind,
}

/// Hosts that somebody has and nothing lies behind: requests for them find no route, handshakes for them are refused.
/// Nothing where what is spoken knows no hosts.
pub fn closed(port: u16, spoken: Spoken, hosts: &[&str]) -> Option<Door> {
    let kind = match spoken {
        Spoken::Http => {
            let host = |host: &&str| wire::VirtualHost { host: (*host).to_owned(), ..wire::VirtualHost::default() };
            Kind::Http(wire::VirtualHosts { hosts: hosts.iter().map(host).collect() })
        }
        Spoken::Https | Spoken::Terminated | Spoken::Passed => {
            let then = || Some(Then::Passthrough(wire::TcpRoutes::default()));
            let host = |host: &&str| wire::TlsHost { host: (*host).to_owned(), then: then() };
            Kind::Tls(wire::TlsHosts { hosts: hosts.iter().map(host).collect() })
        }
        Spoken::Tcp | Spoken::Tunnels => return None,
    };
    Some(Door { port, kind })
}

/// The listeners that doors make together. Of doors of different kinds at one port the first counts, and of two for one
/// name in the handshake; requests for one host find the routes of all, in order. What is closed closes something only
/// where something is open.
pub fn merge(doors: Vec<Door>, closed: Vec<Door>) -> Vec<wire::Listener> {
    let mut ports: BTreeMap<u16, Joined> = BTreeMap::new();
    for door in doors {
        match ports.entry(door.port) {
            Entry::Vacant(place) => _ = place.insert(Joined::new(door.kind)),
            Entry::Occupied(mut place) => place.get_mut().join(door.kind),
        }
    }
    for door in closed {
        if let Some(joined) = ports.get_mut(&door.port) {
            joined.join(door.kind);
        }
    }
    let listener = |(port, joined): (u16, Joined)| wire::Listener {
        bind_port: port.into(),
        port: port.into(),
        kind: Some(joined.kind),
    };
    ports.into_iter().map(listener).collect()
}

/// What lies at a port so far, and the number of each host in it.
struct Joined {
    kind: Kind,
    hosts: HashMap<String, usize>,
}

impl Joined {
    fn new(kind: Kind) -> Self {
        let hosts = match &kind {
            Kind::Http(all) => all.hosts.iter().enumerate().map(|(at, host)| (host.host.clone(), at)).collect(),
            Kind::Tls(all) => all.hosts.iter().enumerate().map(|(at, host)| (host.host.clone(), at)).collect(),
            Kind::Tcp(_) => HashMap::new(),
        };
        Self { kind, hosts }
    }

    fn join(&mut self, more: Kind) {
        match (&mut self.kind, more) {
            (Kind::Http(held), Kind::Http(more)) => {
                for host in more.hosts {
                    let at = *self.hosts.entry(host.host.clone()).or_insert(held.hosts.len());
                    match held.hosts.get_mut(at) {
                        Some(one) => {
                            one.routes.extend(host.routes);
                            one.https_redirect |= host.https_redirect;
                        }
                        None => held.hosts.push(host),
                    }
                }
            }
            (Kind::Tls(held), Kind::Tls(more)) => {
                for host in more.hosts {
                    let at = *self.hosts.entry(host.host.clone()).or_insert(held.hosts.len());
                    if at == held.hosts.len() {
                        held.hosts.push(host);
                    }
                }
            }
            (Kind::Tcp(held), Kind::Tcp(more)) => held.routes.extend(more.routes),
            (Kind::Http(_) | Kind::Tls(_) | Kind::Tcp(_), Kind::Http(_) | Kind::Tls(_) | Kind::Tcp(_)) => {}
        }
    }
}

/// Where listeners send to, copies too.
pub fn destinations(listeners: &[wire::Listener]) -> impl Iterator<Item = super::backend::ServiceName> {
    let mut found = Vec::new();
    for listener in listeners {
        match &listener.kind {
            Some(Kind::Http(hosts)) => http(hosts, &mut found),
            Some(Kind::Tcp(routes)) => tcp(routes, &mut found),
            Some(Kind::Tls(hosts)) => hosts.hosts.iter().for_each(|host| match &host.then {
                Some(Then::Passthrough(routes)) => tcp(routes, &mut found),
                Some(Then::Terminate(ended)) => match &ended.then {
                    Some(wire::terminate::Then::Http(hosts)) => http(hosts, &mut found),
                    Some(wire::terminate::Then::Tcp(routes)) => tcp(routes, &mut found),
                    None => {}
                },
                None => {}
            }),
            None => {}
        }
    }
    found.into_iter()
}

/// Whether any route at a listener keeps clients with their endpoints.
pub fn keep_sessions(listeners: &[wire::Listener]) -> bool {
    let keep = |hosts: &wire::VirtualHosts| served::keep_sessions(hosts.hosts.iter().flat_map(|host| &host.routes));
    listeners.iter().any(|listener| match &listener.kind {
        Some(Kind::Http(hosts)) => keep(hosts),
        Some(Kind::Tls(hosts)) => hosts.hosts.iter().any(|host| match &host.then {
            Some(Then::Terminate(ended)) => match &ended.then {
                Some(wire::terminate::Then::Http(hosts)) => keep(hosts),
                Some(wire::terminate::Then::Tcp(_)) | None => false,
            },
            Some(Then::Passthrough(_)) | None => false,
        }),
        Some(Kind::Tcp(_)) | None => false,
    })
}

fn http(hosts: &wire::VirtualHosts, found: &mut Vec<super::backend::ServiceName>) {
    let routes = hosts.hosts.iter().flat_map(|host| &host.routes);
    found.extend(routes.flat_map(served::of_http).map(served::name_of));
}

fn tcp(routes: &wire::TcpRoutes, found: &mut Vec<super::backend::ServiceName>) {
    let shares = routes.routes.iter().flat_map(|route| &route.destinations);
    found.extend(shares.filter_map(served::of_share).map(served::name_of));
}

pub(crate) fn problem(reason: &'static str, message: impl Into<String>) -> Problem {
    Problem { reason, message: message.into() }
}
