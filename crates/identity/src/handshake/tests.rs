use std::time::Duration;

use rustls::{ClientConfig, RootCertStore, server::Acceptor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    crypto::provider,
    testing::{A_DAY, Life, TestCa, id},
    verify::ExpectedServer,
};

const WEB: &str = "spiffe://cluster.local/ns/web/sa/front";
const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const FOREIGN: &str = "spiffe://elsewhere.example/ns/web/sa/front";
const SOON: Duration = Duration::from_secs(20);

type Both = (Result<Secured<DuplexStream>, HandshakeError>, Result<Secured<DuplexStream>, HandshakeError>);

/// Client and server shake hands in memory; the client expects `expected`.
async fn shake(client: &WorkloadCertificate, server: &WorkloadCertificate, expected: &[&str]) -> Both {
    let (near, far) = duplex(64 * 1024);
    let expected = expected.iter().map(|text| id(text)).collect();
    tokio::join!(connect(near, client, expected, SOON), accept(far, server, SOON))
}

#[tokio::test]
async fn both_learn_who_the_other_is() {
    let ca = TestCa::new("root");
    let (client, server) = shake(&ca.leaf(&[WEB], A_DAY), &ca.leaf(&[SHOP], A_DAY), &[SHOP]).await;
    let (mut client, mut server) = (client.expect("client"), server.expect("server"));
    assert_eq!((client.peer, server.peer), (id(SHOP), id(WEB)));
    client.stream.write_all(b"hello").await.expect("write");
    client.stream.flush().await.expect("flush");
    let mut heard = [0; 5];
    server.stream.read_exact(&mut heard).await.expect("read");
    assert_eq!(&heard, b"hello");
    let agreed = Negotiated {
        suite: Some(CipherSuite::TLS13_AES_128_GCM_SHA256),
        group: Some(NamedGroup::X25519MLKEM768),
        protocol: Some(b"h2".to_vec()),
    };
    assert_eq!((client.negotiated, server.negotiated), (agreed.clone(), agreed));
}

#[tokio::test]
async fn an_unexpected_server_is_refused_by_name() {
    let ca = TestCa::new("root");
    for expected in [&[WEB][..], &[]] {
        let (client, server) = shake(&ca.leaf(&[WEB], A_DAY), &ca.leaf(&[SHOP], A_DAY), expected).await;
        let error = client.expect_err("refused");
        assert!(matches!(&error, HandshakeError::Refused(PeerRefused::Unexpected { .. })), "{error}");
        assert!(error.to_string().contains(SHOP), "{error}");
        assert!(server.is_err());
    }
}

#[tokio::test]
async fn one_of_several_names_is_enough() {
    let ca = TestCa::new("root");
    let server = ca.leaf(&["https://example.com", WEB, SHOP], A_DAY);
    let (client, _) = shake(&ca.leaf(&[WEB], A_DAY), &server, &[SHOP]).await;
    assert_eq!(client.expect("accepted").peer, id(WEB), "the first SPIFFE id is the peer");
}

#[tokio::test]
async fn a_client_of_another_trust_domain_is_refused() {
    let ca = TestCa::new("root");
    let (_, server) = shake(&ca.leaf(&[FOREIGN], A_DAY), &ca.leaf(&[SHOP], A_DAY), &[SHOP]).await;
    let error = server.expect_err("refused");
    assert!(matches!(error, HandshakeError::Refused(PeerRefused::ForeignTrustDomain { .. })), "{error}");
}

#[tokio::test]
async fn a_chain_that_leads_elsewhere_is_refused_by_both() {
    let (ours, theirs) = (TestCa::new("ours"), TestCa::new("theirs"));
    let (client, _) = shake(&ours.leaf(&[WEB], A_DAY), &theirs.leaf(&[SHOP], A_DAY), &[SHOP]).await;
    assert!(matches!(client.expect_err("refused"), HandshakeError::Tls(_)));
    // Here only the client trusts both, so it is the server that refuses.
    let client = ours.leaf_with(&[WEB], A_DAY, &[], &(ours.pem() + &theirs.pem()));
    let (_, server) = shake(&client, &theirs.leaf(&[SHOP], A_DAY), &[SHOP]).await;
    assert!(matches!(server.expect_err("refused"), HandshakeError::Tls(_)));
}

#[tokio::test]
async fn intermediates_and_several_roots_meet() {
    let (one, two) = (TestCa::new("one"), TestCa::new("two"));
    let roots = one.pem() + &two.pem();
    let between = one.intermediate("between");
    let client = between.leaf_with(&[WEB], A_DAY, &[between.pem()], &roots);
    let server = two.leaf_with(&[SHOP], A_DAY, &[], &roots);
    let (client, server) = shake(&client, &server, &[SHOP]).await;
    client.expect("client");
    assert_eq!(server.expect("server").peer, id(WEB));
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ca = TestCa::new("root");
    let past = Life { begun: Duration::from_secs(7200), lasts: Duration::from_secs(3600) };
    let expired = ca.leaf(&[SHOP], past);
    assert!(expired.is_expired(std::time::SystemTime::now()));
    let (client, _) = shake(&ca.leaf(&[WEB], A_DAY), &expired, &[SHOP]).await;
    assert!(matches!(client.expect_err("refused"), HandshakeError::Tls(_)));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = TestCa::new("root");
    let server = ca.leaf(&[SHOP], A_DAY);
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("versions");
    let verifier = ExpectedServer::verifier(server.anchors().clone(), [id(SHOP)].into(), provider());
    let bare = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let connecting = TlsConnector::from(Arc::new(bare)).connect(name, near);
    let (_, server) = tokio::join!(connecting, accept(far, &server, SOON));
    assert!(matches!(server.expect_err("refused"), HandshakeError::Tls(_)));
}

/// Also one that prefers the other cipher: a peer of another make.
#[tokio::test]
async fn a_classic_client_is_accepted() {
    let ca = TestCa::new("root");
    let (client, server) = (ca.leaf(&[WEB], A_DAY), ca.leaf(&[SHOP], A_DAY));
    let mut classic = (*provider()).clone();
    classic.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    classic.cipher_suites.reverse();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(server.roots().iter().cloned());
    let verifier = ExpectedServer::verifier(Arc::new(roots), [id(SHOP)].into(), provider());
    let builder = ClientConfig::builder_with_provider(Arc::new(classic));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("versions");
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(client.client_towards([id(SHOP)].into()).client_auth_cert_resolver.clone());
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, near);
    let (connected, server) = tokio::join!(connecting, accept(far, &server, SOON));
    let connected = connected.expect("client");
    let suite = connected.get_ref().1.negotiated_cipher_suite().expect("a suite").suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);
    assert_eq!(server.expect("server").peer, id(WEB));
}

#[tokio::test]
async fn the_first_message_names_no_server_and_offers_h2_only() {
    let ca = TestCa::new("root");
    let client = ca.leaf(&[WEB], A_DAY);
    let (near, mut far) = duplex(64 * 1024);
    let mut hello = vec![0; 16 * 1024];
    let reading = async {
        let length = far.read(&mut hello).await.expect("read");
        drop(far);
        length
    };
    let (_, length) = tokio::join!(connect(near, &client, [id(SHOP)].into(), SOON), reading);
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &hello[..length]).expect("read");
    let accepted = acceptor.accept().expect("a whole ClientHello").expect("done");
    let hello = accepted.client_hello();
    assert_eq!(hello.server_name(), None);
    assert_eq!(hello.alpn().expect("alpn").collect::<Vec<_>>(), [b"h2"]);
    let offered = [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384];
    assert_eq!(hello.cipher_suites(), offered, "AES in GCM only, the cheaper one first");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_at_the_deadline() {
    let ca = TestCa::new("root");
    let certificate = ca.leaf(&[WEB], A_DAY);
    let (near, _far) = duplex(64 * 1024);
    assert!(matches!(accept(near, &certificate, SOON).await, Err(HandshakeError::Timeout(_))));
    let (near, _far) = duplex(64 * 1024);
    let connecting = connect(near, &certificate, [id(SHOP)].into(), SOON);
    assert!(matches!(connecting.await, Err(HandshakeError::Timeout(_))));
}

#[tokio::test]
async fn garbage_is_an_error() {
    let ca = TestCa::new("root");
    let certificate = ca.leaf(&[WEB], A_DAY);
    let (near, mut far) = duplex(64 * 1024);
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("write");
    assert!(matches!(accept(near, &certificate, SOON).await, Err(HandshakeError::Tls(_))));
    let (near, far) = duplex(64 * 1024);
    drop(far);
    assert!(matches!(accept(near, &certificate, SOON).await, Err(HandshakeError::Connection(_))));
}
