//! The proxy itself: what it listens on and what holds for all its requests.
//!
//! In: what `compile` made of a resource. Out: listeners with their hosts and routes, options. Absent on purpose: sockets.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use lateen_types::name::{NamespacedHostname, WorkloadUid};

use super::tcp::TcpRoutes;
use crate::{
    report::format::Format,
    route::{HostMap, RouteTable},
};

/// One waypoint or gateway.
#[derive(Debug)]
pub struct ProxyBook {
    /// Its namespace.
    pub namespace: Box<str>,
    /// The name of its Gateway.
    pub name: Box<str>,
    /// What it is.
    pub role: Role,
    /// What holds for all requests.
    pub options: Options,
    /// Ports of a gateway; a waypoint has none.
    pub listeners: Box<[Arc<Listener>]>,
    /// The services a waypoint serves.
    pub services: HashSet<NamespacedHostname>,
    /// Names of the policies that hold for every request.
    pub policies: Box<[Arc<str>]>,
    /// Whether it serves traffic addressed to services.
    pub serves_services: bool,
    /// Whether it serves traffic addressed to workloads.
    pub serves_workloads: bool,
    /// The workloads whose waypoint it is.
    pub workloads: HashSet<WorkloadUid>,
}

/// What a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves services or workloads through tunnels.
    Waypoint,
    /// Serves the outside on ports of its own.
    Gateway,
}

/// What holds for all requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What is done to paths before anything looks at them.
    pub path_normalization: PathNormalization,
    /// What the `server` header says; `None`: what the upstream says.
    pub server_name: Option<Arc<str>>,
    /// Whether x-forwarded-client-cert names the client.
    pub xfcc_client_identity: bool,
    /// How many proxies in front are trusted.
    pub trusted_proxies: u32,
    /// Whether PROXY protocol is read and demanded.
    pub proxy_protocol: bool,
    /// How long to look at the first bytes; `None`: for ever.
    pub protocol_detection_timeout: Option<Duration>,
    /// How long nothing may pass of a request or its answer; `None`: for ever.
    pub stream_idle_timeout: Option<Duration>,
    /// Until a request has arrived whole; `None`: for ever.
    pub request_timeout: Option<Duration>,
    /// Whether HTTP/1.0 is served.
    pub http10: bool,
    /// Whether a mirrored request's host gets "-shadow".
    pub mirror_shadow_suffix: bool,
    /// Whether names of HTTP/1 headers keep their case.
    pub preserve_header_case: bool,
    /// Whether `x-envoy-…` headers of answers are left out.
    pub suppress_debug_headers: bool,
    /// How requests are recorded; `None`: not at all.
    pub access_log: Option<Arc<Format>>,
    /// Of connections whose cluster does not say.
    pub connect_timeout: Duration,
    /// Whether `//` becomes `/`.
    pub merge_slashes: bool,
    /// What is done with %2F and %5C.
    pub escaped_slashes: EscapedSlashes,
    /// What is done with headers whose name has an underscore.
    pub underscores: Underscores,
    /// Labels of the proxy's own pods.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// How paths are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathNormalization {
    /// RFC 3986 (dot segments), the default.
    Base,
    /// Not at all.
    None,
    /// Base, and `//` becomes `/`.
    MergeSlashes,
    /// Escaped slashes are decoded, then as `MergeSlashes`.
    DecodeAndMergeSlashes,
}

/// What is done with %2F and %5C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// They stay.
    Keep,
    /// 400.
    Reject,
    /// The client is sent to the path without.
    UnescapeAndRedirect,
    /// They are decoded.
    UnescapeAndForward,
}

/// What is done with headers whose name has an underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    /// They pass.
    Allow,
    /// 400.
    Reject,
    /// They are dropped.
    Drop,
}

/// One port of a gateway.
#[derive(Debug)]
pub struct Listener {
    /// What the proxy binds.
    pub bind_port: u16,
    /// What clients call it.
    pub port: u16,
    /// What is spoken there.
    pub kind: ListenerKind,
}

/// Who serves a request.
#[derive(Debug, Clone, Copy)]
pub enum Hosted<'b> {
    /// These routes.
    Here(&'b VirtualHost),
    /// Another TLS host of the port: the client must ask it, for it may know clients in another way (RFC 9110 §15.5.20).
    Elsewhere,
    /// The host that was named when hands were shaken, which has come to ask something else of its clients since: they must
    /// shake hands again.
    Anew,
    /// Nobody.
    Nowhere,
}

impl ProxyBook {
    /// What is served on a port we are bound to.
    pub fn listener(&self, bind: u16) -> Option<&Listener> {
        self.listeners.iter().map(|listener| &**listener).find(|listener| listener.bind_port == bind)
    }
}

impl Listener {
    /// Who serves requests for `authority`. `ended` is the server name whose TLS ended here, empty where none was named, and
    /// how hands were shaken; `None` where none ended. A host that has come to ask something else of its clients since must
    /// be asked on another connection.
    pub fn hosted(&self, ended: Option<(&str, &Terms)>, authority: &str) -> Hosted<'_> {
        let hosts = match (&self.kind, ended) {
            (ListenerKind::Http(hosts), None) => hosts,
            (ListenerKind::Tls(names), Some((ended, shaken))) => {
                let (named, meant) = (names.find(ended), names.find(authority));
                let TlsHost::Terminate(terminate) = (match (named, meant) {
                    (Some(named), Some(meant)) if std::ptr::eq(named, meant) => named,
                    (Some(_), Some(_)) => return Hosted::Elsewhere,
                    (Some(_) | None, None) | (None, Some(_)) => return Hosted::Nowhere,
                }) else {
                    return Hosted::Nowhere;
                };
                if !terminate.terms.admits_as(shaken) {
                    return Hosted::Anew;
                }
                match &terminate.then {
                    Inside::Http(hosts) => hosts,
                    Inside::Tcp(_) => return Hosted::Nowhere,
                }
            }
            (ListenerKind::Http(_) | ListenerKind::Tls(_) | ListenerKind::Tcp(_), _) => return Hosted::Nowhere,
        };
        hosts.find(authority).map_or(Hosted::Nowhere, Hosted::Here)
    }

    /// Where bytes go: those inside TLS that ended here for `ended`, or those that are passed on, by `server_name` where they
    /// are TLS.
    pub fn bytes(&self, ended: Option<&str>, server_name: Option<&str>) -> Option<&TcpRoutes> {
        match (&self.kind, ended) {
            (ListenerKind::Tcp(routes), None) => Some(routes),
            (ListenerKind::Tls(names), Some(ended)) => match names.find(ended)? {
                TlsHost::Terminate(terminate) => match &terminate.then {
                    Inside::Tcp(routes) => Some(routes),
                    Inside::Http(_) => None,
                },
                TlsHost::Passthrough(_) => None,
            },
            (ListenerKind::Tls(names), None) => match names.find(server_name.unwrap_or_default())? {
                TlsHost::Passthrough(routes) => Some(routes),
                TlsHost::Terminate(_) => None,
            },
            (ListenerKind::Http(_) | ListenerKind::Tcp(_), _) => None,
        }
    }
}

/// What is spoken on a port.
#[derive(Debug)]
pub enum ListenerKind {
    /// HTTP without TLS.
    Http(HostMap<VirtualHost>),
    /// TLS by server name; no host for a name: the connection is closed before hands are shaken.
    Tls(HostMap<TlsHost>),
    /// Bytes.
    Tcp(TcpRoutes),
}

/// The routes of one host.
#[derive(Debug)]
pub struct VirtualHost {
    /// In order.
    pub routes: RouteTable,
    /// Every request is sent to https with 301.
    pub https_redirect: bool,
}

/// What is done with TLS for one server name.
#[derive(Debug)]
pub enum TlsHost {
    /// It ends here.
    Terminate(Box<Terminate>),
    /// It is passed on by server name.
    Passthrough(TcpRoutes),
}

/// TLS that ends here.
#[derive(Debug)]
pub struct Terminate {
    /// How hands are shaken.
    pub terms: Arc<Terms>,
    /// What is inside.
    pub then: Inside,
}

/// How hands are shaken with clients.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Names of credentials, the first whose key the client can use. One that is missing: refuse the handshake.
    pub credentials: Box<[Arc<str>]>,
    /// Whether clients show certificates.
    pub client_certificate: ClientCertificate,
    /// The credential whose CA verifies clients; `None`: that of the first credential.
    pub client_ca: Option<Arc<str>>,
    /// One of these must be in a client's certificate; none: any.
    pub client_subject_alt_names: Box<[Box<str>]>,
    /// Keys of which a client must have one; both kinds of pins empty: any.
    pub client_key_pins: Box<[Pin]>,
    /// Certificates; see `client_key_pins`.
    pub client_certificate_pins: Box<[Pin]>,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The newest version.
    pub max_version: TlsVersion,
    /// Empty: the library's default.
    pub cipher_suites: Box<[Box<str>]>,
    /// Whether requests are inside, so that both versions of HTTP are offered.
    pub is_http: bool,
}

impl Terms {
    /// Whether whoever was let in by `other` would be let in by these, as far as it can be told without asking again.
    fn admits_as(&self, other: &Self) -> bool {
        if std::ptr::eq(self, other) {
            return true;
        }
        let asked = |of: &Self| (of.client_certificate, of.min_version, of.max_version);
        asked(self) == asked(other)
            && self.client_ca == other.client_ca
            && self.client_subject_alt_names == other.client_subject_alt_names
            && self.client_key_pins == other.client_key_pins
            && self.client_certificate_pins == other.client_certificate_pins
    }
}

/// The SHA-256 of what a client must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Nobody has this: nothing is known whose digest is all zeros.
    pub const NOBODY: Self = Self([0; 32]);

    /// Of a digest's bytes, all 32 of them.
    pub fn new(digest: &[u8]) -> Option<Self> {
        digest.try_into().ok().map(Self)
    }

    /// Whether this is the digest.
    pub fn is(&self, digest: &[u8]) -> bool {
        *self != Self::NOBODY && self.0[..] == *digest
    }
}

/// What is inside TLS that ends here.
#[derive(Debug)]
pub enum Inside {
    /// Requests.
    Http(HostMap<VirtualHost>),
    /// Bytes.
    Tcp(TcpRoutes),
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientCertificate {
    /// They are not asked.
    Ignored,
    /// They must.
    Required,
    /// They may; a bad one is refused.
    Optional,
    /// They may; one who has none or a bad one has no identity.
    OptionalUnverified,
    /// They must, of the mesh's.
    Mesh,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// The default.
    Auto,
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}
