//! Connections whose bytes nobody looks into: what they say of their endpoints.

use std::net::SocketAddr;

use lateen_rt::tasks::Tasks;
use lateen_waypoint::book::Protocol;
use lateen_wire::proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    endpoints::{Endpoint, raw},
    rig::{Rig, Service, cluster, ejecting, soon},
};

fn serving(policy: proxy::TrafficPolicy) -> Rig {
    let clusters = vec![cluster(proxy::Protocol::Tcp, policy)];
    Rig::serving(Service { protocol: proxy::Protocol::Tcp, clusters, ..Service::default() }, &[])
}

/// Whether a byte comes back.
async fn is_answered(rig: &Rig) -> Option<TcpStream> {
    let mut client = rig.connect(Protocol::Tcp).await;
    client.write_all(b"x").await.ok()?;
    let mut back = [0];
    soon("an answer or the end", client.read_exact(&mut back)).await.ok()?;
    Some(client)
}

async fn echo(mut stream: TcpStream) {
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await.ok();
}

/// Serves one connection there, and then listens no more.
async fn serve_once(tasks: &Tasks, at: SocketAddr) {
    let listener = TcpListener::bind(at).await.expect("an address of our own");
    tasks.spawn("once", async move {
        if let Ok((stream, _)) = listener.accept().await {
            drop(listener);
            echo(stream).await;
        }
    });
}

/// Failures count in a row: a connection that came about begins the count anew.
#[tokio::test]
async fn connections_that_come_about_are_told_to_the_endpoints_health() {
    for (ip, split_local_errors) in [("127.77.22.1", false), ("127.77.22.2", true)] {
        let outlier = proxy::OutlierDetection { consecutive_local_errors: 2, split_local_errors, ..ejecting(2) };
        let rig = serving(proxy::TrafficPolicy { outlier: Some(outlier), ..Default::default() });
        let at = SocketAddr::new(ip.parse().expect("an address"), 8080);
        rig.endpoints(&[at]);
        for _ in 0..3 {
            assert!(is_answered(&rig).await.is_none(), "nobody listens");
            serve_once(&rig.tasks, at).await;
            assert!(is_answered(&rig).await.is_some(), "it is not left out");
        }
        assert!(is_answered(&rig).await.is_none());
        assert!(is_answered(&rig).await.is_none(), "the second in a row");
        serve_once(&rig.tasks, at).await;
        assert!(is_answered(&rig).await.is_none(), "it is left out");
    }
}

#[tokio::test]
async fn open_connections_count_where_the_least_busy_is_chosen() {
    let rig = serving(proxy::TrafficPolicy::default());
    let endpoints: [Endpoint; 2] = [raw(&rig, echo).await, raw(&rig, echo).await];
    rig.endpoints(&[endpoints[0].addr, endpoints[1].addr]);
    let counts = || [endpoints[0].connections(), endpoints[1].connections()];
    let mut open = Vec::new();
    for round in 1..=10 {
        for _ in 0..2 {
            open.push(is_answered(&rig).await.expect("served"));
        }
        assert_eq!(counts(), [round, round], "each has as many as the other");
    }
}
