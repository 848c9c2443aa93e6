//! What a cluster carries at once is limited exactly.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use lateen_waypoint::book::Protocol;
use lateen_wire::proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

use super::{
    endpoints::{Endpoint, raw},
    rig::{Rig, Service, cluster, ejecting, soon, until},
};

/// An endpoint that answers a request each time it is given a permit.
async fn patient(rig: &Rig) -> (Endpoint, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let given = permits.clone();
    let endpoint = raw(rig, move |mut stream| {
        let given = given.clone();
        async move {
            let mut head = [0; 4096];
            while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                given.acquire().await.expect("open").forget();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("write");
            }
        }
    })
    .await;
    (endpoint, permits)
}

fn limited(pool: proxy::ConnectionPool) -> Service {
    let policy = proxy::TrafficPolicy { pool: Some(pool), ..Default::default() };
    Service { clusters: vec![cluster(proxy::Protocol::Http, policy)], ..Service::default() }
}

async fn ask(rig: &Rig) -> TcpStream {
    let mut client = rig.connect(Protocol::Http).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("write");
    client
}

async fn answer(mut client: TcpStream) -> String {
    let mut text = Vec::new();
    soon("the answer", client.read_to_end(&mut text)).await.expect("in good order");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn one_connection_one_waits_and_the_third_overflows() {
    let pool = proxy::ConnectionPool { max_connections: Some(1), max_pending_requests: Some(1), ..Default::default() };
    let rig = Rig::serving(limited(pool), &[]);
    let (endpoint, permits) = patient(&rig).await;
    rig.endpoints(&[endpoint.addr]);
    // Warm, as vector 10 wants it: a connection that is being opened takes the place of one that waits.
    permits.add_permits(1);
    assert!(answer(ask(&rig).await).await.ends_with("ok"));
    let upstream = rig.shared.book.load().clusters().next().expect("one").upstream.clone();
    let pool = rig.shared.clusters.of(&upstream);
    until("the connection is idle", || pool.idle(0) == 1).await;

    let first = ask(&rig).await;
    until("the first is sent", || pool.idle(0) == 0).await;
    let second = ask(&rig).await;
    let pending = lateen_waypoint::upstream::health::Counted::Pending;
    until("the second waits", || pool.breaker.count(pending) == 1).await;
    let third = answer(ask(&rig).await).await;
    assert!(third.starts_with("HTTP/1.1 503 ") && third.contains("\r\nx-envoy-overloaded: true\r\n"), "{third}");
    assert!(third.ends_with("reset reason: overflow"), "{third}");
    permits.add_permits(2);
    assert!(answer(first).await.ends_with("ok"));
    assert!(answer(second).await.ends_with("ok"));
    assert_eq!(endpoint.connections(), 1, "one connection served all");
}

#[tokio::test]
async fn requests_under_way_are_limited() {
    let rig = Rig::serving(limited(proxy::ConnectionPool { max_requests: Some(2), ..Default::default() }), &[]);
    let (endpoint, permits) = patient(&rig).await;
    rig.endpoints(&[endpoint.addr]);
    let two = [ask(&rig).await, ask(&rig).await];
    until("two are under way", || endpoint.connections() == 2).await;
    assert!(answer(ask(&rig).await).await.contains("reset reason: overflow"));
    permits.add_permits(2);
    for client in two {
        assert!(answer(client).await.ends_with("ok"));
    }
    until("nothing is under way", || rig.lane.active() == 0).await;
}

#[tokio::test]
async fn a_connection_serves_no_more_requests_than_it_may() {
    let pool = proxy::ConnectionPool { max_requests_per_connection: Some(2), ..Default::default() };
    let rig = Rig::serving(limited(pool), &[]);
    let (endpoint, permits) = patient(&rig).await;
    rig.endpoints(&[endpoint.addr]);
    permits.add_permits(6);
    for _ in 0..6 {
        assert!(answer(ask(&rig).await).await.ends_with("ok"));
        until("nothing is under way", || rig.lane.active() == 0).await;
    }
    assert_eq!(endpoint.connections(), 3);
}

#[tokio::test]
async fn each_endpoint_may_have_a_connection_whatever_the_limit() {
    let pool = proxy::ConnectionPool { max_connections: Some(1), ..Default::default() };
    let rig = Rig::serving(limited(pool), &[]);
    let ((one, permits), (other, more)) = (patient(&rig).await, patient(&rig).await);
    rig.endpoints(&[one.addr, other.addr]);
    permits.add_permits(1000);
    more.add_permits(1000);
    let mut asked = 0;
    while one.connections() == 0 || other.connections() == 0 {
        assert!(answer(ask(&rig).await).await.ends_with("ok"));
        asked += 1;
        assert!(asked < 200, "one endpoint gets no request");
    }
    assert_eq!((one.connections(), other.connections()), (1, 1));
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out() {
    let policy = proxy::TrafficPolicy { outlier: Some(ejecting(1)), ..Default::default() };
    let clusters = vec![cluster(proxy::Protocol::Http, policy)];
    let rig = Rig::serving(Service { clusters, ..Service::default() }, &[]);
    let (good, permits) = patient(&rig).await;
    permits.add_permits(1000);
    let bad = raw(&rig, |mut stream| async move {
        let mut head = [0; 4096];
        while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
            let answer = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.expect("write");
        }
    })
    .await;
    rig.endpoints(&[good.addr, bad.addr]);
    let mut failed = 0;
    for _ in 0..50 {
        failed += usize::from(answer(ask(&rig).await).await.starts_with("HTTP/1.1 500 "));
    }
    assert_eq!(failed, 1, "it is left out from its first failure on");
}

/// An endpoint whose answers say on which of its connections they come, each when it is given a permit.
async fn numbered(rig: &Rig) -> (Endpoint, Arc<Semaphore>) {
    let (permits, count) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let given = permits.clone();
    let endpoint = raw(rig, move |mut stream| {
        let (given, number) = (given.clone(), count.fetch_add(1, Ordering::SeqCst));
        async move {
            let mut head = [0; 4096];
            while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                given.acquire().await.expect("open").forget();
                let says = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                stream.write_all(says.as_bytes()).await.expect("write");
            }
        }
    })
    .await;
    (endpoint, permits)
}

/// Those that are not needed any more are left to grow old.
#[tokio::test]
async fn the_connection_that_rested_last_is_used_first_and_old_ones_end() {
    let rig = Rig::serving(limited(proxy::ConnectionPool::default()), &[]);
    let (endpoint, permits) = numbered(&rig).await;
    rig.endpoints(&[endpoint.addr]);
    let two = [ask(&rig).await, ask(&rig).await];
    until("both are under way", || endpoint.connections() == 2).await;
    permits.add_permits(2);
    for client in two {
        answer(client).await;
    }
    let upstream = rig.shared.book.load().clusters().next().expect("one").upstream.clone();
    let pool = rig.shared.clusters.of(&upstream);
    until("both rest", || pool.idle(0) == 2).await;
    permits.add_permits(5);
    let mut used = Vec::new();
    for _ in 0..5 {
        used.push(answer(ask(&rig).await).await.pop());
        until("it rests again", || pool.idle(0) == 2).await;
    }
    used.dedup();
    assert_eq!(used.len(), 1, "always the same one: {used:?}");
    tokio::time::pause();
    tokio::time::sleep(std::time::Duration::from_secs(3599)).await;
    rig.shared.clusters.sweep(0, |_| true);
    assert_eq!(pool.idle(0), 2, "an hour is not over");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    rig.shared.clusters.sweep(0, |_| true);
    assert_eq!(pool.idle(0), 0, "they have rested for too long");
}
