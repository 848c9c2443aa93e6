//! A route that nobody can read costs what it matches, and nothing else of its gateway.

use lateen_wire::proxy::{self, path_match};

use super::{
    logged,
    rig::{ask, door, get, hosts, listener},
    serving,
};
use crate::rig::forward;

fn path(kind: path_match::Kind) -> proxy::HttpMatch {
    proxy::HttpMatch {
        path: Some(proxy::PathMatch { kind: Some(kind), ignore_case: false }),
        ..proxy::HttpMatch::default()
    }
}

#[tokio::test]
async fn a_route_that_cannot_be_read_answers_500_in_its_place() {
    let to_service = |name: &str, of: proxy::HttpMatch| proxy::HttpRoute {
        name: name.into(),
        r#match: Some(of),
        ..forward(proxy::Forward::default())
    };
    let broken = |of: proxy::HttpMatch| to_service("broken", of);
    let marked = proxy::HeaderMatch {
        name: "x-marked".into(),
        value: Some(proxy::StringMatch {
            kind: Some(proxy::string_match::Kind::Exact("1".into())),
            ignore_case: false,
        }),
        ..proxy::HeaderMatch::default()
    };
    let bad_path = proxy::HttpMatch { headers: vec![marked], ..path(path_match::Kind::Regex("/a(".into())) };
    let bad_action = proxy::HttpRoute { action: None, ..broken(path(path_match::Kind::Exact("/none".into()))) };
    let mut all = hosts(&["a.example.com", "b.example.com"]);
    all.hosts[0].routes = vec![
        to_service("first", path(path_match::Kind::Exact("/first".into()))),
        broken(bad_path),
        bad_action,
        forward(proxy::Forward::default()),
    ];
    let rig = serving(vec![listener(proxy::listener::Kind::Http(all))], logged()).await;
    let at = door(&rig);
    let marked = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: a.example.com\r\nconnection: close\r\nx-marked: 1\r\n\r\n").into_bytes()
    };
    for (asks, status) in [
        (get("b.example.com", "/"), 200),
        (get("a.example.com", "/"), 200),
        (marked("/first"), 200),
        (get("a.example.com", "/none"), 500),
        // It may have been meant for this one.
        (marked("/other"), 500),
    ] {
        let answer = ask(at, &asks).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {answer}", String::from_utf8_lossy(&asks));
        let record = rig.record().await;
        assert_eq!(record.contains(" 500 NC cluster_not_found "), status == 500, "{record}");
    }
}
