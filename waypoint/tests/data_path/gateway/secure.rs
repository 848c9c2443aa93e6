//! TLS that ends at the gateway.

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, Version, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_waypoint::book::Kind;
use lateen_wire::proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    rig::{Authority, BIND, Caller, caller, door, ends, listens, plain, put, speaks, take_back, terminate, tls},
    serving,
};
use crate::rig::{Rig, soon};

async fn rig(authority: &Authority, of: Vec<(&str, proxy::tls_host::Then)>) -> Rig {
    let rig = serving(vec![tls(of)], proxy::Options::default()).await;
    for name in ["a.example.com", "b.example.com"] {
        put(&rig, Kind::Credential, &format!("shop/{name}"), &authority.host(name).credential());
    }
    rig
}

fn both() -> Vec<(&'static str, proxy::tls_host::Then)> {
    ["a.example.com", "b.example.com"].map(|name| (name, terminate(ends(&format!("shop/{name}"), &[name])))).into()
}

#[tokio::test]
async fn two_hosts_have_two_certificates() {
    let authority = Authority::new("hosts");
    let rig = rig(&authority, both()).await;
    let at = door(&rig);
    for name in ["a.example.com", "b.example.com"] {
        let answer = caller(&authority).get(at, name, (name, "/x")).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("GET /x\n"), "{answer}");
        assert!(answer.contains("\nx-forwarded-proto: https\n"), "{answer}");
        assert!(!answer.contains("x-forwarded-client-cert"), "{answer}");
    }
}

/// Vector 1.
#[tokio::test]
async fn a_client_that_names_no_host_is_served_only_where_all_are() {
    let authority = Authority::new("hosts");
    let rig = rig(&authority, both()).await;
    let at = door(&rig);
    // A client of an address names no server.
    let refused = caller(&authority).connect(at, "127.0.0.1").await.expect_err("nobody is meant");
    assert!(refused.to_string().contains("handshake eof"), "{refused}");
    let refused = caller(&authority).connect(at, "c.example.com").await.expect_err("no such host");
    assert!(refused.to_string().contains("handshake eof"), "{refused}");
    let mut all = both();
    all.push(("*", terminate(ends("shop/any", &["*"]))));
    let any = authority.sign(vec![
        rcgen::SanType::IpAddress("127.0.0.1".parse().expect("an address")),
        rcgen::SanType::DnsName("c.example.com".try_into().expect("a name")),
    ]);
    put(&rig, Kind::Credential, "shop/any", &any.credential());
    listens(&rig, vec![tls(all)], proxy::Options::default());
    for name in ["127.0.0.1", "c.example.com"] {
        let answer = caller(&authority).get(at, name, (name, "/")).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

/// Vector 6, and a connection that is open meanwhile.
#[tokio::test]
async fn a_credential_that_changes_ends_no_connection() {
    let authority = Authority::new("hosts");
    let rig = rig(&authority, both()).await;
    let at = door(&rig);
    let name = "a.example.com";
    let mut open = caller(&authority).connect(at, name).await.expect("connected");
    let shown = |stream: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>| {
        stream.get_ref().1.peer_certificates().expect("a chain")[0].clone()
    };
    let before = shown(&open);
    let next = authority.host(name);
    put(&rig, Kind::Credential, "shop/a.example.com", &next.credential());
    let fresh = caller(&authority).connect(at, name).await.expect("connected");
    assert_eq!(shown(&fresh), next.der);
    assert_ne!(shown(&fresh), before);
    for _ in 0..2 {
        open.write_all(b"GET /on HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await.expect("write");
        let mut answer = vec![0; 4096];
        let length = soon("the answer", open.read(&mut answer)).await.expect("an answer");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn a_missing_credential_refuses_its_own_host_only() {
    let authority = Authority::new("hosts");
    let rig = rig(&authority, both()).await;
    let at = door(&rig);
    take_back(&rig, Kind::Credential, "shop/a.example.com");
    let refused = caller(&authority).connect(at, "a.example.com").await.expect_err("no credential");
    assert!(refused.to_string().contains("InternalError"), "{refused}");
    let without_key = proxy::Credential { ca_pem: authority.pem(), ..Default::default() };
    put(&rig, Kind::Credential, "shop/a.example.com", &without_key);
    caller(&authority).connect(at, "a.example.com").await.expect_err("no key");
    let answer = caller(&authority).get(at, "b.example.com", ("b.example.com", "/")).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    put(&rig, Kind::Credential, "shop/a.example.com", &authority.host("a.example.com").credential());
    caller(&authority).connect(at, "a.example.com").await.expect("it has come");
}

/// What the connection was made for, what the request asks for, the status.
const MISDIRECTED: [(&str, &str, u16); 9] = [
    ("a.example.com", "a.example.com", 200),
    ("a.example.com", "b.example.com", 421),
    ("a.example.com", "other.example.org", 421),
    ("b.example.com", "a.example.com:8443", 421),
    ("x.wild.example.com", "y.wild.example.com", 200),
    ("x.wild.example.com", "z.wild.example.com", 421),
    ("z.wild.example.com", "x.wild.example.com", 421),
    ("other.example.org", "known.example.org", 200),
    ("other.example.org", "unknown.example.org", 404),
];

#[tokio::test]
async fn a_request_for_another_host_of_the_port_is_misdirected() {
    let authority = Authority::new("hosts");
    let all = vec![
        ("a.example.com", terminate(ends("shop/all", &["a.example.com"]))),
        ("b.example.com", terminate(ends("shop/all", &["b.example.com"]))),
        ("*.wild.example.com", terminate(ends("shop/all", &["*.wild.example.com"]))),
        ("z.wild.example.com", terminate(ends("shop/all", &["z.wild.example.com"]))),
        ("*", terminate(ends("shop/all", &["known.example.org"]))),
    ];
    let rig = rig(&authority, all).await;
    let at = door(&rig);
    let names = ["a.example.com", "b.example.com", "*.wild.example.com", "*.example.org"];
    let names = names.map(|name| rcgen::SanType::DnsName(name.try_into().expect("a name"))).into();
    put(&rig, Kind::Credential, "shop/all", &authority.sign(names).credential());
    for (name, host, status) in MISDIRECTED {
        let answer = caller(&authority).get(at, name, (host, "/")).await.expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host} on {name}: {answer}");
    }
}

#[tokio::test]
async fn clients_choose_the_version_of_http() {
    let authority = Authority::new("hosts");
    let rig = rig(&authority, both()).await;
    let at = door(&rig);
    let name = "a.example.com";
    for (protocols, chosen) in [(&["http/1.1"][..], Some("http/1.1")), (&["http/1.1", "h2"], Some("h2")), (&[], None)] {
        let stream = Caller { protocols, ..caller(&authority) }.connect(at, name).await.expect("connected");
        let agreed = stream.get_ref().1.alpn_protocol().map(|one| String::from_utf8_lossy(one).into_owned());
        assert_eq!(agreed.as_deref(), chosen, "{protocols:?}");
    }
    let two = Caller { protocols: &["h2"], ..caller(&authority) }.connect(at, name).await.expect("connected");
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(two)).await.expect("HTTP/2");
    rig.tasks.spawn("client", async move { drop(connection.await) });
    let mut answered = async |host: &str, status| {
        let request = Request::get(format!("https://{host}/two")).body(Empty::<bytes::Bytes>::new()).expect("valid");
        let response = soon("the answer", sender.send_request(request)).await.expect("an answer");
        assert_eq!((response.version(), response.status()), (Version::HTTP_2, status), "{host}");
        drop(response.into_body().collect().await.expect("the whole body"));
    };
    answered(name, StatusCode::OK).await;
    answered("b.example.com", StatusCode::MISDIRECTED_REQUEST).await;
    // What clients outside speak says nothing of a server that does not say it.
    speaks(&rig, proxy::Protocol::Auto);
    answered(name, StatusCode::OK).await;
}

#[tokio::test]
async fn versions_are_those_that_are_allowed() {
    use proxy::TlsVersion::{Tls12, Tls13, TlsAuto};
    let authority = Authority::new("hosts");
    let rig = rig(&authority, both()).await;
    let at = door(&rig);
    let name = "a.example.com";
    for (min, max, agreed) in [
        (TlsAuto, TlsAuto, Some(rustls::ProtocolVersion::TLSv1_3)),
        (TlsAuto, Tls12, Some(rustls::ProtocolVersion::TLSv1_2)),
        (Tls13, TlsAuto, Some(rustls::ProtocolVersion::TLSv1_3)),
        (Tls13, Tls12, None),
    ] {
        let terms = proxy::Terminate {
            min_version: min.into(),
            max_version: max.into(),
            ..ends("shop/a.example.com", &[name])
        };
        listens(&rig, vec![tls(vec![(name, terminate(terms))])], proxy::Options::default());
        let stream = caller(&authority).connect(at, name).await;
        let version = stream.ok().and_then(|stream| stream.get_ref().1.protocol_version());
        assert_eq!(version, agreed, "{min:?} to {max:?}");
    }
    let suite = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let terms = proxy::Terminate {
        max_version: Tls12.into(),
        cipher_suites: vec![suite.into()],
        ..ends("shop/a.example.com", &[name])
    };
    listens(&rig, vec![tls(vec![(name, terminate(terms))])], proxy::Options::default());
    let stream = caller(&authority).connect(at, name).await.expect("connected");
    let chosen = stream.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(chosen, Some(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384));
}

#[tokio::test]
async fn what_is_no_tls_is_not_served_on_a_port_for_tls() {
    let authority = Authority::new("hosts");
    let rig = rig(&authority, both()).await;
    let at = door(&rig);
    assert_eq!(super::ask(at, b"GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await, "");
    // The same port may come to speak something else, and is not bound anew for it.
    listens(&rig, vec![plain(&["a.example.com"])], proxy::Options::default());
    let answer = super::ask(at, &super::get("a.example.com", "/")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let elsewhere = proxy::Listener { bind_port: u32::from(BIND) + 1, ..plain(&["a.example.com"]) };
    listens(&rig, vec![elsewhere], proxy::Options::default());
    assert_eq!(super::ask(at, &super::get("a.example.com", "/")).await, "", "nothing is served here any more");
}
