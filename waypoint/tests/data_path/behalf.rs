//! Whose identity an endpoint's ztunnel is told beside ours.

use std::{net::SocketAddr, sync::Arc};

use lateen_hbone::{request::OnBehalf, server};
use lateen_types::{id::SpiffeId, name::WorkloadUid};
use lateen_waypoint::{
    book::Protocol,
    upstream::{endpoint::Endpoint, terms::on_behalf_of},
};
use lateen_wire::{proxy, workload};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    endpoints::{arrivals, echo, http},
    rig::{HOST, Rig, Service, cluster, ejecting, endpoint, id, soon},
};

/// What the endpoint's ztunnel was told, of each tunnel.
type Heard = Arc<Mutex<Vec<OnBehalf>>>;

fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), 8080)
}

/// A workload behind the service whose ztunnel asks whom its waypoint calls for.
fn asking(at: SocketAddr) -> workload::Workload {
    let extension = workload::Extension { name: "lateen.client_identity".into(), config: None };
    workload::Workload { extensions: vec![extension], ..silent(at) }
}

/// The same with one that does not.
fn silent(at: SocketAddr) -> workload::Workload {
    workload::Workload { tunnel_protocol: workload::TunnelProtocol::Hbone.into(), ..endpoint(at) }
}

/// An endpoint behind a ztunnel that keeps what it is told.
async fn listening(rig: &Rig, ip: &str) -> Heard {
    let heard = Heard::default();
    let told = heard.clone();
    let serve = move |arrival: server::Arrival| {
        told.lock().push(arrival.request.on_behalf.clone());
        http(arrival.accept(None).expect("the waypoint waits"), echo)
    };
    arrivals(rig, ip, id("echo"), serve).await;
    heard
}

/// One request of `client` on a connection of its own; what it is answered.
async fn ask(rig: &Rig, protocol: Protocol, client: Option<SpiffeId>) -> String {
    let mut stream = rig.connect_as(protocol, client).await;
    // A header of the request's own says nothing: it is the tunnel that is spoken of.
    let request = "GET / HTTP/1.1\r\nhost: echo\r\nx-lateen-client-identity: spiffe://cluster.local/ns/shop/sa/forged\r\n\
                   connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

/// The same of one that the endpoint answers.
async fn get(rig: &Rig, protocol: Protocol, client: Option<SpiffeId>) -> String {
    let answer = ask(rig, protocol, client).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn named(account: &str) -> OnBehalf {
    OnBehalf::Client(id(account))
}

#[tokio::test]
async fn each_client_has_connections_of_its_own_to_who_asks() {
    let rig = Rig::serving(Service::default(), &[]);
    let heard = listening(&rig, "127.77.21.1").await;
    rig.workloads(vec![asking(at("127.77.21.1"))]);
    for client in ["a", "b", "a", "b"] {
        get(&rig, Protocol::Http, Some(id(client))).await;
    }
    assert_eq!(*heard.lock(), [named("a"), named("b")], "one connection for each, kept for its next request");
    get(&rig, Protocol::Http, None).await;
    assert_eq!(heard.lock().last(), Some(&OnBehalf::Itself), "of a client that has proven nothing");
    assert_eq!(rig.lane.tunnels.connections(), 1, "all in one connection of ours");
}

#[tokio::test]
async fn who_does_not_ask_is_not_told_and_clients_share_connections() {
    let rig = Rig::serving(Service::default(), &[]);
    let heard = listening(&rig, "127.77.21.2").await;
    rig.workloads(vec![silent(at("127.77.21.2"))]);
    for client in ["a", "b", "a"] {
        get(&rig, Protocol::Http, Some(id(client))).await;
    }
    assert_eq!(*heard.lock(), [OnBehalf::Itself]);
    // It is asked for from now on: nothing goes on a connection that was begun for nobody.
    rig.workloads(vec![asking(at("127.77.21.2"))]);
    get(&rig, Protocol::Http, Some(id("a"))).await;
    assert_eq!(*heard.lock(), [OnBehalf::Itself, named("a")]);
}

#[tokio::test]
async fn bytes_that_are_not_looked_into_are_told_of_too() {
    let clusters = vec![cluster(proxy::Protocol::Tcp, proxy::TrafficPolicy::default())];
    let rig = Rig::serving(Service { protocol: proxy::Protocol::Tcp, clusters, ..Service::default() }, &[]);
    let heard = listening(&rig, "127.77.21.3").await;
    rig.workloads(vec![asking(at("127.77.21.3"))]);
    let answer = get(&rig, Protocol::Tcp, Some(id("a"))).await;
    assert!(answer.contains("sa/forged"), "the request went through as it was: {answer}");
    get(&rig, Protocol::Tcp, Some(id("b"))).await;
    assert_eq!(*heard.lock(), [named("a"), named("b")]);
}

#[tokio::test]
async fn only_those_whose_waypoint_we_are_are_told() {
    let rig = Rig::serving(Service::default(), &[]);
    let told = |one: workload::Workload, client: Option<&SpiffeId>| {
        let uid = WorkloadUid::from(one.uid.as_str());
        rig.workloads(vec![one]);
        let world = rig.shared.world.load();
        let endpoint = Endpoint::workload(world.workload(&uid).expect("known"), at("10.0.0.1"));
        on_behalf_of(&rig.shared, &endpoint, client)
    };
    let (ours, client) = (asking(at("10.0.0.1")), id("a"));
    assert_eq!(told(ours.clone(), Some(&client)), Some(client.clone()));
    assert_eq!(told(ours.clone(), None), None);
    assert_eq!(told(silent(at("10.0.0.1")), Some(&client)), None);
    let plain = workload::Workload { tunnel_protocol: workload::TunnelProtocol::None.into(), ..ours.clone() };
    assert_eq!(told(plain, Some(&client)), None, "in clear nobody is told");
    let services = [(format!("shop/other-{HOST}"), workload::PortList::default())].into();
    let others = workload::Workload { services, ..ours };
    assert_eq!(told(others, Some(&client)), None, "we are no waypoint of it, and would be refused");
}

/// Else a client that is not let in could have the endpoint taken from those who are.
#[tokio::test]
async fn whom_the_endpoints_own_policies_refuse_does_no_harm_to_its_health() {
    let policy = proxy::TrafficPolicy { outlier: Some(ejecting(1)), ..Default::default() };
    let clusters = vec![cluster(proxy::Protocol::Http, policy)];
    let rig = Rig::serving(Service { clusters, ..Service::default() }, &[]);
    arrivals(&rig, "127.77.21.4", id("echo"), |arrival: server::Arrival| async {
        if arrival.request.on_behalf == named("denied") {
            return arrival.refuse(http::StatusCode::UNAUTHORIZED).expect("the waypoint waits");
        }
        http(arrival.accept(None).expect("the waypoint waits"), echo).await;
    })
    .await;
    rig.workloads(vec![asking(at("127.77.21.4"))]);
    for _ in 0..3 {
        let refused = ask(&rig, Protocol::Http, Some(id("denied"))).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("401"), "{refused}");
        get(&rig, Protocol::Http, Some(id("a"))).await;
    }
}
