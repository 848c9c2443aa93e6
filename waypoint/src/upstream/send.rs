//! One attempt: a connection to the endpoint, the request on it, the head of the response.
//!
//! In: an endpoint, a request whose headers are ready. Out: the response's head with the lease its body needs, or one
//! [`Failure`], with the request where nobody has seen it. Absent on purpose: choosing endpoints, trying again, and any
//! deadline but that of connecting.

use std::{error::Error as _, net::SocketAddr, sync::Arc};

use http::{
    HeaderValue, Request, Response, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::body::Incoming;
use lateen_types::id::SpiffeId;

use super::{
    connection::{Driver, Speak},
    dial::{self, DialError, For, To},
    endpoint::Endpoint,
    failure::Failure,
    pool::{AcquireError, Ask, ClusterPool, Fresh, Held, Lease, Permit},
    terms::{ConnectionKey, Terms, Whom},
};
use crate::{
    book::{Cluster, cluster::Keepalive},
    http::body::RequestBody,
    lane::Lane,
};

/// Where and for whom.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// Our thread.
    pub lane: &'a Arc<Lane>,
    /// The cluster.
    pub cluster: &'a Arc<Cluster>,
    /// Its state.
    pub pool: &'a Arc<ClusterPool>,
    /// The endpoint chosen.
    pub endpoint: &'a Endpoint,
    /// What is spoken to it.
    pub speak: Speak,
    /// The client.
    pub client: SocketAddr,
    /// What it dialled.
    pub dialled: SocketAddr,
    /// Who it has proven to be.
    pub identity: Option<&'a SpiffeId>,
}

/// A response that has begun.
#[derive(Debug)]
pub struct Sent {
    /// Its head, and the body that follows.
    pub response: Response<Incoming>,
    /// The connection it comes on.
    pub lease: Lease,
}

/// An attempt that failed.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub why: Failure,
    /// The request, where not a byte of it was sent.
    pub unsent: Option<Request<RequestBody>>,
}

impl From<Failure> for Failed {
    fn from(why: Failure) -> Self {
        Self { why, unsent: None }
    }
}

/// Connections that turn out to be closing, in a row, before it is called a failure.
const STALE_MAX: usize = 8;

impl Attempt<'_> {
    /// Sends `request`. On connections that were closing before they took it, it is sent again on another.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Sent, Failed> {
        let terms = match self.terms(request.headers().get(HOST)).await {
            Ok(terms) => terms,
            Err(why) => return Err(Failed { why, unsent: Some(request) }),
        };
        let scheme =
            if terms.as_ref().is_some_and(|terms| terms.seal.is_some()) { Scheme::HTTPS } else { Scheme::HTTP };
        let mut request = shape(request, self.speak, scheme)?;
        for _ in 0..STALE_MAX {
            let mut lease = match self.acquire(terms.clone()).await {
                Ok(lease) => lease,
                Err(error) => return Err(Failed { why: failure_of(error), unsent: Some(request) }),
            };
            match begin(&mut lease, request).await {
                Ok(response) => return Ok(Sent { response, lease }),
                Err(Begun::Unsent(unsent)) => request = *unsent,
                Err(Begun::Failed(why)) => return Err(why.into()),
            }
        }
        Err(Failed { why: Failure::Termination { before_request: true }, unsent: Some(request) })
    }

    async fn terms(&self, host: Option<&HeaderValue>) -> Result<Option<Arc<Terms>>, Failure> {
        let policy = &self.cluster.policy;
        if policy.tunnel.is_some() {
            // To send all the same would send past the proxy that is meant to be on the way.
            return Err(Failure::Unready(NO_TUNNEL.into()));
        }
        let is_told = self.endpoint.workload.as_ref().is_some_and(|workload| workload.believes_waypoint);
        if policy.tls.is_none() && policy.proxy_protocol.is_none() && !is_told {
            return Ok(None);
        }
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let host = authority.as_ref().map_or("", Authority::host);
        let (client, dialled, identity) = (self.client, self.dialled, self.identity);
        let whom = Whom { endpoint: self.endpoint, host, client, dialled, identity };
        Terms::within(&self.lane.shared, self.cluster, whom).await
    }

    async fn acquire(&self, terms: Option<Arc<Terms>>) -> Result<Lease, AcquireError> {
        let ask = Ask {
            lane: self.lane.number,
            key: ConnectionKey { endpoint: self.endpoint.key.clone(), terms: terms.clone() },
            speak: self.speak,
            cluster: self.cluster.clone(),
        };
        self.pool.acquire(ask, |permit| self.open(permit, terms.clone())).await
    }

    async fn open(&self, permit: Permit, terms: Option<Arc<Terms>>) -> Result<Fresh, DialError> {
        let limits = &self.cluster.policy.pool;
        let by = For {
            client: self.client,
            timeout: limits.connect_timeout,
            keepalive: limits.keepalive.as_ref().map(keepalive),
        };
        let to = To { endpoint: self.endpoint, terms: terms.as_deref(), speak: Some(self.speak) };
        let wire = dial::wire(self.lane, to, &by).await?;
        let driver = Driver { lane: self.lane.number, tasks: self.lane.tasks.clone(), drain: self.lane.drain.clone() };
        match self.speak {
            Speak::Http1 => Ok(Fresh::One(driver.one(wire, permit, self.keeps_case()).await?)),
            Speak::Http2 => Ok(Fresh::Many(driver.many(wire, permit, limits).await?)),
        }
    }

    /// Whether the names of an answer's headers are handed on as the endpoint writes them.
    fn keeps_case(&self) -> bool {
        self.lane.shared.book.peek().proxy().is_some_and(|proxy| proxy.options.preserve_header_case)
    }
}

/// What is said to requests of a policy that is for opaque connections.
const NO_TUNNEL: &str = "the destination's CONNECT tunnel carries TCP and TLS routes, not requests";

/// The kernel's numbers where the configuration has none.
pub fn keepalive(of: &Keepalive) -> lateen_net::options::Keepalive {
    let default = lateen_net::options::Keepalive::default();
    lateen_net::options::Keepalive {
        idle: of.time.unwrap_or(default.idle),
        interval: of.interval.unwrap_or(default.interval),
        probes: of.probes.unwrap_or(default.probes),
        user_timeout: None,
    }
}

fn failure_of(error: AcquireError) -> Failure {
    match error {
        AcquireError::Overflow => Failure::Overflow,
        AcquireError::Dial(error) => error.into(),
    }
}

/// How a request begins that gets no response.
enum Begun {
    Unsent(Box<Request<RequestBody>>),
    Failed(Failure),
}

async fn begin(lease: &mut Lease, request: Request<RequestBody>) -> Result<Response<Incoming>, Begun> {
    let (sent, reused) = match lease.held() {
        Some(Held::One(one)) => {
            let reused = one.begin();
            (one.sender.try_send_request(request).await, reused)
        }
        Some(Held::Many(stream)) => {
            let (mut sender, reused) = stream.begin();
            (sender.try_send_request(request).await, reused)
        }
        None => return Err(Begun::Unsent(Box::new(request))),
    };
    sent.map_err(|mut error| match error.take_message() {
        Some(unsent) => Begun::Unsent(Box::new(unsent)),
        None => Begun::Failed(read(&error.into_error(), reused)),
    })
}

/// What hyper says, in our words.
fn read(error: &hyper::Error, reused: bool) -> Failure {
    let of_h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    if let Some(h2) = of_h2 {
        return read_h2(h2);
    }
    if error.is_user() {
        return Failure::Downstream;
    }
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return Failure::Protocol(error.to_string().into());
    }
    tracing::debug!(%error, reused, "an endpoint closed the connection before it answered");
    Failure::Termination { before_request: false }
}

/// RFC 9113 §6.8 and §8.7: what lies beyond GOAWAY's last stream, and a refused stream, were not processed.
fn read_h2(error: &h2::Error) -> Failure {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR));
    if refused {
        return Failure::Reset { refused };
    }
    if error.is_reset() && error.is_remote() {
        return Failure::Reset { refused: false };
    }
    if error.is_io() || error.is_go_away() {
        return Failure::Termination { before_request: false };
    }
    Failure::Protocol(error.to_string().into())
}

/// The request as the protocol wants it: HTTP/1 has a path and a `Host`, HTTP/2 has them as pseudo-headers.
fn shape(mut request: Request<RequestBody>, speak: Speak, scheme: Scheme) -> Result<Request<RequestBody>, Failure> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    match speak {
        Speak::Http1 => {
            *request.version_mut() = Version::HTTP_11;
            *request.uri_mut() = Uri::from(path);
        }
        Speak::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            let bad = || Failure::Protocol("the host cannot stand in a request".into());
            let host = request.headers_mut().remove(HOST).ok_or_else(bad)?;
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(scheme);
            parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| bad())?);
            parts.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad())?;
        }
    }
    Ok(request)
}
