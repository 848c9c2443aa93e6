//! What is known of one request, from its first phase to its end.
//!
//! In: a request, the connection it came on. Out: what each phase asks. The one place where what a phase found is kept for
//! those after it. Absent on purpose: waiting.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{self, HOST},
    uri::PathAndQuery,
};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use lateen_state::world::World;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    control::{self, Sender},
    judge::{self, Judged},
    local::Local,
};
use crate::{
    arrival::{Caller, Target},
    book::{
        Book, HttpRoute, Upstream, View,
        proxy::{Hosted, Options, ProxyBook, Role},
    },
    filter::redirect::{Asked as Redirected, Redirect},
    http::{
        body::Flow,
        normalize::{self, Cleaned, PathRules, client::InFront, headers::Told, outside::Outside},
        serve::{Active, Connection},
    },
    pick,
    report::{self, Opening, Report},
    told,
    upstream::endpoint::Endpoint,
};

static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// One request.
pub struct Context {
    /// The connection it came on.
    pub on: Arc<Connection>,
    /// What we do, as of its beginning.
    pub book: Arc<Book>,
    /// What holds for all requests.
    pub proxy: Arc<ProxyBook>,
    /// When its head had come.
    pub began: Instant,
    /// The same, as a clock shows it.
    pub start: Timestamp,
    /// Its method.
    pub method: Method,
    /// What was spoken.
    pub version: Version,
    /// Whether errors are told in gRPC's way.
    pub is_grpc: bool,
    /// Its body.
    pub flow: Arc<Flow>,
    /// The client as trusted proxies in front name it.
    pub remote: IpAddr,
    /// Its route, once there is one.
    pub route: Option<Arc<HttpRoute>>,
    /// Throws of dice that must fall the same way whenever they are looked at.
    pub dice: u64,
    /// What the client asks of timeouts and retries.
    pub control: Option<Box<control::Asked>>,
    /// What policy was asked of, where it may be asked again: of an upgrade.
    pub judged: Option<Box<Judged>>,
    /// The origin of a welcome caller.
    pub origin: Option<HeaderValue>,
    /// What the record says of the answer.
    pub flags: SmallVec<[&'static str; 2]>,
    /// How the answer came to be.
    pub details: Cow<'static, str>,
    /// Why the transport to the endpoint failed.
    pub transport_failure: Option<Arc<str>>,
    /// Where it was sent.
    pub sent: Option<SentTo>,
    /// What the response's edits may ask for.
    pub head: Head,
    /// What the client is told, so that it comes back to its endpoint.
    pub told: Option<pick::Told>,
    /// Whom there is, as of its beginning.
    pub world: Arc<World>,
    /// What is told of it.
    pub report: Report,
    active: Active,
}

/// Where a request was sent.
#[derive(Debug, Clone)]
pub struct SentTo {
    /// The cluster.
    pub upstream: Arc<Upstream>,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Attempts made.
    pub attempts: u32,
    /// From the attempt's beginning to the response's head.
    pub took: std::time::Duration,
}

/// The head of the request, as it was when it was routed.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The target.
    pub uri: Uri,
    /// The headers, where somebody will ask for them.
    pub headers: HeaderMap,
}

impl Context {
    /// A request begins. Boxed from the start: it goes with the request from hand to hand, and is large.
    pub fn open(on: &Arc<Connection>, request: &Request<Incoming>) -> Option<Box<Self>> {
        let book = on.lane.shared.book.load();
        let proxy = book.proxy()?.clone();
        let caller = &on.arrival.caller;
        let remote = remote(&proxy, caller, request.headers());
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let (began, start) = (Instant::now(), Timestamp::now());
        let opening = Opening {
            reporter: told::reporter(proxy.role),
            client: &on.client,
            format: proxy.options.access_log.as_ref(),
            began,
            start,
            is_grpc,
        };
        let mut report = Report::open(&on.lane.shared.reporting, &opening);
        report.meant(on.service.as_ref());
        let flow = Arc::<Flow>::default();
        if request.version() != Version::HTTP_2 {
            on.receives((!request.body().is_end_stream()).then_some(&flow));
        }
        Some(Box::new(Self {
            on: on.clone(),
            proxy,
            book,
            began,
            start,
            method: request.method().clone(),
            version: request.version(),
            is_grpc,
            flow,
            remote,
            route: None,
            dice: rand::random(),
            control: None,
            judged: None,
            origin: None,
            flags: SmallVec::new(),
            details: Cow::Borrowed("via_upstream"),
            transport_failure: None,
            sent: None,
            head: Head::default(),
            told: None,
            world: on.lane.shared.world.load(),
            report,
            active: on.enter(),
        }))
    }

    /// The options of the proxy.
    pub fn options(&self) -> &Options {
        &self.proxy.options
    }

    /// Whether the connection has to end with this answer.
    pub fn ends_connection(&self) -> bool {
        self.on.is_ending() || self.is_elsewhere()
    }

    /// Whether what is called is no longer served here, so that its clients are to call it anew.
    fn is_elsewhere(&self) -> bool {
        matches!(&self.on.arrival.target, Target::Service { key, .. } if self.book.is_parting(key))
    }

    /// Whether the client speaks HTTP/1.
    pub fn is_http1(&self) -> bool {
        self.version != Version::HTTP_2
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.on.arrival.caller
    }

    /// `http` or `https`, as the client's connection has it. Inside a tunnel it is what the client speaks to the service.
    pub fn scheme(&self) -> &'static str {
        match &self.on.arrival.target {
            Target::Port { tls: Some(_), .. } => "https",
            Target::Port { tls: None, .. } | Target::Service { .. } | Target::Workload { .. } => "http",
        }
    }

    /// Makes what the request says unambiguous.
    pub fn normalise(&self, request: &mut Request<Incoming>) -> Result<(), Local> {
        let options = self.options();
        let bad = |details: String| Local::error(StatusCode::BAD_REQUEST, None, details, "");
        normalize::drop_underscores(request.headers_mut(), options.underscores).map_err(|why| bad(why.to_string()))?;
        let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        match normalize::clean_path(target, &PathRules::of(options)).map_err(|why| bad(why.to_string()))? {
            Cleaned::Same => {}
            Cleaned::Changed(path) => {
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.path_and_query = Some(path.try_into().map_err(|_| bad("path_normalization_failed".to_owned()))?);
                *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad("path_normalization_failed".to_owned()))?;
            }
            Cleaned::Redirect(path) => {
                return Err(Local::moved(StatusCode::TEMPORARY_REDIRECT, &path, "path_normalization_redirect"));
            }
        }
        let caller = self.caller();
        if self.is_gateway() {
            let outside = Outside {
                peer: caller.client.ip(),
                remote: self.remote,
                scheme: self.scheme(),
                trusted_proxies: options.trusted_proxies,
                certificate: caller.tls.as_ref().and_then(|tls| tls.certificate.as_ref()),
            };
            normalize::from_outside(request.headers_mut(), &outside);
            return Ok(());
        }
        let identity = caller.peer.as_ref();
        let told =
            options.xfcc_client_identity.then(|| Told { by: &self.on.lane.shared.own.identity, client: identity });
        normalize::forwarded_client(request.headers_mut(), told);
        let scheme = HeaderValue::from_static(self.scheme());
        request.headers_mut().entry(&FORWARDED_PROTO).or_insert(scheme);
        Ok(())
    }

    /// The route; a workload that is called itself has none.
    pub fn select(&self, request: &Request<Incoming>) -> Result<Option<Arc<HttpRoute>>, Local> {
        let authority = authority(request);
        let view = View {
            method: request.method().as_str(),
            path: request.uri().path(),
            query: request.uri().query(),
            authority,
            scheme: self.scheme(),
            headers: request.headers(),
        };
        let found = match &self.on.arrival.target {
            Target::Service { key, port, .. } => {
                let service = self.book.service(key).filter(|service| service.accepts_host(authority));
                let client = self.caller().peer.as_ref().map(|peer| peer.namespace().as_str());
                let port = service.and_then(|service| service.port(*port));
                port.and_then(|port| port.routes_of(client).select(&view))
            }
            Target::Port { bind, tls, .. } => {
                let listener = self.proxy.listener(*bind).ok_or_else(Local::no_route)?;
                let ended = self.caller().tls.as_deref();
                let shaken = ended.map(|ended| &*ended.terms);
                let host = match listener.hosted(tls.as_deref().zip(shaken), authority) {
                    Hosted::Here(host) if ended.is_none_or(|ended| ended.proof.holds(&self.book)) => host,
                    Hosted::Here(_) | Hosted::Anew => {
                        self.on.end();
                        return Err(Local::misdirected());
                    }
                    Hosted::Elsewhere => return Err(Local::misdirected()),
                    Hosted::Nowhere => return Err(Local::no_route()),
                };
                // Settled by `normalise`: what a trusted proxy in front says, or what we see ourselves.
                let was_plain = request.headers().get(&FORWARDED_PROTO).is_none_or(|scheme| scheme != "https");
                if host.https_redirect && was_plain {
                    return Err(Local::redirect(&Redirect::to_https(), &self.asked(request)));
                }
                host.routes.select(&view)
            }
            Target::Workload { .. } => return Ok(None),
        };
        found.cloned().map(Some).ok_or_else(Local::no_route)
    }

    /// Whether policy lets it pass.
    pub fn authorise(&self, request: &Request<Incoming>) -> Result<(), Local> {
        let verdict = judge::verdict(&self.book, &self.on.arrival, (self.remote, self.scheme()), request);
        report::judged(&verdict);
        match verdict.refusal() {
            None => Ok(()),
            Some(refusal) => Err(Local::denied(refusal.to_string())),
        }
    }

    /// Keeps what policy was asked of.
    pub fn keep_judged(&mut self, request: &Request<Incoming>) {
        self.judged = Some(Box::new(Judged::of(&self.on, (self.remote, self.scheme()), request)));
    }

    /// Who sent the request's headers. What comes in at a gateway comes from anywhere.
    pub fn sender(&self) -> Sender {
        match self.proxy.role {
            Role::Waypoint if self.caller().peer.is_some() => Sender::Mesh,
            Role::Waypoint | Role::Gateway => Sender::Outside,
        }
    }

    /// What the client dialled.
    pub fn destination(&self) -> SocketAddr {
        self.on.arrival.destination()
    }

    /// What a redirect asks.
    pub fn asked<'r>(&self, request: &'r Request<Incoming>) -> Redirected<'r> {
        Redirected {
            scheme: self.scheme(),
            authority: authority(request),
            path: request.uri().path(),
            query: request.uri().query(),
            port: self.on.arrival.target.port(),
        }
    }

    /// Whether this proxy is a gateway.
    pub fn is_gateway(&self) -> bool {
        self.proxy.role == Role::Gateway
    }

    /// The request counts as under way as long as this is held.
    pub fn into_active(self) -> Active {
        self.active
    }
}

/// The settled authority (see `hop::settle_authority`); bytes that are no text match nothing.
pub fn authority<B>(request: &Request<B>) -> &str {
    request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn remote(proxy: &ProxyBook, caller: &Caller, headers: &HeaderMap) -> IpAddr {
    let in_front = match proxy.role {
        Role::Gateway => InFront::Proxies(proxy.options.trusted_proxies),
        Role::Waypoint => InFront::Mesh,
    };
    normalize::remote_address(headers, caller.client.ip(), in_front)
}
