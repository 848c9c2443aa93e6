//! Clients that show certificates.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_identity::handshake;
use lateen_waypoint::book::Kind;
use lateen_wire::proxy::{self, ClientCertificate};
use rcgen::PublicKeyData as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    rig::{Authority, Caller, Pair, caller, door, ends, get, listens, put, terminate, tls},
    serving,
};
use crate::rig::{Rig, id, soon};

const NAME: &str = "a.example.com";
/// Of another trust domain: a user's authority does not speak for the mesh.
const PARTNER: &str = "spiffe://partner.example/ns/x/sa/y";

struct Mutual {
    rig: Rig,
    at: std::net::SocketAddr,
    hosts: Authority,
    users: Authority,
}

async fn mutual(mode: ClientCertificate) -> Mutual {
    let (hosts, users) = (Authority::new("hosts"), Authority::new("users"));
    let rig = serving(Vec::new(), proxy::Options::default()).await;
    put(&rig, Kind::Credential, "shop/a", &hosts.host(NAME).credential());
    put(&rig, Kind::Credential, "shop/a-ca", &proxy::Credential { ca_pem: users.pem(), ..Default::default() });
    let mutual = Mutual { at: door(&rig), rig, hosts, users };
    mutual.demands(proxy::Terminate { client_certificate: mode.into(), ..Default::default() });
    mutual
}

impl Mutual {
    /// The terms from now on.
    fn demands(&self, of: proxy::Terminate) {
        let client_ca = "shop/a-ca".to_owned();
        let base = ends("shop/a", &[NAME]);
        let terms = proxy::Terminate { credentials: base.credentials, client_ca, then: base.then, ..of };
        listens(&self.rig, vec![tls(vec![(NAME, terminate(terms))])], proxy::Options::default());
    }

    async fn get(&self, shows: Option<&Pair>) -> Result<String, String> {
        Caller { shows, ..caller(&self.hosts) }.get(self.at, NAME, (NAME, "/")).await
    }
}

/// Vector 2.
#[tokio::test]
async fn clients_must_show_a_certificate_of_the_authority() {
    let mutual = mutual(ClientCertificate::Required).await;
    let refused = mutual.get(None).await.expect_err("none is shown");
    assert!(refused.contains("CertificateRequired"), "{refused}");
    let stranger = Authority::new("strangers").user(PARTNER);
    let refused = mutual.get(Some(&stranger)).await.expect_err("nobody knows it");
    assert!(refused.contains("received fatal alert"), "{refused}");
    let user = mutual.users.user(PARTNER);
    let answer = mutual.get(Some(&user)).await.expect("let in");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let hash: String = digest(&SHA256, &user.der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let told = answer.lines().find_map(|line| line.strip_prefix("x-forwarded-client-cert: ")).expect("told of");
    assert!(told.starts_with(&format!("Hash={hash};Cert=\"-----BEGIN%20CERTIFICATE-----%0A")), "{told}");
    assert!(told.ends_with(&format!(";Subject=\"CN=holder\";URI={PARTNER}")), "{told}");
}

/// Vector 2.
#[tokio::test]
async fn clients_may_show_one() {
    let mutual = mutual(ClientCertificate::Optional).await;
    let answer = mutual.get(None).await.expect("let in");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("x-forwarded-client-cert"), "{answer}");
    mutual.get(Some(&Authority::new("strangers").user(PARTNER))).await.expect_err("a bad one is refused");
    let answer = mutual.get(Some(&mutual.users.user(PARTNER))).await.expect("let in");
    assert!(answer.contains("\nx-forwarded-client-cert: Hash="), "{answer}");
}

#[tokio::test]
async fn strangers_are_let_in_as_such_where_that_is_asked_for() {
    let mutual = mutual(ClientCertificate::OptionalUnverified).await;
    for shows in [None, Some(&Authority::new("strangers").user(PARTNER))] {
        let answer = mutual.get(shows).await.expect("let in");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("x-forwarded-client-cert"), "{answer}");
    }
    let answer = mutual.get(Some(&mutual.users.user(PARTNER))).await.expect("let in");
    assert!(answer.contains("\nx-forwarded-client-cert: Hash="), "{answer}");
}

#[tokio::test]
async fn names_and_pins_choose_among_certificates() {
    let mutual = mutual(ClientCertificate::Required).await;
    let (one, other) = (mutual.users.user(PARTNER), mutual.users.user("spiffe://partner.example/ns/x/sa/z"));
    let key = STANDARD.encode(digest(&SHA256, &one.key.subject_public_key_info()));
    let certificate: Vec<String> =
        digest(&SHA256, &one.der).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let mode = ClientCertificate::Required.into();
    let base = || proxy::Terminate { client_certificate: mode, ..Default::default() };
    for terms in [
        proxy::Terminate { client_subject_alt_names: vec!["nobody".into(), PARTNER.into()], ..base() },
        proxy::Terminate { client_spki_pins: vec![key.clone()], ..base() },
        proxy::Terminate { client_certificate_pins: vec![certificate.join(":")], ..base() },
        // Either hit is enough, and a pin that cannot be read lets nobody in.
        proxy::Terminate { client_spki_pins: vec![key], client_certificate_pins: vec!["nonsense".into()], ..base() },
    ] {
        mutual.demands(terms.clone());
        mutual.get(Some(&one)).await.unwrap_or_else(|error| panic!("{error}: {terms:?}"));
        mutual.get(Some(&other)).await.expect_err("not this one");
    }
    mutual.demands(proxy::Terminate { client_spki_pins: vec!["nonsense".into()], ..base() });
    mutual.get(Some(&one)).await.expect_err("no pin can be read");
}

/// The host's terms hold for requests, too, not for handshakes alone.
#[tokio::test]
async fn who_was_let_in_by_other_terms_must_shake_hands_again() {
    let mutual = mutual(ClientCertificate::Optional).await;
    let mut open = caller(&mutual.hosts).connect(mutual.at, NAME).await.expect("connected");
    let mut ask = async || {
        open.write_all(b"GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await.expect("write");
        let mut answer = vec![0; 4096];
        let length = soon("the answer", open.read(&mut answer)).await.expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    assert!(ask().await.starts_with("HTTP/1.1 200 "));
    mutual.demands(proxy::Terminate { client_certificate: ClientCertificate::Required.into(), ..Default::default() });
    let answer = ask().await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "no certificate was shown on this connection: {answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let end = soon("the end", open.read(&mut [0; 1])).await;
    assert!(!matches!(end, Ok(1)), "the connection is over");
}

/// Changes of what proves clients, and whether those that were let in before must shake hands again.
#[tokio::test]
async fn who_proves_clients_is_asked_of_connections_that_are_open() {
    const REQUIRED: i32 = ClientCertificate::Required as i32;
    let terms = || proxy::Terminate { client_certificate: REQUIRED, ..Default::default() };
    type Change = fn(&Mutual, proxy::Terminate);
    let rows: [(&str, Change, bool); 7] = [
        ("nothing", |mutual, terms| mutual.demands(terms), true),
        (
            "the same authority once more",
            |mutual, _| {
                let same = proxy::Credential { ca_pem: mutual.users.pem(), ..Default::default() };
                put(&mutual.rig, Kind::Credential, "shop/a-ca", &same);
            },
            true,
        ),
        (
            "a certificate of the host's own",
            |mutual, _| put(&mutual.rig, Kind::Credential, "shop/a", &mutual.hosts.host(NAME).credential()),
            true,
        ),
        (
            "another authority",
            |mutual, _| {
                let other = proxy::Credential { ca_pem: Authority::new("others").pem(), ..Default::default() };
                put(&mutual.rig, Kind::Credential, "shop/a-ca", &other);
            },
            false,
        ),
        ("no authority", |mutual, _| super::rig::take_back(&mutual.rig, Kind::Credential, "shop/a-ca"), false),
        (
            "names",
            |mutual, terms| mutual.demands(proxy::Terminate { client_subject_alt_names: vec!["x".into()], ..terms }),
            false,
        ),
        (
            "pins",
            |mutual, terms| mutual.demands(proxy::Terminate { client_spki_pins: vec!["nonsense".into()], ..terms }),
            false,
        ),
    ];
    for (what, change, stays) in rows {
        let mutual = mutual(ClientCertificate::Required).await;
        let user = mutual.users.user(PARTNER);
        let caller = Caller { shows: Some(&user), ..caller(&mutual.hosts) };
        let mut open = caller.connect(mutual.at, NAME).await.expect("connected");
        let mut ask = async || {
            open.write_all(b"GET / HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await.expect("write");
            let mut answer = vec![0; 16 * 1024];
            let length = soon("the answer", open.read(&mut answer)).await.expect("an answer");
            String::from_utf8_lossy(&answer[..length.min(13)]).into_owned()
        };
        assert_eq!(ask().await, "HTTP/1.1 200 ", "{what}");
        change(&mutual, terms());
        assert_eq!(ask().await, if stays { "HTTP/1.1 200 " } else { "HTTP/1.1 421 " }, "{what}");
    }
}

#[tokio::test]
async fn who_must_shake_hands_again_is_told_so_in_http2() {
    let mutual = mutual(ClientCertificate::Optional).await;
    let caller = Caller { protocols: &["h2"], ..caller(&mutual.hosts) };
    let stream = caller.connect(mutual.at, NAME).await.expect("connected");
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let (tell, ended) = tokio::sync::oneshot::channel();
    mutual.rig.tasks.spawn("client", async move {
        tell.send(connection.await.is_ok()).expect("the test waits");
    });
    let request = || Request::get("https://a.example.com/").body(Empty::<Bytes>::new()).expect("valid");
    assert_eq!(soon("the answer", sender.send_request(request())).await.expect("an answer").status(), StatusCode::OK);
    mutual.demands(proxy::Terminate { client_certificate: ClientCertificate::Required.into(), ..Default::default() });
    let answer = soon("the answer", sender.send_request(request())).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    assert!(soon("the end of the connection", ended).await.expect("told"), "it ended by GOAWAY");
}

#[tokio::test]
async fn without_an_authority_nobody_is_let_in() {
    let mutual = mutual(ClientCertificate::Optional).await;
    super::rig::take_back(&mutual.rig, Kind::Credential, "shop/a-ca");
    mutual.get(None).await.expect_err("nothing verifies clients");
    put(&mutual.rig, Kind::Credential, "shop/a-ca", &proxy::Credential { secret: vec![7; 32], ..Default::default() });
    mutual.get(None).await.expect_err("nor does a credential without one");
}

/// Whoever signs a user's clients could write any name into a certificate.
#[tokio::test]
async fn only_the_mesh_speaks_for_its_members() {
    let mutual = mutual(ClientCertificate::Required).await;
    let member = id("member").to_string();
    let allow = |principal: &str| {
        let field = proxy::Field {
            attribute: proxy::Attribute::Principal.into(),
            any: vec![principal.trim_start_matches("spiffe://").into()],
            ..Default::default()
        };
        let rule = proxy::Rule {
            clauses: vec![proxy::Clause { matches: vec![proxy::Match { fields: vec![field] }] }],
            ..Default::default()
        };
        let action = proxy::Action::Allow.into();
        proxy::Policy { namespace: "shop".into(), name: "who".into(), action, rules: vec![rule], ..Default::default() }
    };
    let listeners = |mode: ClientCertificate| {
        let base = ends("shop/a", &[NAME]);
        let terms = proxy::Terminate { client_certificate: mode.into(), client_ca: "shop/a-ca".into(), ..base };
        let proxy = proxy::Proxy {
            namespace: "shop".into(),
            name: "gw".into(),
            role: proxy::Role::Gateway.into(),
            listeners: vec![tls(vec![(NAME, terminate(terms))])],
            policies: vec!["shop/gw/shop/who".into()],
            ..Default::default()
        };
        put(&mutual.rig, Kind::Proxy, "shop/gw", &proxy);
    };
    listeners(ClientCertificate::Required);
    put(&mutual.rig, Kind::Policy, "shop/gw/shop/who", &allow(PARTNER));
    let answer = mutual.get(Some(&mutual.users.user(PARTNER))).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    put(&mutual.rig, Kind::Policy, "shop/gw/shop/who", &allow(&member));
    let answer = mutual.get(Some(&mutual.users.user(&member))).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");

    listeners(ClientCertificate::Mesh);
    mutual.get(Some(&mutual.users.user(&member))).await.expect_err("not of the mesh");
    let (ours, expected) = (mutual.rig.ca.leaf(&id("member")), [id("waypoint")].into());
    let socket = TcpStream::connect(mutual.at).await.expect("connect");
    // A client of the mesh names no server; every host is the one for it then.
    let refused = handshake::connect(socket, &ours, expected, handshake::HANDSHAKE_TIMEOUT).await;
    assert!(refused.is_err(), "it names no host");
    let any = proxy::Terminate {
        client_certificate: ClientCertificate::Mesh.into(),
        then: ends("", &["*"]).then,
        ..Default::default()
    };
    let opens = |terms: proxy::Terminate| {
        let proxy = proxy::Proxy {
            role: proxy::Role::Gateway.into(),
            listeners: vec![tls(vec![("*", terminate(terms))])],
            policies: vec!["shop/gw/shop/who".into()],
            ..Default::default()
        };
        put(&mutual.rig, Kind::Proxy, "shop/gw", &proxy);
    };
    opens(any.clone());
    for (account, status) in [("member", 200), ("other", 403)] {
        let answer = asked_by(&mutual, account).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{account}: {answer}");
    }
    // Names choose among members as they do among strangers.
    opens(proxy::Terminate { client_subject_alt_names: vec![member], ..any });
    assert!(asked_by(&mutual, "member").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(asked_by(&mutual, "other").await, "", "nothing is answered to those who are not let in");
}

/// What a member of the mesh is answered.
async fn asked_by(mutual: &Mutual, account: &str) -> String {
    let (ours, expected) = (mutual.rig.ca.leaf(&id(account)), [id("waypoint")].into());
    let socket = TcpStream::connect(mutual.at).await.expect("connect");
    let secured = handshake::connect(socket, &ours, expected, handshake::HANDSHAKE_TIMEOUT).await.expect("secured");
    assert_eq!(secured.negotiated.protocol.as_deref(), Some(&b"h2"[..]));
    let mut stream = secured.stream;
    stream.write_all(&get("any", "/")).await.expect("write");
    stream.flush().await.expect("flush");
    let mut answer = vec![0; 4096];
    // One who is not let in may be reset.
    let length = soon("the answer", stream.read(&mut answer)).await.unwrap_or_default();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
