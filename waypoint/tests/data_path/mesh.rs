//! Through the mesh: a client's tunnel in, a tunnel to the endpoint out.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_hbone::{
    client::{self, Client, ConnectError},
    request::{Connect, Forwarded, TraceParent},
    settings::Settings,
    stream::Tunnel,
};
use lateen_identity::handshake;
use lateen_net::{accept, listen};
use lateen_waypoint::door;
use lateen_wire::{proxy, workload};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    endpoints::{echo, http, raw, tunnels, tunnels_asked},
    rig::{HOST, PORT, Rig, Service, VIP, cluster, endpoint, id, soon, until},
};

/// The door of a waypoint whose one endpoint is reached through a tunnel.
async fn door(rig: &Rig, ip: &str) -> std::net::SocketAddr {
    tunnels(rig, ip, id("echo"), |tunnel| http(tunnel, echo)).await;
    let hbone = workload::TunnelProtocol::Hbone.into();
    let at = std::net::SocketAddr::new(ip.parse().expect("an address"), 8080);
    rig.workloads(vec![workload::Workload { tunnel_protocol: hbone, ..endpoint(at) }]);
    let any = "127.0.0.1:0".parse().expect("valid");
    let listener = listen::tcp(any, &listen::ListenOptions::default()).expect("bind").socket;
    let addr = listener.local_addr().expect("bound");
    let (lane, owner) = (rig.lane.clone(), (rig.tasks.clone(), rig.drain.clone()));
    let accepting =
        accept::run("door", (listener, 100), owner, move |stream, peer| door::handle(lane.clone(), stream, peer));
    rig.tasks.spawn("door", accepting);
    addr
}

/// What a client's ztunnel does.
async fn enter(rig: &Rig, to: std::net::SocketAddr) -> Client {
    let stream = TcpStream::connect(to).await.expect("connect");
    let ours = rig.ca.leaf(&id("client"));
    let secured = handshake::connect(stream, &ours, [id("waypoint")].into(), handshake::HANDSHAKE_TIMEOUT);
    let secured = secured.await.expect("mutual TLS");
    client::open(secured.stream, &Settings::default(), &rig.tasks, &rig.drain).await.expect("HTTP/2")
}

async fn connect(client: &Client, authority: &str) -> Result<Tunnel, ConnectError> {
    let connect = Connect {
        authority: authority.parse().expect("valid"),
        baggage: None,
        forwarded: Forwarded { client: "127.0.0.1:4711".parse().expect("valid"), host: None },
        traceparent: TraceParent::random(),
        network: None,
        client: None,
    };
    soon("the answer to CONNECT", client.connect(&connect)).await.map(|(tunnel, _)| tunnel)
}

async fn get(tunnel: Tunnel, path: &str) -> (StatusCode, String) {
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(tunnel)).await.expect("HTTP");
    let request = Request::get(path).header("host", "echo").body(Empty::<bytes::Bytes>::new()).expect("valid");
    let answering = async {
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("the whole body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    tokio::select! {
        answer = soon("the answer", answering) => answer,
        ended = connection => panic!("the connection ended early: {ended:?}"),
    }
}

#[tokio::test]
async fn a_request_goes_through_both_tunnels_by_address_and_by_name() {
    let rig = Rig::serving(Service::default(), &[]);
    let door = door(&rig, "127.77.0.1").await;
    let client = enter(&rig, door).await;
    for authority in [format!("{VIP}:{PORT}"), format!("{HOST}:{PORT}")] {
        let tunnel = connect(&client, &authority).await.expect("served");
        let (status, text) = get(tunnel, "/hello?x=1").await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert!(text.starts_with("HTTP/1.1 GET /hello?x=1\n"), "{text}");
        assert!(text.contains("host: echo\n") && text.contains("x-forwarded-proto: http\n"), "{text}");
    }
    assert_eq!(rig.lane.tunnels.connections(), 1, "one connection carries all tunnels to an endpoint");
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let rig = Rig::serving(Service::default(), &[]);
    let door = door(&rig, "127.77.0.2").await;
    let client = enter(&rig, door).await;
    for (authority, expected) in
        [("10.96.0.9:80", 404), ("other.shop.svc.cluster.local:80", 404), ("10.96.0.1:81", 404)]
    {
        match connect(&client, authority).await {
            Err(ConnectError::Status(status)) => assert_eq!(status.as_u16(), expected, "{authority}"),
            other => panic!("{authority}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_somebody_else_gets_no_request() {
    let rig = Rig::serving(Service::default(), &[]);
    let door = door(&rig, "127.77.0.3").await;
    // The same place, but what the world says of it is another account.
    let at = "127.77.0.3:8080".parse().expect("valid");
    rig.workloads(vec![workload::Workload {
        tunnel_protocol: workload::TunnelProtocol::Hbone.into(),
        service_account: "other".into(),
        ..endpoint(at)
    }]);
    let client = enter(&rig, door).await;
    let tunnel = connect(&client, &format!("{VIP}:{PORT}")).await.expect("served");
    let (status, text) = get(tunnel, "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("remote connection failure, transport failure reason"), "{text}");
}

#[tokio::test]
async fn http2_and_opaque_bytes_go_through_too() {
    let rig = Rig::serving(Service { protocol: proxy::Protocol::Auto, ..Service::default() }, &[]);
    let door = door(&rig, "127.77.0.4").await;
    let client = enter(&rig, door).await;
    let tunnel = connect(&client, &format!("{VIP}:{PORT}")).await.expect("served");
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tunnel)).await.expect("HTTP/2");
    rig.tasks.spawn("client", async move { drop(connection.await) });
    let request = Request::get("http://echo/two").body(Empty::<bytes::Bytes>::new()).expect("valid");
    let response = soon("the answer", sender.send_request(request)).await.expect("an answer");
    let body = response.into_body().collect().await.expect("the whole body").to_bytes();
    assert!(body.starts_with(b"HTTP/1.1 GET /two\n"), "{}", String::from_utf8_lossy(&body));
}

#[tokio::test]
async fn what_is_in_the_mesh_is_reached_through_it_whatever_address_was_dialled() {
    let simple = proxy::load_balancer::Kind::Simple(proxy::load_balancer::Simple::Passthrough.into());
    let policy = proxy::TrafficPolicy {
        load_balancer: Some(proxy::LoadBalancer { kind: Some(simple), ..Default::default() }),
        ..Default::default()
    };
    let clusters = vec![cluster(proxy::Protocol::Http, policy)];
    let rig = Rig::serving(Service { clusters, ..Service::default() }, &[]);
    let door = door(&rig, "127.77.0.5").await;
    let client = enter(&rig, door).await;
    let tunnel = connect(&client, &format!("{VIP}:{PORT}")).await.expect("served");
    let (status, text) = get(tunnel, "/").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(rig.lane.tunnels.connections(), 1);
}

#[tokio::test]
async fn an_endpoint_of_another_network_is_not_dialled_here() {
    let rig = Rig::serving(Service::default(), &[]);
    let door = door(&rig, "127.77.0.6").await;
    let at = "127.77.0.6:8080".parse().expect("valid");
    let hbone = workload::TunnelProtocol::Hbone.into();
    rig.workloads(vec![workload::Workload { tunnel_protocol: hbone, network: "far".into(), ..endpoint(at) }]);
    let client = enter(&rig, door).await;
    let tunnel = connect(&client, &format!("{VIP}:{PORT}")).await.expect("served");
    let (status, text) = get(tunnel, "/").await;
    assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream"));
}

/// Nothing is read from it then, and nothing is written to it.
#[tokio::test]
async fn who_leaves_while_its_body_is_not_taken_is_missed() {
    let rig = Rig::serving(Service::default(), &[]);
    let door = door(&rig, "127.77.0.7").await;
    // It holds its connections, and reads nothing of them.
    let deaf = raw(&rig, |stream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await;
    rig.endpoints(&[deaf.addr]);
    let client = enter(&rig, door).await;
    let mut tunnel = connect(&client, &format!("{VIP}:{PORT}")).await.expect("served");
    tunnel.write_all(b"POST / HTTP/1.1\r\nhost: echo\r\ntransfer-encoding: chunked\r\n\r\n").await.expect("write");
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    // Until nobody takes more: what sockets hold by themselves is megabytes.
    while tokio::time::timeout(Duration::from_secs(1), tunnel.write_all(&chunk)).await.is_ok() {}
    assert_eq!(rig.lane.active(), 1);
    drop(tunnel);
    until("nothing is under way", || rig.lane.active() == 0).await;
}

/// A client's proxy may have heard of a new service before we have.
#[tokio::test]
async fn what_is_called_before_we_are_told_of_it_waits_for_the_news() {
    let rig = Rig::new();
    rig.endpoints(&[]);
    let authority = format!("{VIP}:{PORT}").parse().expect("valid");
    let mut waiting = Box::pin(door::awaited(&rig.shared, &authority));
    assert!(futures::poll!(&mut waiting).is_pending(), "it is not refused at once");
    rig.configure(Service::default());
    let target = soon("the target", waiting).await.expect("served");
    assert_eq!(target.port(), PORT);
    // Whatever never becomes known is refused all the same.
    let other = "10.96.0.9:80".parse().expect("valid");
    assert!(soon("the refusal", door::awaited(&rig.shared, &other)).await.is_err());
}

/// What a gateway does where the service says that its waypoint is to be passed: the tunnel asks for the service.
#[tokio::test]
async fn a_service_is_reached_through_its_waypoint_or_not_at_all() {
    let ip = "127.77.0.40";
    let through = || proxy::Cluster {
        resolution: proxy::Resolution::OfWaypoint.into(),
        ..cluster(proxy::Protocol::Http, proxy::TrafficPolicy::default())
    };
    let rig = Rig::serving(Service { clusters: vec![through()], ..Service::default() }, &[]);
    let refused = rig.exchange(b"GET / HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let asked = tunnels_asked(&rig, ip, id("guard")).await;
    rig.behind_waypoint(ip, "guard");
    let answer = rig.exchange(b"GET /x HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("GET /x"), "{answer}");
    assert_eq!(asked.lock().as_slice(), [format!("{VIP}:{PORT}")]);
}
