//! What is planned, as text, and what it does in a real namespace.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use lateen_net::{netns::Netns, nft};
use serde_json::{Value, json};

use super::plan::{TABLE, VirtualPort, ports, table};

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": spec }))
        .expect("a service")
}

fn slice(service: &str, family: &str, ports: &Value, endpoints: &Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": { "name": format!("{service}-{family}"), "namespace": "shop",
                      "labels": { "kubernetes.io/service-name": service } },
        "addressType": family, "ports": ports, "endpoints": endpoints,
    }))
    .expect("a slice")
}

fn endpoint(ip: &str, node: &str, ready: bool, terminating: bool) -> Value {
    json!({ "addresses": [ip], "nodeName": node,
            "conditions": { "ready": ready, "serving": ready || terminating, "terminating": terminating } })
}

fn web() -> (Vec<Service>, Vec<EndpointSlice>) {
    let ports = json!([{ "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }]);
    let targets = json!([{ "name": "http", "port": 8080 }, { "name": "dns", "port": 5353, "protocol": "UDP" }]);
    let services = vec![
        service(
            "web",
            json!({ "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00:10:96::5"], "ports": ports }),
        ),
        service("empty", json!({ "clusterIP": "10.96.0.6", "ports": [{ "port": 80 }] })),
        service("headless", json!({ "clusterIP": "None", "ports": [{ "port": 80 }] })),
        service("elsewhere", json!({ "type": "ExternalName", "externalName": "example.org" })),
        service("unowned", json!({ "clusterIP": "10.96.0.1", "ports": [{ "port": 443 }] })),
    ];
    let (one, two) = (endpoint("10.1.1.1", "n1", true, false), endpoint("10.1.1.2", "n2", true, false));
    let slices = vec![
        slice("web", "IPv4", &targets, &json!([one, two, endpoint("10.1.1.3", "n1", false, false)])),
        slice("web", "IPv6", &targets, &json!([endpoint("fd00::1", "n1", true, false)])),
        slice("empty", "IPv4", &json!([]), &json!([])),
        slice("headless", "IPv4", &json!([{ "port": 80 }]), &json!([one])),
    ];
    (services, slices)
}

fn planned(services: &[Service], slices: &[EndpointSlice]) -> Vec<VirtualPort> {
    ports(services.iter(), slices.iter(), "n1")
}

#[test]
fn the_table_is_the_golden_one() {
    let (services, slices) = web();
    let expected = include_str!("golden.nft");
    let found = table(&planned(&services, &slices));
    assert_eq!(found, expected, "if the change is meant, write this to services/golden.nft:\n{found}");
}

/// The chosen endpoints of the service's only port.
fn chosen(spec: Value, endpoints: &Value) -> Vec<String> {
    let slices = [slice("web", "IPv4", &json!([{ "port": 8080 }]), endpoints)];
    let ports = planned(&[service("web", spec)], &slices);
    assert_eq!(ports.len(), 1);
    ports[0].endpoints.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn endpoints_are_the_ready_ones_or_else_those_that_still_serve() {
    let spec = || json!({ "clusterIP": "10.96.0.5", "ports": [{ "port": 80 }] });
    let (ready, unready) = (endpoint("10.1.1.1", "n1", true, false), endpoint("10.1.1.2", "n1", false, false));
    let ending = endpoint("10.1.1.3", "n2", false, true);
    assert_eq!(chosen(spec(), &json!([ready, unready, ending])), ["10.1.1.1:8080"]);
    assert_eq!(chosen(spec(), &json!([unready, ending])), ["10.1.1.3:8080"]);
    assert_eq!(chosen(spec(), &json!([unready])), Vec::<String>::new());
    assert_eq!(chosen(spec(), &json!([{ "addresses": ["10.1.1.9"] }])), ["10.1.1.9:8080"], "unsaid is ready");
    let local = json!({ "clusterIP": "10.96.0.5", "internalTrafficPolicy": "Local", "ports": [{ "port": 80 }] });
    let other = endpoint("10.1.1.4", "n2", true, false);
    assert_eq!(chosen(local, &json!([ready, other])), ["10.1.1.1:8080"]);
}

fn ip(netns: &Netns, args: &[&str]) {
    let output = netns.run(|| Command::new("ip").args(args).output()).expect("enter").expect("run ip (iproute2)");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A namespace whose loopback holds the endpoints' addresses and a route for the service ranges.
fn node() -> Netns {
    let netns = Netns::create().expect("namespaces can be made");
    netns.loopback_up().expect("lo");
    for address in ["10.1.1.1/32", "10.1.1.2/32", "fd00::1/128"] {
        ip(&netns, &["address", "add", address, "dev", "lo"]);
    }
    ip(&netns, &["route", "add", "10.96.0.0/16", "dev", "lo"]);
    ip(&netns, &["-6", "route", "add", "fd00:10:96::/112", "dev", "lo"]);
    netns
}

/// Answers each of `count` connections with the listener's own address.
fn answer(listener: TcpListener, count: usize) -> std::thread::JoinHandle<()> {
    let name = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.write_all(name.as_bytes()).expect("write");
        }
    })
}

fn ask(netns: &Netns, address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut stream = netns.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5))).expect("enter")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[tokio::test]
async fn the_table_does_in_a_namespace_what_it_says() {
    let netns = node();
    let (services, slices) = web();
    let text = table(&planned(&services, &slices));
    for _ in 0..2 {
        nft::transaction(&netns, &text).await.expect("the table is accepted, also in place of itself");
    }
    let listen = |address: &str| netns.run(|| TcpListener::bind(address)).expect("enter").expect("bind");
    let one = listen("10.1.1.1:8080");
    let two = listen("10.1.1.2:8080");
    let six = answer(listen("[fd00::1]:8080"), 1);
    let stop = [answer(one, 64), answer(two, 64)];

    let mut seen = BTreeSet::new();
    // Both are found in at most 64 tries; that one of two is never chosen in 64 would happen once in 2^63 runs.
    for _ in 0..64 {
        seen.insert(ask(&netns, "10.96.0.5:80").expect("answered"));
        if seen.len() == 2 {
            break;
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["10.1.1.1:8080", "10.1.1.2:8080"]);
    assert_eq!(ask(&netns, "[fd00:10:96::5]:80").expect("answered"), "[fd00::1]:8080");
    six.join().expect("answered");
    for refused in ["10.96.0.6:80", "10.96.0.5:81", "[fd00:10:96::5]:81"] {
        assert_eq!(ask(&netns, refused).expect_err("nobody").kind(), ErrorKind::ConnectionRefused, "{refused}");
    }
    udp(&netns);
    drop(stop);
    nft::transaction(&netns, &table(&[])).await.expect("an empty table");
    let listed = nft::list(&netns, TABLE).await.expect("list").expect("there");
    assert!(!listed.contains("chain to_"), "{listed}");
}

fn udp(netns: &Netns) {
    let bind = |address: &str| {
        let socket = netns.run(|| UdpSocket::bind(address)).expect("enter").expect("bind");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a deadline");
        socket
    };
    let (one, two, caller) = (bind("10.1.1.1:5353"), bind("10.1.1.2:5353"), bind("10.1.1.1:0"));
    let answering = std::thread::spawn(move || {
        let mut bytes = [0; 16];
        for socket in [one, two] {
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a deadline");
            if let Ok((count, from)) = socket.recv_from(&mut bytes) {
                socket.send_to(&bytes[..count], from).expect("send");
            }
        }
    });
    caller.send_to(b"ping", "10.96.0.5:53").expect("send");
    let mut bytes = [0; 16];
    let (count, from) = caller.recv_from(&mut bytes).expect("an answer");
    assert_eq!((&bytes[..count], from.to_string().as_str()), (&b"ping"[..], "10.96.0.5:53"));
    answering.join().expect("answered");
}
