use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    cors::{Caller, Cors},
    fault::{MILLION, Share},
    format::{Facts, Format, FormatError, RequestLine},
    headers::{Edit, HeaderEdits, Side, Value},
    mirror::{Mirror, chosen, shadow},
    redirect::{Asked, Redirect, RedirectPort},
    rewrite::{PathRewrite, RegexRewrite},
    session::{Carrier, Sealer, Session, cookie},
};
use crate::{
    book::tests::upstream,
    route::{Comparison, StringMatch},
};

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
    }
    map
}

/// A redirect to the request itself, and a request to it.
fn plain() -> Redirect {
    Redirect { status: StatusCode::FOUND, scheme: None, authority: None, port: RedirectPort::Keep, path: None }
}

fn location(redirect: &Redirect, authority: &str, port: u16) -> String {
    redirect.location(&Asked { scheme: "http", authority, path: "/path", query: None, port })
}

/// Vector 9 of l7-routing.
#[test]
fn vector_9_another_host_brings_no_port() {
    let redirect = Redirect { authority: Some("x".into()), ..plain() };
    assert_eq!(location(&redirect, "a:8080", 8080), "http://x/path");
}

/// Vector 10 of l7-routing, and the tests of the reference that 2.5 and 3.3 name.
#[test]
fn vector_10_ports_of_locations() {
    let https = Redirect { scheme: Some("https".into()), ..plain() };
    let of = |port: RedirectPort| Redirect { port, ..plain() };
    let cases = [
        (Redirect { port: RedirectPort::OfScheme, ..https.clone() }, "host:8080", 8080, "https://host/path"),
        (of(RedirectPort::OfListener), "host", 8080, "http://host:8080/path"),
        (of(RedirectPort::OfListener), "host:8080", 8080, "http://host:8080/path"),
        (of(RedirectPort::OfListener), "b:80", 80, "http://b:80/path"),
        (of(RedirectPort::OfListener), "b", 80, "http://b/path"),
        (of(RedirectPort::OfListener), "b", 85, "http://b:85/path"),
        (of(RedirectPort::OfListener), "b:80", 85, "http://b:85/path"),
        (of(RedirectPort::Keep), "b:8080", 8080, "http://b:8080/path"),
        (https.clone(), "b:80", 80, "https://b/path"),
        (https.clone(), "b:8080", 8080, "https://b:8080/path"),
        (of(RedirectPort::Exactly(80)), "b:8080", 8080, "http://b/path"),
        (of(RedirectPort::Exactly(8443)), "b:8080", 8080, "http://b:8443/path"),
        (Redirect { port: RedirectPort::Exactly(443), ..https }, "[::1]:80", 80, "https://[::1]/path"),
        (Redirect::to_https(), "b:80", 80, "https://b/path"),
    ];
    for (redirect, authority, port, expected) in cases {
        assert_eq!(location(&redirect, authority, port), expected, "{redirect:?} of {authority} at {port}");
    }
}

#[test]
fn the_query_stays_unless_the_path_brings_one() {
    let asked = Asked { scheme: "http", authority: "a", path: "/foo/baz", query: Some("q=1"), port: 80 };
    let with = |path: PathRewrite| Redirect { path: Some(path), ..plain() }.location(&asked);
    assert_eq!(with(PathRewrite::Full("/new".into())), "http://a/new?q=1");
    assert_eq!(with(PathRewrite::Full("/new?own".into())), "http://a/new?own");
    let trap = PathRewrite::Prefix { matched: "/foo".into(), to: "/".into() };
    assert_eq!(with(trap), "http://a//baz?q=1", "the documented trap");
}

/// Vector 18 of l7-routing.
#[test]
fn vector_18_a_prefix_is_text() {
    let rewrite =
        |matched: &str, path: &str| PathRewrite::Prefix { matched: matched.into(), to: "/".into() }.path(path);
    assert_eq!(rewrite("/v1/", "/v1/x").as_deref(), Some("/x"));
    assert_eq!(rewrite("/v1", "/v1/x").as_deref(), Some("//x"));
    assert_eq!(rewrite("/V1", "/v1/x").as_deref(), Some("//x"), "matched without minding case");
    assert_eq!(rewrite("/v2", "/v1/x"), None);
    assert_eq!(rewrite("/v1/é", "/v1/x"), None);
}

/// The table of 3.3.
#[test]
fn elements_are_replaced_whole() {
    let rewrite = |to: &str, path: &str| PathRewrite::Elements { matched: "/foo".into(), to: to.into() }.path(path);
    for to in ["/xyz", "/xyz/"] {
        let paths = ["/foo/bar", "/foo", "/foo/"].map(|path| rewrite(to, path).expect("rewritten"));
        assert_eq!(paths, ["/xyz/bar", "/xyz", "/xyz/"], "{to}");
    }
    for to in ["", "/"] {
        let paths = ["/foo/bar", "/foo", "/foo/"].map(|path| rewrite(to, path).expect("rewritten"));
        assert_eq!(paths, ["/bar", "/", "/"], "{to}");
    }
    assert_eq!(rewrite("/xyz", "/foobar"), None);
}

#[test]
fn every_match_of_a_regex_is_replaced() {
    let rewrite = |pattern: &str, to: &str, path: &str| {
        let regex = RegexRewrite::new(pattern, to).expect("a rewrite");
        PathRewrite::Regex(Box::new(regex)).path(path)
    };
    assert_eq!(
        rewrite("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api").as_deref(),
        Some("/v1/api/instance/foo")
    );
    assert_eq!(rewrite("one", "two", "/xxx/one/yyy/one/zzz").as_deref(), Some("/xxx/two/yyy/two/zzz"));
    assert_eq!(rewrite("(?i)/xxx/", r"/\\\0", "/a/XxX/b").as_deref(), Some(r"/a/\/XxX/b"));
    for (pattern, to) in [("(", "x"), ("(a)", r"\2"), ("a", r"\x"), ("a", "\\")] {
        assert!(RegexRewrite::new(pattern, to).is_err(), "{pattern} {to}");
    }
}

fn made(text: &str) -> Value {
    Value::Made(Format::compile(text).expect("a format"))
}

fn edit(name: &'static str, value: Value) -> Edit {
    Edit { name: HeaderName::from_static(name), value }
}

#[test]
fn headers_are_removed_then_set_then_added() {
    let fixed = |text: &'static str| Value::Fixed(HeaderValue::from_static(text));
    let edits = HeaderEdits {
        remove: Box::new([HeaderName::from_static("x-gone"), HeaderName::from_static("x-again")]),
        set: Box::new([edit("x-set", fixed("new"))]),
        add: Box::new([edit("x-again", fixed("back")), edit("x-more", fixed("two"))]),
    };
    let mut headers =
        map(&[("x-gone", "1"), ("x-gone", "2"), ("x-again", "old"), ("x-set", "a"), ("x-set", "b"), ("x-more", "one")]);
    edits.apply(&mut headers, Side::Request, RequestLine::default(), &Facts::default());
    assert_eq!(headers, map(&[("x-again", "back"), ("x-set", "new"), ("x-more", "one"), ("x-more", "two")]));
}

#[test]
fn values_hold_facts() {
    let facts = Facts {
        start: Some("2026-11-22T02:03:04.567Z".parse().expect("a time")),
        protocol: "HTTP/2",
        client: Some("10.1.2.3:555".parse().expect("an address")),
        query: Some("k=v"),
        route: Some("route"),
        ..Facts::default()
    };
    let line = RequestLine { method: "GET", path: "/a?k=v", authority: "web", scheme: "http" };
    let cases = [
        ("%REQ(x-one)%", "1"),
        ("a%%b %REQ(X-None?X-One)% %REQ(:METHOD)% %REQ(:path)%", "a%b 1 GET /a?k=v"),
        ("%REQ(x-long):3%.", "abc."),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.1.2.3:555 10.1.2.3"),
        ("%START_TIME%", "2026-11-22T02:03:04.567Z"),
        ("%START_TIME(%Y/%m/%d %H)%|%PROTOCOL%", "2026/11/22 02|HTTP/2"),
        ("%QUERY_PARAM(k)% %ROUTE_NAME%", "v route"),
        ("[%UPSTREAM_HOST%%RESP(x)%%RESPONSE_CODE%]", "[]"),
    ];
    for (text, expected) in cases {
        let edits = HeaderEdits { set: Box::new([edit("x-out", made(text))]), ..HeaderEdits::default() };
        let mut headers = map(&[("x-one", "1"), ("x-long", "abcdef")]);
        edits.apply(&mut headers, Side::Request, line, &facts);
        assert_eq!(headers.get("x-out").expect(text), expected, "{text}");
    }
    let edits = HeaderEdits { set: Box::new([edit("x-one", made("%REQ(x-none)%"))]), ..HeaderEdits::default() };
    let mut headers = map(&[("x-one", "1")]);
    edits.apply(&mut headers, Side::Request, line, &facts);
    assert_eq!(headers, map(&[("x-one", "1")]), "nothing to say, nothing set");
    let answer =
        HeaderEdits { set: Box::new([edit("x-out", made("%REQ(x-one)%%RESP(y)%"))]), ..HeaderEdits::default() };
    let (request, mut headers) = (map(&[("x-one", "1")]), map(&[("y", "2")]));
    answer.apply(&mut headers, Side::Answer { request: &request }, line, &facts);
    assert_eq!(headers.get("x-out").expect("set"), "12");
}

#[test]
fn formats_that_make_no_sense_are_refused() {
    let error = |text: &str| Format::compile(text).expect_err(text);
    assert_eq!(error("100%"), FormatError::Open);
    assert_eq!(error("%NOPE%"), FormatError::Unknown("NOPE".into()));
    assert_eq!(error("%REQ%"), FormatError::Unknown("REQ".into()));
    for text in ["%REQ(a b)%", "%REQ(x):y%", "%REQ(:nope)%", "%REQ(x%", "%START_TIME(%!)%", "%REQ(x)y%"] {
        assert!(Format::compile(text).is_err(), "{text}");
    }
    assert_eq!(Format::compile("100%%").expect("a format").literal(), Some("100%"));
    assert_eq!(Format::compile("").expect("a format").literal(), Some(""));
}

fn cors() -> Cors {
    let value = |text: &'static str| Some(HeaderValue::from_static(text));
    Cors {
        origins: Box::new([StringMatch::new(Comparison::Exact("https://a.com".into()), false)]),
        any_origin: false,
        methods: value("GET,POST"),
        headers: value("x-one"),
        exposed: value("x-two"),
        max_age: value("5"),
        credentials: true,
        answers_unmatched_preflights: false,
    }
}

#[test]
fn preflights_and_calls_of_known_origins() {
    let asks = [("access-control-request-method", "PUT"), ("access-control-request-headers", "x-any")];
    let preflight = |origin: &str| map(&[&[("origin", origin)][..], &asks].concat());
    let Caller::Preflight(answer) = cors().caller(&Method::OPTIONS, &preflight("https://a.com")) else {
        panic!("none")
    };
    let expected = map(&[
        ("access-control-allow-origin", "https://a.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-allow-headers", "x-one"),
        ("access-control-max-age", "5"),
        ("access-control-expose-headers", "x-two"),
    ]);
    assert_eq!(answer, expected);
    assert_eq!(cors().caller(&Method::OPTIONS, &preflight("https://b.com")), Caller::Other, "forwarded");
    let answers = Cors { answers_unmatched_preflights: true, ..cors() };
    assert_eq!(answers.caller(&Method::OPTIONS, &preflight("https://b.com")), Caller::Unwelcome);
    assert_eq!(answers.caller(&Method::GET, &preflight("https://b.com")), Caller::Other);
    assert_eq!(cors().caller(&Method::OPTIONS, &map(&[])), Caller::Other);
    let origin = HeaderValue::from_static("https://a.com");
    let only_origin = map(&[("origin", "https://a.com")]);
    assert_eq!(cors().caller(&Method::OPTIONS, &only_origin), Caller::Welcome(origin.clone()), "no preflight");
    let mut answer = map(&[("access-control-allow-origin", "*")]);
    cors().write(&origin, &mut answer);
    let expected = map(&[
        ("access-control-allow-origin", "https://a.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "x-two"),
    ]);
    assert_eq!(answer, expected, "what the upstream said is overwritten");
    let star = Cors { methods: Some(HeaderValue::from_static("*")), headers: None, any_origin: true, ..cors() };
    let Caller::Preflight(answer) = star.caller(&Method::OPTIONS, &preflight("https://b.com")) else { panic!("none") };
    assert_eq!(
        answer.get("access-control-allow-methods").expect("there"),
        "PUT",
        "a star means nothing with credentials"
    );
    assert!(!answer.contains_key("access-control-allow-headers"));
}

/// Vectors 15 and 16 of l7-routing, the dice of them.
#[test]
fn vectors_15_and_16_shares_of_a_million() {
    let hits = |per_million: u32| {
        let share = Share { what: (), per_million };
        (0..u64::from(MILLION)).filter(|dice| share.hits(*dice).is_some()).count()
    };
    assert_eq!([0, 1, 500_000, MILLION].map(hits), [0, 1, 500_000, 1_000_000]);
    let mirror =
        |subset: &str, per_million: u32| Mirror { share: Share { what: (), per_million }, to: upstream(subset).into() };
    let mirrors = [mirror("none", 0), mirror("half", 500_000), mirror("all", MILLION)];
    let mut dice = [5, 600_000, 999_999].into_iter();
    let names: Vec<_> = chosen(&mirrors, || dice.next().expect("three")).map(|to| to.subset.to_string()).collect();
    assert_eq!(names, ["all"]);
    assert_eq!([shadow("foo.com:8080"), shadow("foo.com")], ["foo.com-shadow:8080", "foo.com-shadow"]);
}

#[test]
fn only_our_own_tokens_open() {
    let (sealer, other) = (Sealer::new(&[7; 32]).expect("long"), Sealer::new(&[8; 32]).expect("long"));
    assert!(Sealer::new(&[7; 15]).is_none());
    let now = Duration::from_secs(1_000);
    for address in ["10.0.0.1:80", "[fd00::1]:8080"] {
        let endpoint = address.parse().expect("an address");
        let token = sealer.seal([1; 12], &upstream("v1"), endpoint, Some(Duration::from_secs(1_500)));
        assert!(!token.contains("10.0.0.1"));
        let open = |sealer: &Sealer, token: &str, now| sealer.open(token.as_bytes(), &upstream("v2"), now);
        assert_eq!(open(&sealer, &token, now), Some(endpoint), "subsets share their tokens");
        assert_eq!(open(&sealer, &token, Duration::from_secs(1_501)), None, "it ran out");
        assert_eq!(open(&other, &token, now), None, "another key");
        let mut elsewhere = upstream("v1");
        elsewhere.port = 81;
        assert_eq!(sealer.open(token.as_bytes(), &elsewhere, now), None, "another service");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let opened = sealer.open(&bytes, &upstream("v1"), now);
            assert!(opened.is_none(), "byte {at} changed");
            assert_eq!(sealer.open(&token.as_bytes()[..at], &upstream("v1"), now), None, "cut at {at}");
        }
    }
    assert_eq!(sealer.open(b"10.0.0.1:80", &upstream("v1"), now), None);
    assert_eq!(format!("{sealer:?}"), "Sealer");
}

#[test]
fn tokens_travel_in_cookies_or_headers() {
    let by = |carrier: Carrier, lifetime| Session { carrier, lifetime, key: "key".into() };
    let carrier = Carrier::Cookie { name: "sid".into(), path: "/a".into(), says_lifetime: true };
    let forgotten = Carrier::Cookie { name: "sid".into(), path: "/a".into(), says_lifetime: false };
    let mut answer = HeaderMap::new();
    by(carrier.clone(), Some(Duration::from_secs(60))).write("token", &mut answer);
    by(carrier.clone(), None).write("token", &mut answer);
    by(forgotten, Some(Duration::from_secs(60))).write("token", &mut answer);
    let written: Vec<_> = answer.get_all("set-cookie").iter().collect();
    let short = "sid=\"token\"; Path=/a; HttpOnly";
    assert_eq!(written, ["sid=\"token\"; Max-Age=60; Path=/a; HttpOnly", short, short]);
    let cookies = map(&[("cookie", "a=1; sidx=0; sid=\"to=ken\"; b"), ("cookie", "sid=second")]);
    assert_eq!(by(carrier, None).token(&cookies), Some(&b"to=ken"[..]));
    assert_eq!((cookie(&cookies, "a"), cookie(&cookies, "b"), cookie(&cookies, "c")), (Some(&b"1"[..]), None, None));
    let header = by(Carrier::Header(HeaderName::from_static("x-session")), None);
    let mut answer = HeaderMap::new();
    header.write("token", &mut answer);
    assert_eq!(header.token(&answer), Some(&b"token"[..]));
}
