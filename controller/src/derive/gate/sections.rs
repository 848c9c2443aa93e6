//! Doors of a Gateway's listeners, with the routes attached to them.
//!
//! A host belongs to the most specific listener of its port that is for it: routes of another are never asked, so that
//! what one team attaches to `*` takes nothing from the owner of `a.example.com`. That holds for a listener which is not
//! listened on, too: while nothing answers for its hosts, nothing laxer does.

use std::collections::BTreeMap;

use lateen_wire::proxy::{self as wire, listener::Kind, terminate, tls_host};

use super::{Door, hosts, judge::Spoken};
use crate::{
    derive::attached::{self, Made, Ranked},
    facts::GatewayListener,
};

/// A listener whose host is its own.
pub struct Section<'a> {
    /// It.
    pub listener: &'a GatewayListener,
    /// What is spoken there.
    pub spoken: Spoken,
    /// Whether it is listened on.
    pub is_open: bool,
    /// How TLS ends, without what lies inside; nothing where it ends elsewhere, or there is none.
    pub ended: Option<wire::Terminate>,
    /// The routes attached to it, the oldest first.
    pub routes: Vec<Attached>,
}

/// A route with the hosts for which it is attached.
pub struct Attached {
    /// The hosts.
    pub hosts: Vec<String>,
    /// What it became.
    pub made: Made,
}

impl Section<'_> {
    fn host(&self) -> &str {
        hosts::written(&self.listener.hostname)
    }

    /// Without terms TLS cannot end.
    fn door_is_missing(&self) -> bool {
        let ends_here = matches!(self.spoken, Spoken::Https | Spoken::Terminated);
        !self.is_open || ends_here && self.ended.is_none()
    }
}

/// The doors of all sections that are listened on.
pub fn doors(sections: &[Section<'_>]) -> Vec<Door> {
    sections.iter().filter(|section| section.is_open).filter_map(|section| door(section, sections)).collect()
}

/// The hosts of those that are not, behind which nothing lies.
pub fn closed(sections: &[Section<'_>]) -> Vec<Door> {
    let shut = sections.iter().filter(|section| section.door_is_missing());
    shut.filter_map(|section| super::closed(section.listener.port, section.spoken, &[section.host()])).collect()
}

fn door(section: &Section<'_>, all: &[Section<'_>]) -> Option<Door> {
    let kind = match section.spoken {
        Spoken::Http => Kind::Http(virtual_hosts(section, all)),
        Spoken::Https => {
            let then = terminate::Then::Http(virtual_hosts(section, all));
            let ended = wire::Terminate { then: Some(then), ..section.ended.clone()? };
            tls(vec![tls_host(section.host(), tls_host::Then::Terminate(ended))])
        }
        Spoken::Terminated => {
            let ended = section.ended.as_ref()?;
            let host = |(host, routes): (String, Vec<wire::TcpRoute>)| {
                let then = Some(terminate::Then::Tcp(wire::TcpRoutes { routes }));
                tls_host(&host, tls_host::Then::Terminate(wire::Terminate { then, ..ended.clone() }))
            };
            tls(connections(section, all).into_iter().map(host).collect())
        }
        Spoken::Passed => {
            let host = |(host, routes): (String, Vec<wire::TcpRoute>)| {
                tls_host(&host, tls_host::Then::Passthrough(wire::TcpRoutes { routes }))
            };
            tls(connections(section, all).into_iter().map(host).collect())
        }
        Spoken::Tcp => {
            let routes = section.routes.iter().flat_map(|one| one.made.tcp.iter().cloned()).collect();
            Kind::Tcp(wire::TcpRoutes { routes })
        }
        Spoken::Tunnels => return None,
    };
    Some(Door { port: section.listener.port, kind })
}

fn tls(hosts: Vec<wire::TlsHost>) -> Kind {
    Kind::Tls(wire::TlsHosts { hosts })
}

fn tls_host(host: &str, then: tls_host::Then) -> wire::TlsHost {
    wire::TlsHost { host: host.to_owned(), then: Some(then) }
}

/// Whether `host` belongs to `section` among the sections of its port.
fn owns(section: &Section<'_>, all: &[Section<'_>], host: &str) -> bool {
    let beside = all.iter().filter(|one| one.listener.port == section.listener.port);
    let family = beside.filter(|one| one.spoken.is_tls() == section.spoken.is_tls());
    let covering = family.filter(|one| hosts::covers(one.host(), host));
    // Of two for one host the closed one counts.
    let owner = covering.max_by_key(|one| (hosts::rank(one.host()), one.door_is_missing()));
    owner.is_some_and(|owner| owner.host() == section.host() && !owner.door_is_missing())
}

/// The hosts of a section with their routes. Its own host is there without any, so that nothing else answers for it.
fn virtual_hosts(section: &Section<'_>, all: &[Section<'_>]) -> wire::VirtualHosts {
    let mut found: BTreeMap<&str, Vec<Ranked>> = BTreeMap::from([(section.host(), Vec::new())]);
    for route in &section.routes {
        for host in route.hosts.iter().filter(|host| owns(section, all, host)) {
            found.entry(host).or_default().extend(route.made.http.iter().cloned());
        }
    }
    let host = |(host, routes): (&str, Vec<Ranked>)| wire::VirtualHost {
        host: host.to_owned(),
        routes: attached::sorted(routes),
        https_redirect: false,
    };
    wire::VirtualHosts { hosts: found.into_iter().map(host).collect() }
}

/// The names in handshakes of a section with their routes; the handshake is refused for a name without any.
fn connections(section: &Section<'_>, all: &[Section<'_>]) -> BTreeMap<String, Vec<wire::TcpRoute>> {
    let mut found: BTreeMap<String, Vec<wire::TcpRoute>> = BTreeMap::new();
    for route in &section.routes {
        for host in route.hosts.iter().filter(|host| owns(section, all, host)) {
            // The host is the name; what the route says of names has been asked already.
            let routes = route.made.tcp.iter().map(|one| wire::TcpRoute { server_names: Vec::new(), ..one.clone() });
            found.entry(host.clone()).or_default().extend(routes);
        }
    }
    found
}
