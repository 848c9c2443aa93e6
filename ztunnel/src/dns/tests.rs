//! The cases of the checklist's DNS section; each names its row.
use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use lateen_net::{
    dial::{self, DialOptions},
    listen::{self, ListenOptions},
    netns::Netns,
};
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_state::{decode, index::Change, workload::PodKey, workload::Workload, world::WorldStore};
use lateen_types::name::WorkloadUid;
use lateen_wire::workload as wire;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    answer::{Decision, Family, Rules, decide},
    forward::{ForwardError, Forwarder, nameservers},
    message::{Parsed, parse},
    serve::{DnsSockets, Resolver, bind, start},
};
use crate::{config::Dns, fixtures::bytes};

const V4: Option<Family> = Some(Family::V4);
const V6: Option<Family> = Some(Family::V6);

/// A service; addresses are `ip` or `network/ip`.
fn service(namespace: &str, hostname: &str, vips: &[&str]) -> wire::Service {
    let vip = |text: &&str| {
        let (network, ip) = text.split_once('/').unwrap_or(("", text));
        wire::NetworkAddress { network: network.into(), address: bytes(ip), length: None }
    };
    wire::Service {
        name: hostname.split('.').next().unwrap_or_default().into(),
        namespace: namespace.into(),
        hostname: hostname.into(),
        addresses: vips.iter().map(vip).collect(),
        ..Default::default()
    }
}

fn workload(name: &str, ips: &[&str], services: &[&str]) -> wire::Workload {
    wire::Workload {
        uid: name.into(),
        name: name.into(),
        namespace: "ns1".into(),
        service_account: "client".into(),
        addresses: ips.iter().map(|ip| bytes(ip)).collect(),
        services: services.iter().map(|key| ((*key).into(), wire::PortList::default())).collect(),
        ..Default::default()
    }
}

/// The world of the checklist: a client in ns1 on the default network.
fn mesh() -> WorldStore {
    let many: Vec<String> = (0..256).map(|last| format!("10.9.{}.{last}", last / 200)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let canonical = wire::Service { canonical: true, ..service("ns4", "canonical.io", &["1.4.4.4"]) };
    let private = wire::service::Visibility::Namespace as i32;
    let services = [
        service("ns1", "www.google.com", &["1.1.1.1"]),
        service("ns1", "productpage.ns1.svc.cluster.local", &["9.9.9.9"]),
        service("ns2", "details.ns2.svc.cluster.local", &["7.7.7.7"]),
        service("ns2", "remote.ns2.svc.other.domain", &["6.6.6.6", "6.6.6.7"]),
        service("ns1", "dual.ns1.svc.cluster.local", &["5.5.5.5", "2001::5"]),
        service("ns1", "v6only.ns1.svc.cluster.local", &["2001::6"]),
        service("ns1", "*.wild.com", &["3.1.1.1"]),
        service("ns1", "*.b.wild.com", &["3.2.2.2"]),
        service("ns1", "*.svc.mesh.company.net", &["3.3.3.3"]),
        service("ns1", "elsewhere.ns1.svc.cluster.local", &["net2/4.4.4.4"]),
        service("ns1", "both.ns1.svc.cluster.local", &["4.1.1.1", "net2/4.2.2.2"]),
        service("ns1", "headless.ns1.svc.cluster.local", &[]),
        service("ns1", "headless6.ns1.svc.cluster.local", &[]),
        service("ns1", "headless.example.com", &[]),
        service("ns1", "shared.io", &["1.0.0.1"]),
        service("ns2", "shared.io", &["1.0.0.2"]),
        service("ns3", "canonical.io", &["1.3.3.3"]),
        canonical,
        service("ns5", "preferred.io", &["1.5.5.5"]),
        service("ns9", "preferred.io", &["1.9.9.9"]),
        service("ns6", "first.io", &["1.6.6.6"]),
        service("ns1", "many.ns1.svc.cluster.local", &many),
        wire::Service { visibility: private, ..service("ns2", "private.ns2.svc.cluster.local", &["8.2.2.2"]) },
        wire::Service { visibility: private, ..service("ns1", "private.ns1.svc.cluster.local", &["8.1.1.1"]) },
        wire::Service {
            ip_families: wire::IpFamilies::Ipv4Only as i32,
            ..service("ns1", "only4.ns1.svc.cluster.local", &["2.4.4.4", "2001::4"])
        },
    ];
    let workloads = [
        workload("client", &["10.0.0.1"], &[]),
        workload("h1", &["10.1.0.1", "2001:1::1"], &["ns1/headless.ns1.svc.cluster.local", "ns1/headless.example.com"]),
        workload("h2", &["10.1.0.2"], &["ns1/headless.ns1.svc.cluster.local"]),
        workload("h3", &["2001:1::3"], &["ns1/headless6.ns1.svc.cluster.local"]),
    ];
    let all = services.map(wire::address::Type::Service).into_iter();
    let all = all.chain(workloads.map(wire::address::Type::Workload));
    let change = |one| decode::address(&wire::Address { r#type: Some(one) }.encode_to_vec()).expect("valid");
    let store = WorldStore::new(None);
    store.apply(all.map(change).collect::<Vec<Change>>());
    store
}

fn rules() -> Rules {
    Rules { domain: "cluster.local".into(), ipv6: true, preferred: Some("ns9".into()) }
}

fn client(store: &WorldStore) -> Arc<Workload> {
    store.load().workload(&WorkloadUid::from("client")).expect("the client").clone()
}

fn decided(name: &str, family: Option<Family>, rules: &Rules) -> Decision {
    let store = mesh();
    match decide(name, family, &client(&store), (&store.load(), rules)) {
        Decision::Local { cname, mut addresses } => {
            addresses.sort();
            Decision::Local { cname, addresses }
        }
        Decision::Forward => Decision::Forward,
    }
}

/// `expected`: `FWD`, or `[cname>] ip …`.
fn check(row: &str, name: &str, family: Option<Family>, expected: &str) {
    let expected = match expected {
        "FWD" => Decision::Forward,
        local => {
            let (cname, ips) = local.split_once('>').map_or((None, local), |(cname, ips)| (Some(cname), ips));
            let mut addresses: Vec<IpAddr> = ips.split_whitespace().map(|ip| ip.parse().expect("an ip")).collect();
            addresses.sort();
            Decision::Local { cname: cname.map(str::to_owned), addresses }
        }
    };
    assert_eq!(decided(name, family, &rules()), expected, "{row}: {name} {family:?}");
}

#[test]
fn dns_01_to_11_names_of_services() {
    check("DNS-01", "www.google.com", None, "FWD");
    check("DNS-02", "www.google.com", V4, "1.1.1.1");
    check("DNS-03", "www.google.com.ns1.svc.cluster.local", V4, "www.google.com>1.1.1.1");
    check("DNS-04", "unknown.example.com", V4, "FWD");
    for name in
        ["productpage.ns1.svc.cluster.local", "productpage.ns1", "productpage.ns1.svc", "productpage", "ProductPage"]
    {
        check("DNS-05", name, V4, "9.9.9.9");
    }
    check("DNS-06", "productpage.ns1.ns1.svc.cluster.local", V4, "productpage.ns1>9.9.9.9");
    check("DNS-07", "productpage.ns1.ns1.svc.cluster.local", V6, "");
    check("DNS-08", "details", V4, "FWD");
    check("DNS-09", "details.ns2", V4, "7.7.7.7");
    check("DNS-09", "details.ns2.svc.cluster.local", V4, "7.7.7.7");
    check("DNS-10", "remote.ns2.svc.other.domain", V4, "6.6.6.6 6.6.6.7");
    check("DNS-11", "remote.ns2", V4, "FWD");
}

#[test]
fn dns_12_and_13_address_families() {
    check("DNS-12", "dual.ns1", V4, "5.5.5.5");
    check("DNS-12", "dual.ns1", V6, "2001::5");
    check("DNS-13", "v6only.ns1", V4, "");
    check("DNS-13", "productpage.ns1", V6, "");
    check("family excluded by the service", "only4.ns1", V6, "");
    check("family allowed by the service", "only4.ns1", V4, "2.4.4.4");
    let without_v6 = Rules { ipv6: false, ..rules() };
    let nothing = Decision::Local { cname: None, addresses: Vec::new() };
    assert_eq!(decided("dual.ns1", V6, &without_v6), nothing);
}

#[test]
fn dns_14_to_16_wildcards() {
    check("DNS-14", "foo.wild.com", V4, "3.1.1.1");
    check("DNS-15", "a.b.wild.com", V4, "3.2.2.2");
    check("DNS-16", "foo.svc.mesh.company.net.ns1.svc.cluster.local", V4, "3.3.3.3");
}

#[test]
fn dns_17_and_18_networks() {
    check("DNS-17", "elsewhere.ns1", V4, "");
    check("DNS-18", "both.ns1", V4, "4.1.1.1");
}

#[test]
fn dns_19_to_21_headless_services() {
    check("DNS-19", "headless.ns1", V4, "10.1.0.1 10.1.0.2");
    check("DNS-19", "headless.ns1", V6, "2001:1::1");
    check("DNS-19", "headless6.ns1", V4, "");
    check("DNS-20", "h1.headless.ns1.svc.cluster.local", V4, "FWD");
    check("DNS-21", "headless.example.com", V4, "FWD");
}

#[test]
fn dns_22_and_23_ties_and_visibility() {
    check("DNS-22 own namespace", "shared.io", V4, "1.0.0.1");
    check("DNS-22 canonical", "canonical.io", V4, "1.4.4.4");
    check("DNS-22 preferred", "preferred.io", V4, "1.9.9.9");
    check("DNS-22 first", "first.io", V4, "1.6.6.6");
    check("DNS-23 other namespace", "private.ns2", V4, "FWD");
    check("DNS-23 own namespace", "private.ns1", V4, "8.1.1.1");
}

/// A pod's namespace with our proxy and a nameserver in it.
struct Pod {
    netns: Netns,
    tasks: Tasks,
    drain: Drain,
    addr: std::net::SocketAddr,
}

const UPSTREAM: &str = "127.0.0.9:5300";

async fn pod(upstream: Option<&str>) -> Pod {
    let netns = Netns::create().expect("root or a user namespace");
    netns.loopback_up().expect("lo comes up");
    let (tasks, drain) = (Tasks::new(), Drain::new());
    let servers = upstream.iter().map(|addr| addr.parse().expect("an address")).collect();
    let resolver = Arc::new(Resolver {
        pod: PodKey { name: "client".into(), namespace: "ns1".into(), service_account: "client".into() },
        store: mesh(),
        rules: rules(),
        forwarder: Forwarder::new(servers, Some(netns.clone()), None),
    });
    let dns = Dns { enabled: true, address: None, port: 15053, preferred_namespace: None };
    let sockets: DnsSockets = bind(&dns, &netns, &ListenOptions::default(), false).expect("free ports");
    let addr = sockets.local_addrs()[0];
    start(sockets, &resolver, &tasks, &drain);
    Pod { netns, tasks, drain, addr }
}

impl Pod {
    /// A nameserver that knows `known.example.com`, cuts its UDP answers, and answers all else with NXDOMAIN.
    fn nameserver(&self) {
        let options = ListenOptions { netns: Some(self.netns.clone()), ..ListenOptions::default() };
        let addr = UPSTREAM.parse().expect("an address");
        let udp = listen::udp(addr, &options).expect("free").socket;
        let tcp = listen::tcp(addr, &options).expect("free").socket;
        self.tasks.spawn("nameserver", async move {
            let mut buffer = [0; 1500];
            loop {
                tokio::select! {
                    received = udp.recv_from(&mut buffer) => {
                        let (length, from) = received.expect("receives");
                        let answer = upstream_answer(&buffer[..length], true);
                        udp.send_to(&answer, from).await.expect("sends");
                    }
                    accepted = tcp.accept() => {
                        let mut stream = accepted.expect("accepts").0;
                        let length = stream.read_u16().await.expect("a length");
                        let mut query = vec![0; length.into()];
                        stream.read_exact(&mut query).await.expect("a query");
                        let answer = upstream_answer(&query, false);
                        stream.write_u16(answer.len() as u16).await.expect("writes");
                        stream.write_all(&answer).await.expect("writes");
                    }
                }
            }
        });
    }

    async fn udp(&self, query: &[u8]) -> Vec<u8> {
        let options = ListenOptions { netns: Some(self.netns.clone()), ..ListenOptions::default() };
        let socket = listen::udp("127.0.0.1:0".parse().expect("valid"), &options).expect("a socket").socket;
        socket.send_to(query, self.addr).await.expect("sends");
        let mut buffer = vec![0; 65535];
        let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
        buffer.truncate(received.expect("an answer in time").expect("receives"));
        buffer
    }

    async fn tcp(&self, query: &[u8]) -> Vec<u8> {
        let options = DialOptions { netns: Some(self.netns.clone()), ..DialOptions::default() };
        let mut stream = dial::tcp(self.addr, &options).await.expect("connects");
        stream.write_u16(query.len() as u16).await.expect("writes");
        stream.write_all(query).await.expect("writes");
        let reading = async {
            let length = stream.read_u16().await.expect("a length");
            let mut answer = vec![0; length.into()];
            stream.read_exact(&mut answer).await.expect("an answer");
            answer
        };
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer in time")
    }

    async fn both(&self, query: &Message) -> [Message; 2] {
        let query = query.to_vec().expect("encodes");
        let answers = [self.udp(&query).await, self.tcp(&query).await];
        answers.map(|answer| Message::from_vec(&answer).expect("decodes"))
    }
}

fn upstream_answer(query: &[u8], is_udp: bool) -> Vec<u8> {
    let query = Message::from_vec(query).expect("a query");
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_queries(query.queries.clone());
    let name = query.queries[0].name().clone();
    if name.to_ascii() != "known.example.com." {
        answer.metadata.response_code = ResponseCode::NXDomain;
        return answer.to_vec().expect("encodes");
    }
    if is_udp {
        answer.metadata.truncation = true;
    } else {
        answer.add_answer(Record::from_rdata(name.clone(), 99, RData::A(rdata::A::new(1, 2, 3, 4))));
        answer.add_additional(Record::from_rdata(name, 99, RData::A(rdata::A::new(5, 6, 7, 8))));
    }
    answer.to_vec().expect("encodes")
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

/// The two flag bytes of a response.
fn flags(message: &Message) -> u16 {
    let bytes = message.to_vec().expect("encodes");
    u16::from_be_bytes([bytes[2], bytes[3]])
}

#[tokio::test]
async fn answers_look_as_the_reference_sends_them() {
    let pod = pod(Some(UPSTREAM)).await;
    pod.nameserver();
    for local in pod.both(&query("www.google.com.ns1.svc.cluster.local.", RecordType::A)).await {
        assert_eq!(flags(&local), 0x8580);
        assert_eq!(local.metadata.id, 7);
        let [cname, address] = local.answers.as_slice() else { panic!("{:?}", local.answers) };
        assert_eq!(cname.name.to_ascii(), "www.google.com.ns1.svc.cluster.local.");
        assert_eq!(cname.data, RData::CNAME(rdata::CNAME(Name::from_ascii("www.google.com.").expect("a name"))));
        assert_eq!((address.name.to_ascii().as_str(), address.ttl), ("www.google.com.", 30));
    }
    for forwarded in pod.both(&query("known.example.com.", RecordType::A)).await {
        assert!(!forwarded.metadata.authoritative, "DNS-04");
        assert_eq!((forwarded.answers.len(), forwarded.additionals.len()), (1, 1), "DNS-04, UDP cut, so over TCP");
    }
    for unknown in pod.both(&query("details.", RecordType::A)).await {
        assert_eq!(flags(&unknown), 0x8103, "DNS-08");
    }
    for other in pod.both(&query("www.google.com.", RecordType::NS)).await {
        assert_eq!(other.metadata.response_code, ResponseCode::NXDomain, "DNS-01");
    }
    pod.drain.start();
}

#[tokio::test]
async fn dns_25_long_answers_are_cut_over_udp_only() {
    let pod = pod(None).await;
    let mut asked = query("many.ns1.svc.cluster.local.", RecordType::A);
    let [udp, tcp] = pod.both(&asked).await;
    assert!(udp.metadata.truncation && !udp.answers.is_empty() && udp.answers.len() < 256);
    assert!(!tcp.metadata.truncation);
    assert_eq!(tcp.answers.len(), 256);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    asked.set_edns(edns);
    let [udp, _] = pod.both(&asked).await;
    // 12 bytes of head, 32 of question, 16 for each answer, 11 for the EDNS record.
    let size = udp.to_vec().expect("encodes").len();
    assert!(udp.metadata.truncation && size <= 1232 && size > 1232 - 2 * 16, "{size} bytes");
    assert_eq!(udp.edns.expect("echoed").max_payload(), 1232);
    pod.drain.start();
    pod.tasks.join(Duration::from_secs(20)).await.expect("everything ends with the drain");
}

#[tokio::test]
async fn dns_26_an_unreachable_upstream_is_servfail() {
    let pod = pod(Some("127.0.0.9:5399")).await;
    for failed in pod.both(&query("known.example.com.", RecordType::A)).await {
        assert_eq!(flags(&failed), 0x8102);
    }
    pod.drain.start();
}

/// Time stands still but for what the tasks wait for, and they must not wait.
#[tokio::test]
async fn an_idle_connection_ends_with_the_drain_and_a_slow_upstream_with_its_force() {
    let pod = pod(Some(UPSTREAM)).await;
    let options = ListenOptions { netns: Some(pod.netns.clone()), ..ListenOptions::default() };
    let silent = listen::udp(UPSTREAM.parse().expect("an address"), &options).expect("free").socket;
    let dial = DialOptions { netns: Some(pod.netns.clone()), ..DialOptions::default() };
    let mut idle = dial::tcp(pod.addr, &dial).await.expect("connects");
    let known = query("many.ns1.svc.cluster.local.", RecordType::A).to_vec().expect("encodes");
    idle.write_u16(known.len() as u16).await.expect("writes");
    idle.write_all(&known).await.expect("writes");
    idle.read_u16().await.expect("it is served");
    let asking = listen::udp("127.0.0.1:0".parse().expect("valid"), &options).expect("a socket").socket;
    asking
        .send_to(&query("known.example.com.", RecordType::A).to_vec().expect("encodes"), pod.addr)
        .await
        .expect("sends");
    silent.recv_from(&mut [0; 1500]).await.expect("the upstream is asked");

    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    pod.drain.start();
    let ended = pod.tasks.join(Duration::from_secs(1)).await;
    assert!(ended.is_err() && pod.tasks.len() == 1, "the query in work goes on, alone");
    pod.drain.force();
    pod.tasks.join(Duration::from_secs(1)).await.expect("ends");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn what_is_no_query_is_refused() {
    let pod = pod(None).await;
    let mut notify = query("a.", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    let none = Message::new(7, MessageType::Query, OpCode::Query);
    for (message, code) in [(notify, ResponseCode::NotImp), (none, ResponseCode::FormErr)] {
        for answer in pod.both(&message).await {
            assert_eq!((answer.metadata.response_code, answer.metadata.id), (code, 7));
        }
    }
    let garbage = pod.udp(&[0x7f; 40]).await;
    assert_eq!(Message::from_vec(&garbage).expect("an answer").metadata.response_code, ResponseCode::FormErr);
    pod.drain.start();
}

/// What is refused because it is an answer gets a refusal, and a refusal gets nothing: no two servers can keep each other
/// busy.
#[test]
fn an_answer_is_refused_and_a_refusal_is_not_answered() {
    let mut response = query("a.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    let response = response.to_vec().expect("encodes");
    for bytes in [&response[..], &response[..14]] {
        let Parsed::Refused(refusal) = parse(bytes) else { panic!("{bytes:?} is not refused") };
        let read = Message::from_vec(&refusal).expect("decodes");
        assert_eq!((read.metadata.response_code, read.metadata.id), (ResponseCode::FormErr, 7));
        assert!(matches!(parse(&refusal), Parsed::Noise), "a refusal of ours");
    }
    let mut failed = response;
    failed[3] |= 2;
    for bytes in [&failed[..], &[0xff; 40], &[0x7f; 2], &[0; 11], &[]] {
        assert!(matches!(parse(bytes), Parsed::Noise), "{bytes:?}");
    }
}

#[test]
fn nameservers_are_read_as_glibc_reads_them() {
    let text = "# c\nsearch a b\nnameserver 10.0.0.1\nnameserver  fe80::1%eth0\nnameserver ::1 # x\noptions ndots:5\n\
                nameserver 1.1.1.1\nnameserver 2.2.2.2";
    let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:53", "[::1]:53", "1.1.1.1:53"]);
    assert!(matches!(ForwardError::NoServer.to_string().as_str(), text if text.contains("resolv.conf")));
}
