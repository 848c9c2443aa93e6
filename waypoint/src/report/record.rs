//! What an access record is made of.
//!
//! In: facts of a request, kept by the count of references where they are long. Out: the same, for the writer's thread.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, uri::PathAndQuery};
use jiff::Timestamp;
use smallvec::SmallVec;

use super::party::Party;

/// Values of headers, by their numbers in the format.
pub(super) type Kept = SmallVec<[Option<HeaderValue>; 4]>;

/// Who calls: what all requests of one connection have in common.
#[derive(Debug)]
pub struct Client {
    /// Who it is, in labels.
    pub party: Arc<Party>,
    /// The other end of the connection itself.
    pub hop: SocketAddr,
    /// Our own identity, `spiffe://…`.
    pub own_identity: Option<Arc<str>>,
    /// What the ClientHello named.
    pub server_name: Option<Arc<str>>,
    /// `TLSv1.3` …
    pub tls_version: Option<&'static str>,
    /// Whether mutual TLS keeps the connection from strangers.
    pub is_mutual: bool,
}

/// The request line and the headers that the record shows.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) authority: Option<HeaderValue>,
    pub(super) scheme: &'static str,
    pub(super) version: Version,
    pub(super) headers: Kept,
}

/// Where a request was sent.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The endpoint.
    pub host: Option<SocketAddr>,
    /// Our end of the connection to it.
    pub local: Option<SocketAddr>,
    /// The cluster's name, as the reference writes it.
    pub cluster: String,
    /// What was spoken.
    pub version: Option<Version>,
    /// Attempts made.
    pub attempts: u32,
}

/// One request.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) client: Arc<Client>,
    pub(super) hostname: Arc<str>,
    pub(super) start: Timestamp,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    /// Nothing for a connection that is not looked into, or a request that was refused before it was read.
    pub(super) line: Option<Line>,
    pub(super) response: Kept,
    pub(super) trailers: Kept,
    pub(super) status: u16,
    pub(super) grpc_status: Option<u32>,
    pub(super) flags: SmallVec<[&'static str; 2]>,
    pub(super) details: Cow<'static, str>,
    pub(super) termination: Option<Box<str>>,
    pub(super) transport_failure: Option<Arc<str>>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) duration: Duration,
    pub(super) request_took: Option<Duration>,
    pub(super) answered_after: Option<Duration>,
    pub(super) upstream: Option<Upstream>,
    pub(super) route: Option<Arc<str>>,
}

/// The values of `names`; of several values of one header the first.
pub(super) fn kept(names: &[HeaderName], headers: &HeaderMap) -> Kept {
    names.iter().map(|name| headers.get(name).cloned()).collect()
}
