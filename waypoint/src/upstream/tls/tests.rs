use std::collections::BTreeMap;

use lateen_types::name::NamespacedHostname;
use lateen_wire::proxy;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;
use crate::book::{BookStore, Change, Cluster, Kind, Protocol, TrafficPolicy, Upstream, cluster::Resolution, compile};

fn ca() -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().expect("a key")).expect("a CA").pem()
}

fn tell(store: &BookStore, name: &str) {
    let credential = proxy::Credential { ca_pem: ca(), ..Default::default() };
    let change = compile::resource(Kind::Credential, &name.into(), &credential.encode_to_vec());
    store.apply([change.expect("a credential")]);
}

fn tls(ca: &str) -> Arc<Tls> {
    Arc::new(Tls {
        credential: None,
        ca: Some(ca.into()),
        server_name: Some("a.example.com".into()),
        subject_alt_names: Box::default(),
        insecure_skip_verify: false,
        mesh_identity: false,
        alpn: Box::default(),
    })
}

fn destination(store: &BookStore, tls: Option<&Arc<Tls>>) {
    let service = NamespacedHostname { namespace: "shop".into(), hostname: "a.example.com".into() };
    let cluster = Cluster {
        upstream: Upstream { service: service.clone(), port: 443, subset: "".into() },
        labels: BTreeMap::new(),
        protocol: Protocol::Http,
        policy: TrafficPolicy { tls: tls.cloned(), ..TrafficPolicy::default() },
        resolution: Resolution::Endpoints,
        unusable: None,
    };
    store.apply([Change::Destination { service, clusters: vec![Arc::new(cluster)] }]);
}

#[tokio::test]
async fn what_was_made_of_the_same_is_the_same_and_of_anything_else_another() {
    let (store, origins) = (BookStore::default(), Origins::default());
    let missing = origins.of(&tls("a"), &store, None).await.expect_err("there is no credential yet");
    assert!(missing.to_string().contains("the credential a has not arrived"), "{missing}");
    tell(&store, "a");
    let first = origins.of(&tls("a"), &store, None).await.expect("made");
    // Another credential changes: not ours.
    tell(&store, "b");
    assert!(Arc::ptr_eq(&first, &origins.of(&tls("a"), &store, None).await.expect("made")));
    let other = origins.of(&tls("b"), &store, None).await.expect("made");
    assert!(!Arc::ptr_eq(&first, &other), "another policy");
    tell(&store, "a");
    let second = origins.of(&tls("a"), &store, None).await.expect("made");
    assert!(!Arc::ptr_eq(&first, &second), "the credential has changed");
    assert!(!origins.holds(&first) && origins.holds(&second));
}

#[tokio::test]
async fn what_nobody_asks_for_any_more_is_forgotten() {
    let (store, origins) = (BookStore::default(), Origins::default());
    tell(&store, "a");
    destination(&store, Some(&tls("a")));
    let made = origins.of(&tls("a"), &store, None).await.expect("made");
    origins.review(&store.load());
    assert!(origins.holds(&made));
    destination(&store, None);
    origins.review(&store.load());
    assert!(!origins.holds(&made));
    destination(&store, Some(&tls("a")));
    let made = origins.of(&tls("a"), &store, None).await.expect("made");
    store.apply([Change::Removed { kind: Kind::Credential, name: "a".into() }]);
    origins.review(&store.load());
    assert!(!origins.holds(&made), "its credential is gone");
}

#[test]
fn of_http_only_what_will_be_spoken_is_offered() {
    let offers = |alpn: &[&str], speak| {
        let alpn = alpn.iter().map(|one| (*one).into()).collect();
        let tls = Tls { alpn, ..Tls::clone(&tls("a")) };
        let offered = offered(&tls, speak).into_iter();
        offered.map(|one| String::from_utf8(one).expect("text")).collect::<Vec<_>>()
    };
    assert_eq!(offers(&[], Some(Speak::Http1)), ["http/1.1"]);
    assert_eq!(offers(&[], Some(Speak::Http2)), ["h2"]);
    assert_eq!(offers(&["h2", "http/1.1"], Some(Speak::Http1)), ["http/1.1"]);
    assert_eq!(offers(&["istio", "h2", "http/1.1"], Some(Speak::Http2)), ["istio", "h2"]);
    assert_eq!(offers(&["http/1.1"], Some(Speak::Http2)), ["h2"]);
    assert!(offers(&[], None).is_empty());
    assert_eq!(offers(&["postgresql"], None), ["postgresql"]);
}

#[test]
fn names_are_what_tls_can_ask_for() {
    for (text, expected) in [
        ("a.example.com", "a.example.com"),
        ("a.example.com.", "a.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "::1"),
    ] {
        assert_eq!(name(text).expect("a name").to_str(), expected);
    }
    for text in ["", "a b", "*", "a..b", "a\0"] {
        assert!(name(text).is_err(), "{text:?}");
    }
}
