//! The configuration changes while clients ask: each request is answered by the one or the other, and none is lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use lateen_waypoint::book::Kind;
use lateen_wire::proxy;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    rig::{Authority, caller, door, ends, listens, put, terminate, tls},
    serving,
};
use crate::rig::{soon, until};

const NAME: &str = "a.example.com";
const CLIENTS: usize = 4;
const CHANGES: usize = 60;

/// A direct answer, which says of which configuration it is; two routes must never be mixed.
fn configured(number: usize) -> proxy::Listener {
    let direct = |path: &str| {
        let answer = proxy::DirectResponse { status: 200, body: format!("{number}").into_bytes() };
        let kind = Some(proxy::path_match::Kind::Exact(path.into()));
        proxy::HttpRoute {
            r#match: Some(proxy::HttpMatch {
                path: Some(proxy::PathMatch { kind, ignore_case: false }),
                ..Default::default()
            }),
            action: Some(proxy::http_route::Action::Direct(answer)),
            ..Default::default()
        }
    };
    let routes = vec![direct("/x"), direct("/y")];
    let host = proxy::VirtualHost { host: NAME.into(), routes, https_redirect: false };
    let then = Some(proxy::terminate::Then::Http(proxy::VirtualHosts { hosts: vec![host] }));
    let mut all = vec![(NAME, terminate(proxy::Terminate { then, ..ends("shop/a", &[]) }))];
    let other = format!("other-{number}.example.com");
    all.push((&other, terminate(ends("shop/missing", &["*"]))));
    tls(all)
}

#[tokio::test]
async fn no_request_is_lost_while_the_configuration_changes() {
    let authority = Arc::new(Authority::new("hosts"));
    let rig = serving(vec![configured(0)], proxy::Options::default()).await;
    put(&rig, Kind::Credential, "shop/a", &authority.host(NAME).credential());
    let at = door(&rig);
    let (answered, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (failed, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(CLIENTS)));
    for client in 0..CLIENTS {
        let (authority, answered, stop) = (authority.clone(), answered.clone(), stop.clone());
        let (failed, left) = (failed.clone(), left.clone());
        rig.tasks.spawn("client", async move {
            let mut kept = caller(&authority).connect(at, NAME).await.expect("connected");
            while !stop.load(Ordering::Relaxed) {
                if client % 2 == 0 {
                    kept = caller(&authority).connect(at, NAME).await.expect("connected");
                }
                kept.write_all(b"GET /x HTTP/1.1\r\nhost: a.example.com\r\n\r\n").await.expect("write");
                let mut answer = vec![0; 1024];
                let length = soon("the answer", kept.read(&mut answer)).await.expect("an answer");
                if answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n") {
                    answered.fetch_add(1, Ordering::Relaxed);
                } else {
                    failed.lock().push(String::from_utf8_lossy(&answer[..length]).into_owned());
                }
            }
            left.fetch_sub(1, Ordering::Relaxed);
        });
    }
    for number in 1..=CHANGES {
        let before = answered.load(Ordering::Relaxed);
        listens(&rig, vec![configured(number)], proxy::Options::default());
        if number % 7 == 0 {
            put(&rig, Kind::Credential, "shop/a", &authority.host(NAME).credential());
        }
        until("somebody was answered since", || answered.load(Ordering::Relaxed) > before).await;
    }
    stop.store(true, Ordering::Relaxed);
    until("all clients are done", || left.load(Ordering::Relaxed) == 0).await;
    assert!(failed.lock().is_empty(), "{:?}", failed.lock());
    until("nothing is under way", || rig.lane.active() == 0).await;
}
