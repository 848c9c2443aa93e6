//! What a CONNECT says: the authority and the headers, as sent and as received.
//!
//! In: values to send, or a request's head. Out: the other of the two. Bytes from peers never panic.
//! Absent on purpose: what the receiver does with it.

use std::{fmt, io::Write as _, net::SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header::FORWARDED};
use lateen_types::{
    id::SpiffeId,
    name::{Hostname, NetworkId},
};

mod authority;
mod baggage;
mod forwarded;
mod on_behalf;
mod traceparent;

pub use authority::{Authority, BadAuthority};
pub use baggage::{BAGGAGE, Baggage, WorkloadKind};
pub use forwarded::Forwarded;
pub use on_behalf::{CLIENT_IDENTITY, OnBehalf};
pub use traceparent::TraceParent;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static FORWARDED_NETWORK: HeaderName = HeaderName::from_static("x-forwarded-network");

/// A CONNECT to send.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Where to.
    pub authority: Authority,
    /// Who the source is, from [`Baggage::to_header`]; the same for every connection of a workload.
    pub baggage: Option<HeaderValue>,
    /// Whom it is for.
    pub forwarded: Forwarded,
    /// Ties the records of both ends together.
    pub traceparent: TraceParent,
    /// Our network; only inside a tunnel through a gateway.
    pub network: Option<NetworkId>,
    /// Whom a waypoint calls for; only to workloads that ask for it.
    pub client: Option<SpiffeId>,
}

impl Connect {
    /// The request as HTTP sends it. `None` if the authority cannot stand in a request, as a host with spaces.
    pub fn to_http(&self) -> Option<Request<()>> {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::try_from(Word::of(&self.authority)?.bytes()).ok()?;
        let headers = request.headers_mut();
        headers.reserve(HEADERS + usize::from(self.client.is_some()));
        if let Some(baggage) = &self.baggage {
            headers.insert(&BAGGAGE, baggage.clone());
        }
        headers.insert(FORWARDED, Word::of(&self.forwarded)?.header()?);
        headers.insert(&TRACEPARENT, Word::of(&self.traceparent)?.header()?);
        if let Some(network) = &self.network {
            headers.insert(&FORWARDED_NETWORK, HeaderValue::try_from(network.as_str()).ok()?);
        }
        if let Some(client) = &self.client {
            headers.insert(&CLIENT_IDENTITY, Word::of(client)?.header()?);
        }
        Some(request)
    }
}

/// Headers of a CONNECT that is for its caller itself.
const HEADERS: usize = 4;

/// A word of a request, made on the stack: the request keeps a copy of just its length, so that nothing grows on the
/// way there.
struct Word {
    bytes: [u8; WORD_MAX],
    length: usize,
}

/// Twice a host name and more.
const WORD_MAX: usize = 640;

impl Word {
    /// `None` if it is longer than any that is valid.
    fn of(word: &impl fmt::Display) -> Option<Self> {
        let mut bytes = [0; WORD_MAX];
        let mut rest = bytes.as_mut_slice();
        write!(rest, "{word}").ok()?;
        let length = WORD_MAX - rest.len();
        Some(Self { bytes, length })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.bytes()).ok()
    }
}

/// A CONNECT as it arrived. All headers are optional: not every peer sends them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Where to.
    pub authority: Authority,
    /// Who the source says it is.
    pub baggage: Baggage,
    /// The service the client meant.
    pub host: Option<Hostname>,
    /// The whole value of `forwarded`, read when somebody asks for the client.
    forwarded: Option<HeaderValue>,
    /// The trace it belongs to.
    pub traceparent: Option<TraceParent>,
    /// The network it came from, when it came through a gateway.
    pub network: Option<NetworkId>,
    /// Whom the source says it calls for.
    pub on_behalf: OnBehalf,
}

/// Why a request is answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Something other than a tunnel is asked for.
    #[error("the method is {0}; only CONNECT is served here")]
    Method(Method),
    /// There is no telling where to.
    #[error(transparent)]
    Authority(#[from] BadAuthority),
}

impl Received {
    /// Reads a request's head.
    pub fn read<B>(request: &Request<B>) -> Result<Self, BadRequest> {
        if request.method() != Method::CONNECT {
            return Err(BadRequest::Method(request.method().clone()));
        }
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        let headers = request.headers();
        Ok(Self {
            authority: authority.parse()?,
            baggage: Baggage::from_headers(headers),
            host: text(headers, &FORWARDED).and_then(Forwarded::host_in),
            forwarded: headers.get(&FORWARDED).cloned(),
            traceparent: text(headers, &TRACEPARENT).and_then(|value| value.parse().ok()),
            network: text(headers, &FORWARDED_NETWORK).map(NetworkId::from),
            on_behalf: OnBehalf::from_headers(headers),
        })
    }

    /// The client's own address, as the peer names it. Nobody has proven it.
    pub fn client(&self) -> Option<SocketAddr> {
        Forwarded::client_in(self.forwarded.as_ref()?.to_str().ok()?)
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    fn sent() -> Connect {
        let baggage = Baggage { namespace: Some("shop".into()), ..Baggage::default() };
        Connect {
            authority: "10.1.2.3:8080".parse().expect("valid"),
            baggage: baggage.to_header(),
            forwarded: Forwarded {
                client: "10.1.0.7:41022".parse().expect("valid"),
                host: Some("cart.shop.svc.cluster.local".into()),
            },
            traceparent: TraceParent::random(),
            network: None,
            client: None,
        }
    }

    #[test]
    fn what_is_sent_is_received() {
        for (network, authority) in
            [(None, "10.1.2.3:8080"), (Some(""), "[ff06::c3]:80"), (Some("n1"), "cart.shop.svc.cluster.local:80")]
        {
            let sent =
                Connect { network: network.map(Into::into), authority: authority.parse().expect("valid"), ..sent() };
            let request = sent.to_http().expect("valid");
            assert_eq!((request.uri().scheme(), request.uri().path_and_query()), (None, None));
            let received = Received::read(&request).expect("valid");
            assert_eq!(received.authority, sent.authority);
            assert_eq!(received.baggage.namespace.as_deref(), Some("shop"));
            assert_eq!(received.host, sent.forwarded.host);
            assert_eq!(received.client(), Some(sent.forwarded.client));
            assert_eq!(received.traceparent, Some(sent.traceparent));
            assert_eq!(received.network, sent.network);
            assert_eq!(received.on_behalf, OnBehalf::Itself);
        }
    }

    #[test]
    fn whom_it_is_for_is_sent_last() {
        let client: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().expect("valid");
        let request = Connect { client: Some(client.clone()), ..sent() }.to_http().expect("valid");
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["baggage", "forwarded", "traceparent", "x-lateen-client-identity"]);
        assert_eq!(Received::read(&request).expect("valid").on_behalf, OnBehalf::Client(client));
    }

    #[test]
    fn the_longest_names_are_sent_and_longer_ones_refused() {
        let of = |length: usize| -> Hostname { "a".repeat(length).into() };
        let forwarded = |host| Forwarded { client: "[ff06::c3]:65535".parse().expect("valid"), host: Some(host) };
        let longest = Connect {
            authority: Authority::Host { name: of(253), port: 65535 },
            forwarded: forwarded(of(253)),
            ..sent()
        };
        let received = Received::read(&longest.to_http().expect("valid")).expect("valid");
        assert_eq!((received.authority, received.host), (longest.authority, Some(of(253))));
        assert!(Connect { forwarded: forwarded(of(WORD_MAX)), ..sent() }.to_http().is_none());
        let spaces = Authority::Host { name: "a b".into(), port: 1 };
        assert!(Connect { authority: spaces, ..sent() }.to_http().is_none());
    }

    #[test]
    fn headers_keep_their_order() {
        let request = Connect { network: Some("n1".into()), ..sent() }.to_http().expect("valid");
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["baggage", "forwarded", "traceparent", "x-forwarded-network"]);
    }

    #[test]
    fn only_connect_with_an_authority_is_read() {
        let get = Request::get("http://10.0.0.1:80/").body(()).expect("valid");
        assert_eq!(Received::read(&get), Err(BadRequest::Method(Method::GET)));
        let bare = Request::connect("10.0.0.1").body(()).expect("valid");
        assert!(matches!(Received::read(&bare), Err(BadRequest::Authority(_))));
    }

    /// Reads whatever a peer may put into the headers, many times over.
    #[test]
    fn no_header_makes_it_panic() {
        let mut random = StdRng::seed_from_u64(7);
        let pieces: &[&[u8]] = &[
            b"k8s.",
            b"namespace.name=",
            b"k8s.pod.name=a",
            b",",
            b"=",
            b";",
            b"\"",
            b"host=",
            b"for=",
            b"00-",
            b"[::1]",
            b":80",
            b"\xff\xc3\xa9",
            b"  ",
            b"4bf92f3577b34da6a3ce929d0e0e4736",
            b"service.version=",
            b"spiffe://td/ns/a/sa/b",
        ];
        let headers =
            [BAGGAGE.clone(), FORWARDED, TRACEPARENT.clone(), FORWARDED_NETWORK.clone(), CLIENT_IDENTITY.clone()];
        for _ in 0..20_000 {
            let mut request = Request::connect("a:1").body(()).expect("valid");
            for name in &headers {
                let mut value = Vec::new();
                for _ in 0..random.random_range(0..6) {
                    value.extend_from_slice(pieces[random.random_range(0..pieces.len())]);
                }
                request.headers_mut().append(name, HeaderValue::from_bytes(&value).expect("no control characters"));
            }
            Received::read(&request).expect("headers never make a request invalid");
        }
    }
}
