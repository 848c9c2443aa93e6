//! What concerns one connection only is taken off before a message goes on (RFC 9110 §7.6.1).
//!
//! In: headers as received. Out: headers that may be forwarded, and what they asked of this connection. Absent on purpose:
//! framing, which hyper makes anew.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const WEBSOCKET: &str = "websocket";

/// Options a `Connection` header may not name, because others decide by them; they are left where they are.
const NOT_NOMINABLE: [&str; 12] = [
    "host",
    "content-length",
    "content-type",
    "authorization",
    "cookie",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-client-cert",
    "x-request-id",
    "cache-control",
];

/// What a request asks of the connection it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// It wants to become a WebSocket.
    pub websocket: bool,
    /// The body is announced, not sent.
    pub expects_continue: bool,
}

/// Takes off what is for us alone.
pub fn clean_request<B>(request: &mut Request<B>) -> Asked {
    let is_h2 = request.version() == Version::HTTP_2;
    let extended = request.extensions().get::<hyper::ext::Protocol>().is_some_and(|one| one.as_str() == WEBSOCKET);
    let by_connect = extended && request.method() == Method::CONNECT;
    if by_connect {
        // RFC 8441 §5: whatever is asked of it, by routes and policies too, is asked of the GET that HTTP/1 would have.
        *request.method_mut() = Method::GET;
    }
    let headers = request.headers_mut();
    let wants_trailers = headers.get_all(TE).iter().any(|value| names(value).any(is_trailers));
    let upgrade = !is_h2 && is_websocket(headers);
    take_off(headers);
    headers.remove(&HTTP2_SETTINGS);
    if wants_trailers {
        headers.insert(TE, TRAILERS);
    } else {
        headers.remove(TE);
        headers.remove(TRAILER);
    }
    if upgrade {
        announce_websocket(headers);
    }
    join_cookies(headers);
    say_length_once(headers);
    let expects = headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Asked { websocket: upgrade || by_connect, expects_continue: expects }
}

/// Takes off what is for us alone. A 101 keeps what makes it one.
pub fn clean_response<B>(response: &mut Response<B>) {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS && is_websocket(response.headers());
    let headers = response.headers_mut();
    take_off(headers);
    headers.remove(PROXY_AUTHENTICATE);
    if switches {
        announce_websocket(headers);
    }
}

fn announce_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

fn take_off(headers: &mut HeaderMap) {
    // Most messages have none of these, and then nothing is copied.
    while let Some(nominated) = nominated(headers) {
        headers.remove(&nominated);
        if nominated == CONNECTION {
            break;
        }
    }
    for name in [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION, &UPGRADE, &TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// A header that is there and that `Connection` names, or `Connection` itself when no other is left.
fn nominated(headers: &HeaderMap) -> Option<HeaderName> {
    let mut all = headers.get_all(CONNECTION).iter().peekable();
    all.peek()?;
    // The two that nearly all messages have name no other header.
    let mut named =
        all.flat_map(names).filter(|name| !["close", "keep-alive"].iter().any(|one| name.eq_ignore_ascii_case(one)));
    let found = named.find_map(|name| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let may = !NOT_NOMINABLE.contains(&name.as_str()) && name != TE && name != TRAILER && name != CONNECTION;
        (may && headers.contains_key(&name)).then_some(name)
    });
    Some(found.unwrap_or(CONNECTION))
}

fn names(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn is_trailers(coding: &str) -> bool {
    coding.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("trailers"))
}

/// The only upgrade that is passed on: of `h2c` above all the endpoint must not hear (it would end our sight of what
/// follows).
fn is_websocket(headers: &HeaderMap) -> bool {
    let asks = headers.get_all(CONNECTION).iter().flat_map(names).any(|name| name.eq_ignore_ascii_case("upgrade"));
    let mut protocols = headers.get_all(UPGRADE).iter().flat_map(names);
    asks && protocols.next().is_some_and(|one| one.eq_ignore_ascii_case(WEBSOCKET)) && protocols.next().is_none()
}

/// HTTP/2 may split a cookie at its semicolons; applications of HTTP/1 want one header (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// hyper and h2 refuse lengths that differ. The same one said twice must be one for whoever reads only the first, or the last.
fn say_length_once(headers: &mut HeaderMap) {
    let mut all = headers.get_all(CONTENT_LENGTH).iter();
    if let (Some(length), Some(_)) = (all.next(), all.next()) {
        let length = length.clone();
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Why a request is refused before anything looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// RFC 9112 §3.2: exactly one, in HTTP/1.1.
    #[error("missing_host_header")]
    NoHost,
    /// Two names for one request: who decides by which?
    #[error("conflicting_host_headers")]
    Hosts,
    /// HTTP/1.0.
    #[error("low_version")]
    LowVersion,
    /// A target that is neither a path, nor a URI of HTTP, nor `*`.
    #[error("invalid_path")]
    Target,
}

impl Malformed {
    /// How it is answered.
    pub fn status(self) -> StatusCode {
        match self {
            Self::LowVersion => StatusCode::UPGRADE_REQUIRED,
            Self::NoHost | Self::Hosts | Self::Target => StatusCode::BAD_REQUEST,
        }
    }
}

/// The one authority of a request, which is put into its `Host` header: what is matched, judged and sent.
pub fn settle_authority<B>(request: &mut Request<B>, serves_http10: bool) -> Result<(), Malformed> {
    let version = request.version();
    if version < Version::HTTP_11 && !serves_http10 {
        return Err(Malformed::LowVersion);
    }
    match request.uri().scheme_str() {
        Some("http" | "https" | "ws" | "wss") => {}
        Some(_) => return Err(Malformed::Target),
        // RFC 9112 §3.2.3: a host alone is asked for by CONNECT only.
        None if request.uri().authority().is_some() && request.method() != Method::CONNECT => {
            return Err(Malformed::Target);
        }
        None => {}
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Malformed::Hosts);
    }
    let host = match (request.uri().authority(), first) {
        (Some(authority), Some(host)) if version == Version::HTTP_2 => {
            let same = authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes());
            return if same { check(host) } else { Err(Malformed::Hosts) };
        }
        // RFC 9112 §3.2.2: of an absolute form the target's own authority counts.
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| Malformed::Target)?,
        (None, Some(host)) if !host.is_empty() => return check(host),
        (None, _) if version < Version::HTTP_11 => HeaderValue::from_static("default"),
        (None, _) => return Err(Malformed::NoHost),
    };
    check(&host)?;
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// A host and perhaps a port (RFC 3986 §3.2), and no user, path, or list: what is routed and judged by one reading must not be
/// something else to the endpoint.
fn check(host: &HeaderValue) -> Result<(), Malformed> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    if host.as_bytes().iter().all(is_part) { Ok(()) } else { Err(Malformed::Target) }
}

/// Whether an answer says in two ways how long it is (RFC 9112 §6.3): its client may read by the other one.
pub fn is_ambiguous<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}

/// Whether an endpoint agrees to what was asked of it: a WebSocket, if anything.
pub fn agrees<B>(response: &Response<B>) -> bool {
    is_websocket(response.headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri("/x");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("valid")
    }

    fn cleaned(headers: &[(&str, &str)]) -> (Vec<String>, Asked) {
        let mut request = request(headers);
        let asked = clean_request(&mut request);
        let left = request.headers().iter();
        let left = left.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        (left, asked)
    }

    #[test]
    fn what_concerns_one_connection_does_not_pass() {
        for (given, expected) in [
            (&[("connection", "close"), ("a", "1")][..], &["a: 1"][..]),
            (&[("connection", "keep-alive, x-a"), ("x-a", "1"), ("keep-alive", "timeout=5")], &[]),
            (&[("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2"), ("c", "3")], &["c: 3"]),
            // To nominate what others decide by is an attack; the header stays.
            (&[("connection", "host, authorization"), ("authorization", "b")], &["authorization: b"]),
            (&[("transfer-encoding", "chunked"), ("proxy-connection", "x")], &[]),
            (&[("te", "trailers, deflate"), ("trailer", "t")], &["te: trailers", "trailer: t"]),
            (&[("te", "gzip"), ("trailer", "t")], &[]),
            (&[("upgrade", "h2c"), ("connection", "upgrade, http2-settings"), ("http2-settings", "x")], &[]),
            (&[("cookie", "a=1"), ("cookie", "b=2")], &["cookie: a=1; b=2"]),
            (&[("content-length", "3"), ("content-length", "3")], &["content-length: 3"]),
        ] {
            let (left, asked) = cleaned(given);
            assert_eq!(left, expected, "{given:?}");
            assert!(!asked.websocket, "{given:?}");
        }
    }

    #[test]
    fn a_websocket_passes_and_nothing_that_looks_like_one() {
        let (left, asked) = cleaned(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]);
        assert!(asked.websocket);
        assert_eq!(left, ["connection: Upgrade", "upgrade: websocket"]);
        for upgrade in ["websocket, h2c", "h2c", "tls/1.0"] {
            let (left, asked) = cleaned(&[("connection", "upgrade"), ("upgrade", upgrade)]);
            assert!(!asked.websocket && left.is_empty(), "{upgrade}");
        }
        let (_, asked) = cleaned(&[("upgrade", "websocket")]);
        assert!(!asked.websocket, "the connection was not told");
    }

    #[test]
    fn a_request_has_one_authority() {
        let settle = |uri: &str, version: Version, hosts: &[&str]| {
            let mut builder = Request::builder().uri(uri).version(version);
            for host in hosts {
                builder = builder.header(HOST, *host);
            }
            let mut request = builder.body(()).expect("valid");
            settle_authority(&mut request, false).map(|()| request.headers()[HOST].to_str().expect("text").to_owned())
        };
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(settle("/", h1, &["a:80"]).as_deref(), Ok("a:80"));
        assert_eq!(settle("http://b/", h1, &["a"]).as_deref(), Ok("b"));
        assert_eq!(settle("http://b/", h2, &[]).as_deref(), Ok("b"));
        assert_eq!(settle("http://b/", h2, &["B"]).as_deref(), Ok("B"));
        assert_eq!(settle("http://b/", h2, &["a"]), Err(Malformed::Hosts));
        assert_eq!(settle("/", h1, &["a", "a"]), Err(Malformed::Hosts));
        assert_eq!(settle("/", h1, &[]), Err(Malformed::NoHost));
        assert_eq!(settle("/", h1, &[""]), Err(Malformed::NoHost));
        assert_eq!(settle("ftp://b/", h1, &["b"]), Err(Malformed::Target));
        assert_eq!(settle("http://u@b/", h1, &["b"]), Err(Malformed::Target));
        assert_eq!(settle("b", h1, &["b"]), Err(Malformed::Target), "only CONNECT asks so");
        for host in ["a/b", "u@a", "a b", "a,b", "a?b", "a#b", "a\\b", "<a>"] {
            assert_eq!(settle("/", h1, &[host]), Err(Malformed::Target), "{host}");
        }
        for host in ["a_b.example", "[fd00::1]:80", "a.", "xn--a:8080", "*", "10.0.0.1"] {
            assert_eq!(settle("/", h1, &[host]).as_deref(), Ok(host));
        }
        assert_eq!(settle("/", Version::HTTP_10, &["a"]), Err(Malformed::LowVersion));
    }
}
