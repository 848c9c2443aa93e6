//! Policies at the waypoint, from a client's bytes to the answer and the record: the vectors of the L7 security spec that are
//! about answers, and connections that are not looked into.

use lateen_types::id::SpiffeId;
use lateen_waypoint::book::{Change, Kind, Protocol, compile};
use lateen_wire::proxy;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    endpoints::{echoing, raw},
    rig::{HOST, PORT, Rig, Service, cluster, id, soon},
};

const FORMAT: &str = "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                      %CONNECTION_TERMINATION_DETAILS% %BYTES_SENT% %UPSTREAM_CLUSTER%";

fn options() -> proxy::Options {
    let encoding = proxy::access_log::Encoding::Text.into();
    let access_log = Some(proxy::AccessLog { encoding, format: FORMAT.to_owned() });
    proxy::Options { access_log, ..proxy::Options::default() }
}

pub fn policy(action: proxy::Action, fields: &[(proxy::Attribute, &str)]) -> proxy::Policy {
    let field = |(attribute, value): &(proxy::Attribute, &str)| proxy::Field {
        attribute: (*attribute).into(),
        any: vec![(*value).to_owned()],
        ..Default::default()
    };
    let matches = vec![proxy::Match { fields: fields.iter().map(field).collect() }];
    let rules = vec![proxy::Rule { index: 0, clauses: vec![proxy::Clause { matches }] }];
    proxy::Policy { namespace: "shop".into(), name: "p".into(), action: action.into(), dry_run: false, rules }
}

async fn serving(policies: Vec<proxy::Policy>) -> Rig {
    let rig = Rig::serving(Service { policies, options: options(), ..Service::default() }, &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    rig
}

fn request(method: &str, path: &str, more: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n").into_bytes()
}

const DENIED: &str = "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]";
const NOBODY: &str = "rbac_access_denied_matched_policy[none]";

/// Vectors 12, 19, 20 and 40.
#[tokio::test]
async fn a_denial_is_a_403_that_says_so_and_its_record_says_why() {
    use proxy::{Action, Attribute};
    let rig = serving(vec![policy(Action::Deny, &[(Attribute::Method, "POST"), (Attribute::Path, "/admin*")])]).await;
    let passes = rig.exchange(&request("GET", "/admin", "")).await;
    assert!(passes.starts_with("HTTP/1.1 200 "), "{passes}");
    let line = rig.record().await;
    assert!(line.starts_with("GET /admin 200 - via_upstream - "), "{line}");
    assert!(line.ends_with(" inbound-vip|80|http|echo.shop.svc.cluster.local\n"), "{line}");
    for path in ["/admin", "/x/../admin", "/%61dmin/y"] {
        let denied = rig.exchange(&request("POST", path, "content-length: 0\r\n")).await;
        assert!(denied.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{path}: {denied}");
        assert!(denied.contains("content-type: text/plain\r\n"), "{denied}");
        assert!(denied.ends_with("\r\n\r\nRBAC: access denied"), "{denied}");
        let line = rig.record().await;
        let (asked, rest) = line.split_once(" 403 ").expect("a status");
        assert!(asked.starts_with("POST /admin"), "{line}");
        assert_eq!(rest, format!("- {DENIED} - 19 -\n"), "no flag, and where it would have been sent is not known");
    }
}

/// Vectors 47 and 48.
#[tokio::test]
async fn grpc_and_upgrades_are_denied_in_their_own_way() {
    let rig = serving(vec![policy(proxy::Action::Allow, &[(proxy::Attribute::Principal, "*")])]).await;
    let grpc =
        rig.exchange(&request("POST", "/a.B/C", "content-type: application/grpc\r\ncontent-length: 0\r\n")).await;
    assert!(grpc.starts_with("HTTP/1.1 200 OK\r\n") && grpc.contains("grpc-status: 7\r\n"), "{grpc}");
    let asks = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\r\n";
    let upgrade = rig.exchange(asks).await;
    assert!(upgrade.starts_with("HTTP/1.1 403 "), "{upgrade}");
    assert!(rig.record().await.contains(&format!(" 200 - {NOBODY} ")));
}

/// Which paths there are is not for those who may not ask.
#[tokio::test]
async fn whoever_is_denied_is_not_told_what_is_there() {
    let known = proxy::PathMatch { kind: Some(proxy::path_match::Kind::Exact("/known".into())), ..Default::default() };
    let r#match = Some(proxy::HttpMatch { path: Some(known), ..Default::default() });
    let direct = proxy::DirectResponse { status: 200, ..Default::default() };
    let action = Some(proxy::http_route::Action::Direct(direct));
    let routes = vec![proxy::HttpRoute { r#match, action, ..Default::default() }];
    let policies = vec![policy(proxy::Action::Allow, &[(proxy::Attribute::Method, "GET")])];
    let rig = Rig::serving(Service { routes, policies, options: options(), ..Service::default() }, &[]);
    for (method, known, unknown) in [("GET", 200, 404), ("DELETE", 403, 403)] {
        for (path, status) in [("/known", known), ("/unknown", unknown)] {
            let answer = rig.exchange(&request(method, path, "")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_policy_that_is_named_and_missing_refuses() {
    let rig = serving(vec![]).await;
    assert!(rig.exchange(&request("GET", "/", "")).await.starts_with("HTTP/1.1 200 "));
    drop(rig.record().await);
    let name = format!("shop/w/shop/{HOST}");
    let port = proxy::Port { port: PORT.into(), protocol: proxy::Protocol::Http.into(), ..Default::default() };
    let service = proxy::Service {
        namespace: "shop".into(),
        hostname: HOST.into(),
        ports: vec![port],
        policies: vec!["shop/p".to_owned()],
        ..Default::default()
    };
    let told = compile::resource(Kind::Service, &name.as_str().into(), &service.encode_to_vec()).expect("readable");
    rig.shared.book.apply([told]);
    assert!(rig.exchange(&request("GET", "/", "")).await.starts_with("HTTP/1.1 403 "));
    let line = rig.record().await;
    assert!(line.contains(" rbac_access_denied_policy_missing[ns[shop]-policy[p]] "), "{line}");
}

/// Its end, and its service's without it, are told one after the other, in whatever order.
#[tokio::test]
async fn a_policy_that_is_gone_refuses_nobody_it_let_in() {
    let rig = serving(vec![policy(proxy::Action::Allow, &[(proxy::Attribute::Method, "GET")])]).await;
    rig.shared.book.apply([Change::Removed { kind: Kind::Policy, name: "shop/p".into() }]);
    assert!(rig.exchange(&request("GET", "/", "")).await.starts_with("HTTP/1.1 200 "));
    assert!(rig.exchange(&request("POST", "/", "content-length: 0\r\n")).await.starts_with("HTTP/1.1 403 "));
    rig.configure(Service { options: options(), ..Service::default() });
    assert!(rig.exchange(&request("POST", "/", "content-length: 0\r\n")).await.starts_with("HTTP/1.1 200 "));
}

/// What an opaque connection to the service brings back of `ping`; nothing where it is refused.
async fn ping(rig: &Rig, peer: Option<SpiffeId>) -> String {
    String::from_utf8(brought_back(rig.connect_as(Protocol::Tcp, peer).await, b"ping").await).expect("text")
}

/// The same of any bytes, of a client nobody knows.
async fn exchange(rig: &Rig, bytes: &[u8]) -> Vec<u8> {
    brought_back(rig.connect(Protocol::Tcp).await, bytes).await
}

async fn brought_back(mut client: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // Whoever is refused may be told so by a reset before it has written.
    let _sent = client.write_all(bytes).await.and(client.shutdown().await);
    let mut answer = Vec::new();
    let _end = soon("the end", client.read_to_end(&mut answer)).await;
    answer
}

async fn opaque(policies: Vec<proxy::Policy>) -> Rig {
    let clusters = vec![cluster(proxy::Protocol::Tcp, proxy::TrafficPolicy::default())];
    let service =
        Service { protocol: proxy::Protocol::Tcp, policies, clusters, options: options(), ..Service::default() };
    let rig = Rig::serving(service, &[]);
    let echo = raw(&rig, |mut stream| async move {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("the client's bytes");
        stream.write_all(&bytes).await.expect("write");
    })
    .await;
    rig.endpoints(&[echo.addr]);
    rig
}

/// Vector 41, and who calls.
#[tokio::test]
async fn a_connection_that_is_not_looked_into_is_judged_by_what_is_known_of_it() {
    use proxy::{Action, Attribute};
    let sleep = Some(id("sleep"));
    let principal = id("sleep").principal().as_str().to_owned();
    let allowed = opaque(vec![policy(Action::Allow, &[(Attribute::Principal, &principal)])]).await;
    assert_eq!(ping(&allowed, sleep.clone()).await, "ping");
    assert_eq!(allowed.record().await, "- - 0 - - - 4 inbound-vip|80|tcp|echo.shop.svc.cluster.local\n");
    for other in [Some(id("other")), None] {
        assert_eq!(ping(&allowed, other).await, "");
        assert_eq!(allowed.record().await, format!("- - 0 - - {NOBODY} 0 -\n"));
    }
    let of_http = opaque(vec![policy(Action::Allow, &[(Attribute::Method, "GET")])]).await;
    assert_eq!(ping(&of_http, sleep.clone()).await, "", "an ALLOW that asks for HTTP allows nobody");
    let denying = opaque(vec![policy(Action::Deny, &[(Attribute::Method, "GET")])]).await;
    assert_eq!(ping(&denying, sleep.clone()).await, "", "a DENY that asks for HTTP alone denies everybody");
    assert_eq!(denying.record().await, format!("- - 0 - - {DENIED} 0 -\n"));
    let other_port =
        opaque(vec![policy(Action::Deny, &[(Attribute::Method, "GET"), (Attribute::DestinationPort, "81")])]).await;
    assert_eq!(ping(&other_port, sleep).await, "ping", "the rest of a DENY still asks");
}

/// Where the server name decides, TLS whose name cannot be told does not pass as if it had none.
#[tokio::test]
async fn tls_that_cannot_be_read_does_not_pass_a_policy_on_server_names() {
    use proxy::{Action, Attribute};
    // A ClientHello of nothing, and one in records whose second is no handshake.
    let unreadable = [&[0x16, 3, 1, 0, 4, 1, 0, 0, 0][..], &[0x16, 3, 1, 0, 4, 1, 0, 0, 9, 0x17, 3, 3, 0, 1, 0]];
    let denying = opaque(vec![policy(Action::Deny, &[(Attribute::Sni, "secret.example.com")])]).await;
    for bytes in unreadable {
        assert_eq!(exchange(&denying, bytes).await, b"", "{bytes:?}");
        let record = denying.record().await;
        assert!(record.contains("client_hello_unreadable"), "{record}");
    }
    // What is no TLS has no server name, and where nobody asks for one nothing is looked into.
    assert_eq!(exchange(&denying, b"ping").await, b"ping");
    let open = opaque(Vec::new()).await;
    assert_eq!(exchange(&open, unreadable[0]).await, unreadable[0]);
}

/// Routes that a namespace has for its own clients count for whoever proves to be one of them.
#[tokio::test]
async fn a_client_has_the_routes_of_the_namespace_its_certificate_names() {
    let answer = |status| proxy::HttpRoute {
        action: Some(proxy::http_route::Action::Direct(proxy::DirectResponse { status, ..Default::default() })),
        ..Default::default()
    };
    let of_clients = vec![proxy::ClientRoutes { client_namespace: "web".into(), http: vec![answer(418)] }];
    let rig = Rig::serving(Service { routes: vec![answer(204)], of_clients, ..Service::default() }, &[]);
    let of_web: SpiffeId = "spiffe://cluster.local/ns/web/sa/a".parse().expect("an identity");
    for (peer, status) in [(Some(of_web), 418), (Some(id("web")), 204), (None, 204)] {
        let mut client = rig.connect_as(Protocol::Http, peer.clone()).await;
        // What a client says of itself is nothing.
        let claims = "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/web/sa/a\r\n";
        client.write_all(&request("GET", "/", claims)).await.expect("write");
        let mut answer = Vec::new();
        let _end = soon("the answer", client.read_to_end(&mut answer)).await;
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{peer:?}: {answer}");
    }
}
