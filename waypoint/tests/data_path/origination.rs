//! TLS that the waypoint begins: to whom, with what, and never done without.

use lateen_rt::deadline::within;
use lateen_waypoint::book::{Change, Kind, Protocol};
use lateen_wire::{proxy, workload};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    authority::{Authority, Pair, Sealed, Seen, acceptor, sealed, sealed_bytes, tell},
    endpoints::{echo, http, raw, tunnels},
    rig::{Rig, Service, cluster, endpoint, id, soon},
};

const NAME: &str = "secure.example.com";
const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%";

/// A waypoint whose service is reached by TLS so.
fn serving(protocol: proxy::Protocol, tls: proxy::Tls) -> Rig {
    let policy = proxy::TrafficPolicy { tls: Some(tls), ..Default::default() };
    let encoding = proxy::access_log::Encoding::Text.into();
    let access_log = Some(proxy::AccessLog { encoding, format: FORMAT.to_owned() });
    let options = proxy::Options { access_log, ..Default::default() };
    let served = if protocol == proxy::Protocol::Tcp { proxy::Protocol::Tcp } else { proxy::Protocol::Http };
    Rig::serving(
        Service { protocol: served, clusters: vec![cluster(protocol, policy)], options, ..Service::default() },
        &[],
    )
}

fn simple(ca: &str) -> proxy::Tls {
    proxy::Tls { ca: ca.to_owned(), server_name: NAME.to_owned(), ..Default::default() }
}

fn authority(of: &Authority) -> proxy::Credential {
    proxy::Credential { ca_pem: of.pem(), ..Default::default() }
}

async fn get(rig: &Rig, host: &str) -> String {
    rig.exchange(format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes()).await
}

async fn behind(rig: &Rig, shows: &Pair, clients: Option<&Authority>) -> Sealed {
    let server = sealed(rig, shows, clients).await;
    rig.endpoints(&[server.addr()]);
    server
}

fn seen(server_name: Option<&str>, alpn: &str, client: Option<u64>) -> Seen {
    Seen { server_name: server_name.map(str::to_owned), alpn: Some(alpn.to_owned()), client }
}

#[tokio::test]
async fn requests_of_both_versions_are_sealed_and_connections_are_used_again() {
    for (protocol, version, alpn) in
        [(proxy::Protocol::Http, "HTTP/1.1", "http/1.1"), (proxy::Protocol::Http2, "HTTP/2.0", "h2")]
    {
        let ca = Authority::new("root");
        let rig = serving(protocol, simple("shop/ca"));
        tell(&rig, "shop/ca", &authority(&ca));
        let server = behind(&rig, &ca.leaf(&[NAME]), None).await;
        for _ in 0..3 {
            let answer = get(&rig, "a").await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("{version} GET ")), "{answer}");
            let scheme = if alpn == "h2" { "https://a/x" } else { "GET /x" };
            assert!(answer.contains(scheme), "{answer}");
        }
        assert_eq!(server.seen(), [seen(Some(NAME), alpn, None)]);
    }
}

#[tokio::test]
async fn where_no_name_is_set_the_requests_host_is_asked_for_and_must_answer() {
    let ca = Authority::new("root");
    let rig = serving(proxy::Protocol::Http, proxy::Tls { ca: "shop/ca".to_owned(), ..Default::default() });
    tell(&rig, "shop/ca", &authority(&ca));
    let server = behind(&rig, &ca.leaf(&["a.example.com", "*.b.example.com", "127.0.0.1"]), None).await;
    for host in ["a.example.com", "a.example.com:8443", "x.b.example.com"] {
        let answer = get(&rig, host).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    // One connection for each name: a server may serve names differently.
    let names: Vec<_> = server.seen().into_iter().map(|one| one.server_name).collect();
    assert_eq!(names, [Some("a.example.com".to_owned()), Some("x.b.example.com".to_owned())]);
    assert!(get(&rig, "127.0.0.1").await.starts_with("HTTP/1.1 200 "), "an address is verified, and not asked for");
    assert_eq!(server.seen().last().and_then(|one| one.server_name.clone()), None);
    for host in ["c.example.com", "a_b"] {
        let answer = get(&rig, host).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("certificate"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn whoever_is_not_the_server_that_is_meant_gets_no_request() {
    let (ca, other) = (Authority::new("root"), Authority::new("other"));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let uri = "spiffe://elsewhere/ns/a/sa/b";
    let rows: [(&str, &Authority, &[&str], proxy::Tls, bool); 8] = [
        ("another authority", &other, &[NAME], simple("shop/ca"), false),
        ("another name", &ca, &["b.example.com"], simple("shop/ca"), false),
        (
            "a further name",
            &ca,
            &["b.example.com"],
            proxy::Tls { subject_alt_names: names(&["x", "b.example.com"]), ..simple("shop/ca") },
            true,
        ),
        (
            "a further name that a wildcard covers",
            &ca,
            &["*.example.com"],
            proxy::Tls { subject_alt_names: names(&["b.example.com"]), ..simple("shop/ca") },
            true,
        ),
        ("a URI", &ca, &[uri], proxy::Tls { subject_alt_names: names(&[uri]), ..simple("shop/ca") }, true),
        (
            "none of the names, though the one asked for",
            &ca,
            &[NAME],
            proxy::Tls { subject_alt_names: names(&["b.example.com"]), ..simple("shop/ca") },
            false,
        ),
        (
            "a further name of another authority",
            &other,
            &["b.example.com"],
            proxy::Tls { subject_alt_names: names(&["b.example.com"]), ..simple("shop/ca") },
            false,
        ),
        (
            "whoever it is",
            &other,
            &["b.example.com"],
            proxy::Tls { insecure_skip_verify: true, ..simple("shop/ca") },
            true,
        ),
    ];
    for (what, signs, carries, tls, passes) in rows {
        let rig = serving(proxy::Protocol::Http, tls);
        tell(&rig, "shop/ca", &authority(&ca));
        behind(&rig, &signs.leaf(carries), None).await;
        let answer = get(&rig, "a").await;
        let expected = if passes { "HTTP/1.1 200 " } else { "HTTP/1.1 503 " };
        assert!(answer.starts_with(expected), "{what}: {answer}");
        let record = rig.record().await;
        let flagged = record.split(' ').nth(1).is_some_and(|flags| flags.split(',').any(|flag| flag == "UF"));
        assert_eq!(flagged, !passes, "{what}: {record}");
    }
}

#[tokio::test]
async fn a_changed_credential_is_used_at_once_and_the_old_one_never_again() {
    for protocol in [proxy::Protocol::Http, proxy::Protocol::Http2] {
        let (ca, clients) = (Authority::new("root"), Authority::new("clients"));
        let rig = serving(protocol, proxy::Tls { credential: "shop/own".to_owned(), ..simple("shop/ca") });
        tell(&rig, "shop/ca", &authority(&ca));
        let (first, second) = (clients.leaf(&["client"]), clients.leaf(&["client"]));
        tell(&rig, "shop/own", &first.credential());
        let server = behind(&rig, &ca.leaf(&[NAME]), Some(&clients)).await;
        let alpn = if protocol == proxy::Protocol::Http { "http/1.1" } else { "h2" };
        let of = |pair: &Pair| seen(Some(NAME), alpn, Some(pair.serial));
        for _ in 0..2 {
            assert!(get(&rig, "a").await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(server.seen(), [of(&first)]);
        tell(&rig, "shop/own", &second.credential());
        for _ in 0..2 {
            assert!(get(&rig, "a").await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(server.seen(), [of(&first), of(&second)]);
        // Taken back: the connection that is open is worth nothing any more.
        rig.shared.book.apply([Change::Removed { kind: Kind::Credential, name: "shop/own".into() }]);
        let answer = get(&rig, "a").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the credential shop/own has not"), "{answer}");
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn what_is_missing_refuses_and_the_record_says_what() {
    let nothing = proxy::Credential { secret: b"0123456789abcdef".to_vec(), ..Default::default() };
    let rows: [(&str, proxy::Tls, Option<&proxy::Credential>); 4] = [
        ("the credential shop/ca has not arrived", simple("shop/ca"), None),
        ("the credential shop/ca holds no certificate of an authority", simple("shop/ca"), Some(&nothing)),
        (
            "the credential shop/ca holds no certificate with its key",
            proxy::Tls { credential: "shop/ca".to_owned(), insecure_skip_verify: true, ..simple("shop/ca") },
            Some(&nothing),
        ),
        (
            "\"a b\" is no name",
            proxy::Tls { server_name: "a b".to_owned(), insecure_skip_verify: true, ..simple("shop/ca") },
            Some(&nothing),
        ),
    ];
    for (expected, tls, credential) in rows {
        let rig = serving(proxy::Protocol::Http, tls);
        if let Some(credential) = credential {
            tell(&rig, "shop/ca", credential);
        }
        let endpoint = raw(&rig, |_| std::future::ready(())).await;
        rig.endpoints(&[endpoint.addr]);
        let answer = get(&rig, "a").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        let record = rig.record().await;
        assert!(record.starts_with("503 UF ") && record.contains(expected), "{record}");
        assert_eq!(endpoint.connections(), 0, "nothing is sent, in clear least of all");
    }
}

#[tokio::test]
async fn connections_in_clear_are_not_used_once_tls_is_asked_for() {
    let ca = Authority::new("root");
    let rig = Rig::serving(Service::default(), &[]);
    let plain = crate::endpoints::echoing(&rig).await;
    rig.endpoints(&[plain.addr]);
    assert!(get(&rig, "a").await.starts_with("HTTP/1.1 200 "));
    let policy = proxy::TrafficPolicy { tls: Some(simple("shop/ca")), ..Default::default() };
    rig.configure(Service { clusters: vec![cluster(proxy::Protocol::Http, policy)], ..Service::default() });
    tell(&rig, "shop/ca", &authority(&ca));
    // The endpoint speaks no TLS: what stood open to it would have served.
    assert!(get(&rig, "a").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn names_that_wait_for_a_place_get_it_from_one_that_rests() {
    let ca = Authority::new("root");
    let pool = proxy::ConnectionPool { max_connections: Some(1), ..Default::default() };
    let tls = proxy::Tls { ca: "shop/ca".to_owned(), ..Default::default() };
    let policy = proxy::TrafficPolicy { tls: Some(tls), pool: Some(pool), ..Default::default() };
    let rig =
        Rig::serving(Service { clusters: vec![cluster(proxy::Protocol::Http, policy)], ..Service::default() }, &[]);
    tell(&rig, "shop/ca", &authority(&ca));
    let server = behind(&rig, &ca.leaf(&["*.example.com"]), None).await;
    for host in ["a.example.com", "b.example.com", "a.example.com"] {
        let answer = get(&rig, host).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn opaque_bytes_are_sealed_too() {
    let ca = Authority::new("root");
    let rig = serving(proxy::Protocol::Tcp, simple("shop/ca"));
    tell(&rig, "shop/ca", &authority(&ca));
    let server = sealed_bytes(&rig, &ca.leaf(&[NAME])).await;
    rig.endpoints(&[server.addr()]);
    let mut client = rig.connect(Protocol::Tcp).await;
    client.write_all(b"\x00hello").await.expect("write");
    client.shutdown().await.expect("half-close");
    let mut back = Vec::new();
    soon("the bytes", client.read_to_end(&mut back)).await.expect("in good order");
    assert_eq!(back, b"\x00hello");
    let handshake = Seen { server_name: Some(NAME.to_owned()), ..Seen::default() };
    assert_eq!(server.seen(), [handshake]);

    let rig = serving(proxy::Protocol::Tcp, simple("shop/none"));
    let server = sealed_bytes(&rig, &ca.leaf(&[NAME])).await;
    rig.endpoints(&[server.addr()]);
    let mut client = rig.connect(Protocol::Tcp).await;
    client.write_all(b"\x00hello").await.ok();
    let ended = soon("the end", client.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_err() || ended.is_ok_and(|length| length == 0));
    assert!(rig.record().await.contains("UF the credential shop/none has not arrived"));
    assert_eq!(server.endpoint.connections(), 0);
}

#[tokio::test]
async fn tls_goes_through_the_tunnel_of_an_endpoint_in_the_mesh() {
    let ca = Authority::new("root");
    let rig = serving(proxy::Protocol::Http, simple("shop/ca"));
    tell(&rig, "shop/ca", &authority(&ca));
    let acceptor = acceptor(&ca.leaf(&[NAME]), None);
    tunnels(&rig, "127.77.1.1", id("echo"), move |tunnel| {
        let acceptor = acceptor.clone();
        async move { http(acceptor.accept(tunnel).await.expect("TLS inside of the tunnel"), echo).await }
    })
    .await;
    let hbone = workload::TunnelProtocol::Hbone.into();
    let at = "127.77.1.1:8443".parse().expect("valid");
    rig.workloads(vec![workload::Workload { tunnel_protocol: hbone, ..endpoint(at) }]);
    let answer = get(&rig, "a").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(rig.lane.tunnels.connections(), 1);
}

/// A server outside of tunnels that has a certificate of the mesh, as a sidecar has.
#[tokio::test]
async fn the_meshs_own_certificates_serve_both_ends() {
    for (named, passes) in [(None, true), (Some(id("echo")), true), (Some(id("other")), false)] {
        let names = named.iter().map(ToString::to_string).collect();
        let tls = proxy::Tls { mesh_identity: true, subject_alt_names: names, ..Default::default() };
        let rig = serving(proxy::Protocol::Http2, tls);
        let ca = rig.ca.clone();
        let server = raw(&rig, move |stream: TcpStream| {
            let ours = ca.leaf(&id("echo"));
            async move {
                let timeout = lateen_identity::handshake::HANDSHAKE_TIMEOUT;
                let Ok(secured) = lateen_identity::handshake::accept(stream, &ours, timeout).await else { return };
                assert_eq!(secured.peer, id("waypoint"));
                http(secured.stream, echo).await;
            }
        })
        .await;
        rig.endpoints(&[server.addr]);
        let answer = get(&rig, "a").await;
        assert!(answer.starts_with(if passes { "HTTP/1.1 200 " } else { "HTTP/1.1 503 " }), "{named:?}: {answer}");
    }
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_takes_the_connect_timeout_only() {
    let pool = proxy::ConnectionPool {
        connect_timeout: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        ..Default::default()
    };
    let tls = proxy::Tls { insecure_skip_verify: true, ..simple("") };
    let policy = proxy::TrafficPolicy { tls: Some(tls), pool: Some(pool), ..Default::default() };
    let rig =
        Rig::serving(Service { clusters: vec![cluster(proxy::Protocol::Http, policy)], ..Service::default() }, &[]);
    let silent = raw(&rig, |stream: TcpStream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    rig.endpoints(&[silent.addr]);
    let answer = within("the answer", std::time::Duration::from_secs(30), get(&rig, "a")).await.expect("in time");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection timeout"), "{answer}");
}

/// An endpoint that wants the PROXY protocol, and answers with its first line.
async fn told(rig: &Rig) -> crate::endpoints::Endpoint {
    raw(rig, |mut stream: TcpStream| async move {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.expect("the header comes first"));
        }
        let mut rest = [0; 4096];
        while let Ok(1..) = stream.read(&mut rest).await {
            let length = line.len();
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await.ok();
            stream.write_all(&line).await.ok();
        }
    })
    .await
}

#[tokio::test]
async fn endpoints_are_told_first_whom_a_connection_is_for() {
    let v1 = proxy::traffic_policy::ProxyProtocol::V1.into();
    let policy = proxy::TrafficPolicy { proxy_protocol: v1, ..Default::default() };
    let rig =
        Rig::serving(Service { clusters: vec![cluster(proxy::Protocol::Http, policy)], ..Service::default() }, &[]);
    let server = told(&rig).await;
    rig.endpoints(&[server.addr]);
    for made in 1..3 {
        let mut client = rig.connect(Protocol::Http).await;
        let own = client.local_addr().expect("bound").port();
        let expected = format!("PROXY TCP4 127.0.0.1 10.96.0.1 {own} 80\r\n");
        for _ in 0..2 {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
            let mut answer = Vec::new();
            while !answer.ends_with(expected.as_bytes()) {
                answer.push(soon("the answer", client.read_u8()).await.expect("the answer names this client"));
            }
        }
        assert_eq!(server.connections(), made, "a connection serves the requests of one client, and of no other");
    }
}
