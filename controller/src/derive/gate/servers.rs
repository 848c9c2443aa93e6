//! Doors of the mesh's own kind Gateway, with the virtual services bound to it.
//!
//! In: the Gateways that select a proxy, the oldest first, each with the virtual services that name it. Out: doors, what
//! they need of Secrets, and what of each cannot work. Virtual services for one host find themselves in one list, the
//! oldest first, and what takes everything last.

use std::collections::{BTreeMap, BTreeSet};

use lateen_cluster::{
    api::{Server, ServerTls},
    store::Key,
};
use lateen_wire::proxy::{self as wire, listener::Kind, path_match, terminate, tls_host};

use super::{
    Door, Secrets, hosts,
    judge::{self, Spoken},
    server_tls,
    taken::Taken,
};
use crate::{
    derive::{
        credential::Wanted,
        route::{self, Asker, At},
    },
    facts::{Servers, VirtualService},
};

/// A Gateway that selects the proxy.
pub struct Selecting<'a> {
    /// Its place.
    pub key: &'a Key,
    /// It.
    pub servers: &'a Servers,
    /// The virtual services that name it and that the proxy sees, the oldest first.
    pub bound: Vec<(&'a Key, &'a VirtualService)>,
}

/// Who listens.
#[derive(Clone, Copy)]
pub struct Listening<'a> {
    /// The Gateway whose pods do.
    pub gateway: &'a Key,
    /// Looks at what routes name; its place and port are set here.
    pub asker: Asker<'a>,
    /// Looks at Secrets.
    pub secrets: &'a dyn Secrets,
}

/// What was made.
#[derive(Debug, Default)]
pub struct Made {
    /// The doors.
    pub doors: Vec<Door>,
    /// Servers that are not listened on, whose hosts are theirs all the same: nothing laxer answers for them.
    pub closed: Vec<Door>,
    /// What they need.
    pub wanted: Vec<Wanted>,
    /// What cannot work of each Gateway.
    pub problems: BTreeMap<Key, Vec<String>>,
}

/// The doors of all that select a proxy, beside what is `taken`.
pub fn doors(listening: Listening<'_>, all: &[Selecting<'_>], mut taken: Taken) -> Made {
    let mut made = Made::default();
    for selecting in all {
        for (at, server) in selecting.servers.spec.servers.iter().enumerate() {
            let one = One { listening, selecting, server };
            match one.kind(&mut made.wanted) {
                Ok((mut kind, mut problems)) => {
                    match taken.take(server.port.number, &mut kind) {
                        Ok(more) => {
                            problems.extend(more);
                            made.doors.push(Door { port: server.port.number, kind });
                        }
                        Err(why) => problems.push(why),
                    }
                    made.add(selecting.key, at, problems);
                }
                Err(why) => {
                    if let Some(mut closed) = one.closed() {
                        // What an older server has stays open.
                        let _taken_already = taken.take(closed.port, &mut closed.kind);
                        made.closed.push(closed);
                    }
                    made.add(selecting.key, at, vec![why]);
                }
            }
        }
    }
    // Virtual services of several Gateways meet at one host.
    let joined = super::merge(std::mem::take(&mut made.doors), Vec::new()).into_iter();
    made.doors = joined.filter_map(|one| Some(Door { port: u16::try_from(one.port).ok()?, kind: one.kind? })).collect();
    for door in &mut made.doors {
        if let Kind::Http(hosts) = &mut door.kind {
            hosts.hosts.iter_mut().for_each(|host| host.routes.sort_by_key(is_catch_all));
        }
    }
    made
}

impl Made {
    fn add(&mut self, key: &Key, at: usize, problems: Vec<String>) {
        if !problems.is_empty() {
            let problems = problems.into_iter().map(|why| format!("spec.servers[{at}]: {why}"));
            self.problems.entry(key.clone()).or_default().extend(problems);
        }
    }
}

/// Whether a route takes every request.
pub fn is_catch_all(route: &wire::HttpRoute) -> bool {
    let Some(asked) = &route.r#match else { return true };
    let is_any = match asked.path.as_ref().and_then(|path| path.kind.as_ref()) {
        None => true,
        Some(path_match::Kind::Prefix(text) | path_match::Kind::ElementPrefix(text)) => text == "/",
        Some(path_match::Kind::Regex(text)) => text == ".*",
        Some(path_match::Kind::Exact(_)) => false,
    };
    is_any && wire::HttpMatch { path: None, ..asked.clone() } == wire::HttpMatch::default()
}

/// A virtual service for a host that it and a server are for.
struct Meeting<'a> {
    key: &'a Key,
    service: &'a VirtualService,
    host: String,
}

/// One server of one Gateway.
struct One<'a> {
    listening: Listening<'a>,
    selecting: &'a Selecting<'a>,
    server: &'a Server,
}

const PLAIN: [&str; 4] = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB"];
const BYTES: [&str; 4] = ["TCP", "MONGO", "MYSQL", "REDIS"];

/// Whether nothing of it takes TLS.
fn is_redirect_only(tls: &ServerTls) -> bool {
    ServerTls { https_redirect: false, ..tls.clone() } == ServerTls::default()
}

impl One<'_> {
    fn kind(&self, wanted: &mut Vec<Wanted>) -> Result<(Kind, Vec<String>), String> {
        if !self.server.bind.is_empty() {
            let why = "bind is not supported: a gateway listens on every address of its pod; remove it";
            return Err(why.to_owned());
        }
        if judge::OWN.contains(&self.server.port.number) || self.server.port.number == 0 {
            return Err(format!("port {} is the proxy's own; choose another", self.server.port.number));
        }
        let protocol = self.server.port.protocol.to_ascii_uppercase();
        match (protocol.as_str(), &self.server.tls) {
            (plain, Some(tls)) if (PLAIN.contains(&plain) || BYTES.contains(&plain)) && !is_redirect_only(tls) => {
                Err(format!("{plain} is spoken without TLS; remove tls, or use protocol HTTPS or TLS"))
            }
            (plain, tls) if PLAIN.contains(&plain) => {
                let redirects = tls.as_ref().is_some_and(|tls| tls.https_redirect);
                let (hosts, problems) = self.virtual_hosts(None, redirects);
                Ok((Kind::Http(wire::VirtualHosts { hosts }), problems))
            }
            (bytes, _) if BYTES.contains(&bytes) => {
                let (routes, problems) = self.connections(None);
                Ok((Kind::Tcp(wire::TcpRoutes { routes }), problems))
            }
            ("HTTPS" | "TLS", Some(tls)) => self.tls(tls, protocol == "HTTPS", wanted),
            ("HTTPS" | "TLS", None) => Err(format!("{protocol} is spoken with a certificate; add tls")),
            (other, _) => Err(format!("protocol {other:?} is not served; use HTTP, HTTPS, TLS or TCP")),
        }
    }

    /// Its hosts, where it has any and cannot be listened on.
    fn closed(&self) -> Option<Door> {
        let protocol = self.server.port.protocol.to_ascii_uppercase();
        let spoken = match protocol.as_str() {
            plain if PLAIN.contains(&plain) => Spoken::Http,
            "HTTPS" | "TLS" => Spoken::Https,
            _ => return None,
        };
        let hosts = self.hosts();
        super::closed(self.server.port.number, spoken, &hosts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn tls(&self, tls: &ServerTls, is_http: bool, wanted: &mut Vec<Wanted>) -> Result<(Kind, Vec<String>), String> {
        match tls.mode.as_deref() {
            None | Some("PASSTHROUGH") => {
                let (hosts, problems) = self.passed();
                return Ok((Kind::Tls(wire::TlsHosts { hosts }), problems));
            }
            Some("AUTO_PASSTHROUGH") => {
                return Err("tls.mode AUTO_PASSTHROUGH is not supported; write the names in tls routes".to_owned());
            }
            Some(_) => {}
        }
        let ended = server_tls::derive(self.listening.gateway, tls, self.listening.secrets)?;
        wanted.extend(ended.wanted);
        let mut problems = ended.problems;
        let mut all = Vec::new();
        for host in self.hosts() {
            let (then, more) = if is_http {
                let (hosts, more) = self.virtual_hosts(Some(&host), false);
                (terminate::Then::Http(wire::VirtualHosts { hosts }), more)
            } else {
                let (routes, more) = self.connections(Some(&host));
                (terminate::Then::Tcp(wire::TcpRoutes { routes }), more)
            };
            problems.extend(more.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>());
            let then = tls_host::Then::Terminate(wire::Terminate { then: Some(then), ..ended.terms.clone() });
            all.push(wire::TlsHost { host, then: Some(then) });
        }
        Ok((Kind::Tls(wire::TlsHosts { hosts: all }), problems))
    }

    /// The hosts of the server, without the namespaces they are for; each once, whichever namespaces they are for.
    fn hosts(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.server.hosts.iter().map(|written| host_of(written)).collect();
        all.into_iter().collect()
    }

    /// The virtual services with the hosts that they and the server, or one host of it, are for.
    fn meeting(&self, only: Option<&str>) -> Vec<Meeting<'_>> {
        let mesh = self.listening.asker.mesh;
        let mut found: Vec<Meeting<'_>> = Vec::new();
        for (key, service) in &self.selecting.bound {
            for written in service.spec.hosts.iter() {
                let own = mesh.fqdn(written, &key.namespace);
                let of_server = self.server.hosts.iter().filter(|host| {
                    lets(host, &key.namespace, &self.selecting.key.namespace)
                        && only.is_none_or(|only| only == host_of(host))
                });
                for host in of_server.filter_map(|host| hosts::intersection(&host_of(host), &own)) {
                    if !found.iter().any(|known| known.key == *key && known.host == host) {
                        found.push(Meeting { key, service, host });
                    }
                }
            }
        }
        found
    }

    fn place(&self) -> String {
        self.selecting.key.to_string()
    }

    fn virtual_hosts(&self, only: Option<&str>, redirects: bool) -> (Vec<wire::VirtualHost>, Vec<String>) {
        let (mut all, mut problems): (BTreeMap<String, Vec<wire::HttpRoute>>, _) = (BTreeMap::new(), Vec::new());
        let place = self.place();
        let asker = Asker { at: At::Gateway(&place), port: self.server.port.number, ..self.listening.asker };
        for Meeting { key, service, host } in self.meeting(only) {
            let made = route::http(asker, key, service);
            problems.extend(made.problems.into_iter().map(|why| format!("VirtualService {key}: {why}")));
            all.entry(host).or_default().extend(made.routes);
        }
        let own = only.map_or_else(|| self.hosts(), |only| vec![only.to_owned()]);
        own.into_iter().for_each(|host| _ = all.entry(host).or_default());
        let host = |(host, mut routes): (String, Vec<wire::HttpRoute>)| {
            routes.sort_by_key(is_catch_all);
            wire::VirtualHost { host, routes, https_redirect: redirects }
        };
        (all.into_iter().map(host).collect(), problems)
    }

    fn connections(&self, only: Option<&str>) -> (Vec<wire::TcpRoute>, Vec<String>) {
        let (mut routes, mut problems, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        let place = self.place();
        let asker = Asker { at: At::Gateway(&place), port: self.server.port.number, ..self.listening.asker };
        for Meeting { key, service, .. } in self.meeting(only) {
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let made = route::tcp(asker, key, service);
            problems.extend(made.problems.into_iter().map(|why| format!("VirtualService {key}: {why}")));
            routes.extend(made.routes);
        }
        (routes, problems)
    }

    /// TLS that does not end here: by the names that routes and the server share.
    fn passed(&self) -> (Vec<wire::TlsHost>, Vec<String>) {
        let (mut all, mut problems): (BTreeMap<String, Vec<wire::TcpRoute>>, _) = (BTreeMap::new(), Vec::new());
        let place = self.place();
        let asker = Asker { at: At::Gateway(&place), port: self.server.port.number, ..self.listening.asker };
        for Meeting { key, service, host } in self.meeting(None) {
            let made = route::tls(asker, key, service, None);
            problems.extend(made.problems.into_iter().map(|why| format!("VirtualService {key}: {why}")));
            for route in made.routes {
                let names = route.server_names.iter().filter_map(|name| hosts::intersection(name, &host));
                for name in names.collect::<Vec<_>>() {
                    let route = wire::TcpRoute { server_names: Vec::new(), ..route.clone() };
                    all.entry(name).or_default().push(route);
                }
            }
        }
        let host = |(host, routes): (String, Vec<wire::TcpRoute>)| wire::TlsHost {
            host,
            then: Some(tls_host::Then::Passthrough(wire::TcpRoutes { routes })),
        };
        (all.into_iter().map(host).collect(), problems)
    }
}

/// Names know no cases.
fn host_of(written: &str) -> String {
    written.split_once('/').map_or(written, |(_, host)| host).to_ascii_lowercase()
}

/// Whether a server's host lets virtual services of `namespace` be bound to it.
fn lets(written: &str, namespace: &str, own: &str) -> bool {
    match written.split_once('/').map(|(space, _)| space) {
        None | Some("*") => true,
        Some(".") => namespace == own,
        Some(space) => space == namespace,
    }
}
