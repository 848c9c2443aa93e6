//! Names of a small cluster, hostile bytes, and both transports on real sockets.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use lateen_rt::tasks::Tasks;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};

use super::{
    Sockets,
    answer::{Transport, answer},
    serve_zone,
    zone::Zone,
};

fn zone() -> Zone {
    let services: Vec<Service> = serde_json::from_value(json!([
        service(
            "web",
            json!({ "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
                               "ports": [{ "name": "http", "port": 80 }] })
        ),
        service("v4", json!({ "clusterIP": "10.96.0.6" })),
        service("db", json!({ "clusterIP": "None", "ports": [{ "name": "sql", "port": 5432 }] })),
        service("large", json!({ "clusterIP": "None" })),
        service("out", json!({ "type": "ExternalName", "externalName": "example.org" })),
        service("alias", json!({ "type": "ExternalName", "externalName": "web.shop.svc.cluster.local" })),
        service("loop", json!({ "type": "ExternalName", "externalName": "loop.shop.svc.cluster.local" })),
    ]))
    .expect("services");
    let many: Vec<Value> = (0..200).map(|at| json!({ "addresses": [format!("10.250.0.{at}")] })).collect();
    let slices: Vec<EndpointSlice> = serde_json::from_value(json!([
        slice(
            "db",
            json!([
                { "addresses": ["10.1.0.1"], "hostname": "db-0", "conditions": { "ready": true } },
                { "addresses": ["10.1.0.2"], "conditions": { "ready": true } },
                { "addresses": ["10.1.0.3"], "hostname": "db-2", "conditions": { "ready": false } },
            ])
        ),
        slice("large", many.into()),
    ]))
    .expect("slices");
    Zone::of("cluster.local", services.iter(), slices.iter())
}

fn service(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": spec })
}

fn slice(service: &str, endpoints: Value) -> Value {
    json!({
        "metadata": { "name": service, "namespace": "shop", "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "ports": [{ "name": "sql", "port": 5432 }], "endpoints": endpoints,
    })
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).expect("a name"), kind));
    message
}

fn asked(message: &Message, transport: Transport) -> Message {
    let zone = zone();
    let bytes = answer(&message.to_vec().expect("bytes"), Some(&zone), transport).expect("an answer");
    Message::from_vec(&bytes).expect("a message")
}

fn data(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn names_have_the_records_the_specification_gives_them() {
    use RecordType::{A, AAAA, NS, SRV};
    use ResponseCode::{NXDomain, NoError, ServFail};
    let cases: &[(&str, RecordType, ResponseCode, &[&str])] = &[
        ("web.shop.svc.cluster.local.", A, NoError, &["10.96.0.5"]),
        ("WEB.Shop.svc.cluster.local.", A, NoError, &["10.96.0.5"]),
        ("web.shop.svc.cluster.local.", AAAA, NoError, &["fd00::5"]),
        ("web.shop.svc.cluster.local.", NS, NoError, &[]),
        ("v4.shop.svc.cluster.local.", AAAA, NoError, &[]),
        ("_http._tcp.web.shop.svc.cluster.local.", SRV, NoError, &["0 100 80 web.shop.svc.cluster.local."]),
        ("db.shop.svc.cluster.local.", A, NoError, &["10.1.0.1", "10.1.0.2"]),
        ("db-0.db.shop.svc.cluster.local.", A, NoError, &["10.1.0.1"]),
        ("10-1-0-2.db.shop.svc.cluster.local.", A, NoError, &["10.1.0.2"]),
        ("db-2.db.shop.svc.cluster.local.", A, NXDomain, &[]),
        (
            "_sql._tcp.db.shop.svc.cluster.local.",
            SRV,
            NoError,
            &["0 100 5432 10-1-0-2.db.shop.svc.cluster.local.", "0 100 5432 db-0.db.shop.svc.cluster.local."],
        ),
        ("out.shop.svc.cluster.local.", A, NoError, &["example.org."]),
        ("alias.shop.svc.cluster.local.", A, NoError, &["web.shop.svc.cluster.local.", "10.96.0.5"]),
        ("loop.shop.svc.cluster.local.", A, ServFail, &["loop.shop.svc.cluster.local."; 8]),
        ("none.shop.svc.cluster.local.", A, NXDomain, &[]),
        ("shop.svc.cluster.local.", A, NoError, &[]),
        ("cluster.local.", A, NoError, &[]),
        ("example.org.", A, NXDomain, &[]),
        ("notcluster.local.", A, NXDomain, &[]),
        ("web.shop.svc.cluster.local.shop.svc.cluster.local.", A, NXDomain, &[]),
    ];
    for (name, kind, code, records) in cases {
        let reply = asked(&query(name, *kind), Transport::Udp);
        assert_eq!((reply.metadata.response_code, reply.metadata.id), (*code, 7), "{name} {kind}");
        assert_eq!(data(&reply), *records, "{name} {kind}");
        let ours = name.ends_with(".cluster.local.") || *name == "cluster.local.";
        assert_eq!(reply.metadata.authoritative, ours, "{name} {kind}");
        let denied = ours && records.is_empty();
        assert_eq!(reply.authorities.len(), usize::from(denied), "{name} {kind}: resolvers may remember");
    }
}

#[test]
fn a_long_answer_is_cut_for_udp_only() {
    let plain = query("large.shop.svc.cluster.local.", RecordType::A);
    let mut with_edns = plain.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    with_edns.set_edns(edns);
    let (small, medium, all) =
        (asked(&plain, Transport::Udp), asked(&with_edns, Transport::Udp), asked(&plain, Transport::Tcp));
    assert!(small.metadata.truncation && medium.metadata.truncation && !all.metadata.truncation);
    assert!(small.to_vec().expect("bytes").len() <= 512 && medium.to_vec().expect("bytes").len() <= 1232);
    assert!((1..medium.answers.len()).contains(&small.answers.len()), "as many as fit");
    assert!(medium.edns.is_some() && small.edns.is_none());
    assert_eq!(all.answers.len(), 200);
}

#[test]
fn what_is_no_query_is_told_so_or_dropped() {
    let zone = zone();
    let code = |message: &Message| {
        let bytes = answer(&message.to_vec().expect("bytes"), Some(&zone), Transport::Udp).expect("an answer");
        Message::from_vec(&bytes).expect("a message").metadata.response_code
    };
    let web = query("web.shop.svc.cluster.local.", RecordType::A);
    let mut update = web.clone();
    update.metadata.op_code = OpCode::Status;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut two = web.clone();
    two.add_query(web.queries[0].clone());
    assert_eq!(code(&two), ResponseCode::FormErr);
    assert_eq!(code(&Message::new(1, MessageType::Query, OpCode::Query)), ResponseCode::FormErr);
    let reply = Message::response(1, OpCode::Query).to_vec().expect("bytes");
    assert_eq!(answer(&reply, Some(&zone), Transport::Udp), None, "answers are not answered");
    assert_eq!(answer(b"short", Some(&zone), Transport::Udp), None);
    let garbage = [0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 255, 255];
    let told = answer(&garbage, Some(&zone), Transport::Udp).expect("an answer");
    let told = Message::from_vec(&told).expect("a message");
    assert_eq!((told.metadata.id, told.metadata.response_code), (9, ResponseCode::FormErr));

    let early = answer(&web.to_vec().expect("bytes"), None, Transport::Udp).expect("an answer");
    let early = Message::from_vec(&early).expect("a message");
    assert_eq!(early.metadata.response_code, ResponseCode::ServFail, "before the zone is known");
}

#[test]
fn mutated_queries_never_panic_and_answers_always_parse() {
    let seed: u64 = rand::rng().random();
    let mut rng = StdRng::seed_from_u64(seed);
    let zone = zone();
    let original = query("db.shop.svc.cluster.local.", RecordType::A).to_vec().expect("bytes");
    for case in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        bytes.truncate(rng.random_range(0..=bytes.len() * 2));
        if let Some(reply) = answer(&bytes, Some(&zone), Transport::Udp) {
            assert!(Message::from_vec(&reply).is_ok(), "seed {seed} case {case}: {bytes:?}");
            assert!(reply.len() <= 1232, "seed {seed} case {case}");
        }
    }
}

#[tokio::test]
async fn both_transports_answer_and_share_the_latest_zone() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let (over_udp, over_tcp) = (udp.local_addr().expect("an address"), tcp.local_addr().expect("an address"));
    let (tell, latest) = watch::channel(None);
    let tasks = Tasks::new();
    serve_zone(Sockets { udp: vec![udp], tcp: vec![tcp] }, &latest, &tasks);
    let asked = query("large.shop.svc.cluster.local.", RecordType::A).to_vec().expect("bytes");

    let client = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let ask_udp = async || {
        client.send_to(b"no query", over_udp).await.expect("send");
        client.send_to(&asked, over_udp).await.expect("send");
        let mut bytes = [0; 2048];
        let count = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut bytes)).await.expect("in time");
        Message::from_vec(&bytes[..count.expect("receive")]).expect("a message")
    };
    assert_eq!(ask_udp().await.metadata.response_code, ResponseCode::ServFail);
    tell.send_replace(Some(Arc::new(zone())));
    assert!(ask_udp().await.metadata.truncation);

    let mut stream = TcpStream::connect(over_tcp).await.expect("connect");
    for _ in 0..2 {
        stream.write_u16(u16::try_from(asked.len()).expect("short")).await.expect("write");
        // In two pieces, as a slow sender would.
        let (head, tail) = asked.split_at(5);
        stream.write_all(head).await.expect("write");
        stream.write_all(tail).await.expect("write");
        let length = stream.read_u16().await.expect("read");
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.expect("read");
        assert_eq!(Message::from_vec(&bytes).expect("a message").answers.len(), 200);
    }
}
