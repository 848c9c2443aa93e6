use lateen_state::{decode, index::Change, unusable::Unusable};
use lateen_telemetry::access::Direction;
use lateen_wire::security;
use prost::Message as _;

use super::*;
use crate::{
    fixtures::{plain, pod, world},
    report::{Opening, Party, Report, Security},
};

fn passage(port: u16) -> Passage {
    Passage {
        source: "10.0.0.1:1000".parse().expect("valid"),
        destination: SocketAddr::new("10.0.0.2".parse().expect("valid"), port),
        identity: Some("spiffe://cluster.local/ns/shop/sa/client".parse().expect("valid")),
        client: None,
    }
}

fn own_network() -> NetworkId {
    NetworkId::from("")
}

fn seen() -> Seen {
    let addr = "10.0.0.2:80".parse().expect("valid");
    Seen { source: addr, dialled: None, hop: addr, protocol: Protocol::Hbone }
}

fn deny_port(name: &str, port: u32, scope: security::Scope) -> Change {
    let one = security::Match { destination_ports: vec![port], ..Default::default() };
    let clause = security::Clause { matches: vec![one] };
    let message = security::Authorization {
        name: name.into(),
        namespace: "shop".into(),
        scope: scope.into(),
        action: security::Action::Deny.into(),
        rules: vec![security::Rule { clauses: vec![clause] }],
        ..Default::default()
    };
    decode::policy(&message.encode_to_vec()).expect("good")
}

fn server(policies: &[&str]) -> Change {
    let workload = lateen_wire::workload::Workload {
        authorization_policies: policies.iter().map(|key| (*key).to_owned()).collect(),
        ..pod("server", &["10.0.0.2"])
    };
    let address =
        lateen_wire::workload::Address { r#type: Some(lateen_wire::workload::address::Type::Workload(workload)) };
    decode::address(&address.encode_to_vec()).expect("good")
}

async fn is_cut(guard: &mut InboundGuard) -> bool {
    tokio::time::timeout(Duration::from_secs(60), guard.cut()).await.is_ok()
}

struct Rig {
    store: WorldStore,
    conns: Arc<PodConns>,
    drain: Drain,
    tasks: lateen_rt::tasks::Tasks,
}

impl Rig {
    async fn new() -> Self {
        let store = world(&[pod("server", &["10.0.0.2"])], &[]);
        let all = Conns::default();
        let key = PodKey { name: "server".into(), namespace: "shop".into(), service_account: "server".into() };
        let conns = all.pod(&"u".into(), &key);
        let (drain, tasks) = (Drain::new(), lateen_rt::tasks::Tasks::new());
        let (watched, ending) = (store.clone(), drain.clone());
        tasks.spawn("conns", async move { all.watch(&watched, &own_network(), &ending).await });
        tokio::task::yield_now().await;
        Self { store, conns, drain, tasks }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_cuts_what_it_denies_and_nothing_else() {
    let rig = Rig::new().await;
    let (mut http, mut other) = (rig.conns.enter(passage(80), seen()), rig.conns.enter(passage(81), seen()));
    rig.store.apply([deny_port("p", 80, security::Scope::Namespace)]);
    assert!(is_cut(&mut http).await);
    assert!(!is_cut(&mut other).await);
    assert_eq!(rig.conns.inbound().len(), 2);
    drop((http, other));
    assert!(rig.conns.inbound().is_empty(), "the last release forgets it");
    rig.drain.force();
    rig.tasks.join(Duration::from_secs(5)).await.expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_selector_policy_attached_later_reaches_live_connections() {
    let rig = Rig::new().await;
    let (mut http, mut other) = (rig.conns.enter(passage(80), seen()), rig.conns.enter(passage(81), seen()));
    rig.store.apply([deny_port("p", 80, security::Scope::WorkloadSelector)]);
    assert!(!is_cut(&mut http).await, "nobody names it yet");
    rig.store.apply([server(&["shop/p"])]);
    assert!(is_cut(&mut http).await);
    assert!(!is_cut(&mut other).await);
}

#[tokio::test(start_paused = true)]
async fn a_named_policy_that_has_not_arrived_cuts_nothing_until_it_is_here() {
    let rig = Rig::new().await;
    let (mut http, mut other) = (rig.conns.enter(passage(80), seen()), rig.conns.enter(passage(81), seen()));
    let key = PodKey { name: "server".into(), namespace: "shop".into(), service_account: "server".into() };
    let is_refused = |port| {
        let world = rig.store.load();
        !passage(port).verdict(&world, world.local_workload(&key).expect("known")).is_allowed()
    };
    rig.store.apply([server(&["shop/later"])]);
    assert!(is_refused(80) && is_refused(81), "new connections wait for it");
    assert!(!is_cut(&mut http).await && !is_cut(&mut other).await);
    rig.store.apply([deny_port("later", 80, security::Scope::WorkloadSelector)]);
    assert!(is_cut(&mut http).await);
    assert!(!is_cut(&mut other).await);
    rig.store.apply([deny_port("known", 81, security::Scope::Namespace), Change::RemovePolicy("shop/later".into())]);
    assert!(is_cut(&mut other).await, "what is known to be denied is cut, whatever else is missing");
}

#[tokio::test(start_paused = true)]
async fn what_changed_before_the_watch_began_is_seen() {
    let store = world(&[pod("server", &["10.0.0.2"])], &[]);
    let all = Conns::default();
    let key = PodKey { name: "server".into(), namespace: "shop".into(), service_account: "server".into() };
    let mut guard = all.pod(&"u".into(), &key).enter(passage(80), seen());
    store.apply([deny_port("p", 80, security::Scope::Namespace)]);
    let (drain, network) = (Drain::new(), own_network());
    tokio::select! {
        () = all.watch(&store, &network, &drain) => panic!("it goes on"),
        cut = is_cut(&mut guard) => assert!(cut),
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_vanishes_ends_nothing_that_runs() {
    let rig = Rig::new().await;
    let mut http = rig.conns.enter(passage(80), seen());
    rig.store.apply([Change::RemoveAddress("Kubernetes//Pod/shop/server".into())]);
    assert!(!is_cut(&mut http).await);
}

fn to(ip: &str, protocol: Protocol) -> Seen {
    let addr = SocketAddr::new(ip.parse().expect("valid"), 80);
    Seen { source: "10.0.0.2:1000".parse().expect("valid"), dialled: Some(addr), hop: addr, protocol }
}

fn flow() -> Arc<Flow> {
    let opening = Opening {
        direction: Direction::Outbound,
        client: "10.0.0.2:1000".parse().expect("valid"),
        hop: None,
        authority: None,
        source: Party::default(),
        destination: Party::default(),
        service: None,
        security: Security::Unknown,
        began: tokio::time::Instant::now(),
    };
    Report::open(opening, &Drain::new()).flow().clone()
}

fn unusable_at(ip: &str) -> Change {
    Change::Unusable(Box::new(Unusable {
        key: "Kubernetes//Pod/shop/unreadable".into(),
        reason: "why".into(),
        addresses: vec![NetworkAddress { network: own_network(), ip: ip.parse().expect("valid") }],
        ranges: Vec::new(),
        only_for: None,
        claim: 3,
    }))
}

async fn is_lost(guard: &mut OutboundGuard) -> bool {
    tokio::time::timeout(Duration::from_secs(60), guard.cut()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn plain_connections_to_what_cannot_be_used_any_more_are_cut_and_no_others() {
    let rig = Rig::new().await;
    let [mut lost, mut elsewhere] = ["10.0.0.9", "10.0.0.8"].map(|ip| rig.conns.leave(to(ip, Protocol::Tcp), flow()));
    let mut proven = rig.conns.leave(to("10.0.0.9", Protocol::Hbone), flow());
    let through = Seen { dialled: Some("10.9.9.9:80".parse().expect("valid")), ..to("10.0.0.9", Protocol::Tcp) };
    let mut by_service = rig.conns.leave(through, flow());
    rig.store.apply([unusable_at("10.0.0.9")]);
    assert!(is_lost(&mut lost).await && is_lost(&mut by_service).await);
    assert!(!is_lost(&mut elsewhere).await, "another address");
    assert!(!is_lost(&mut proven).await, "whom a tunnel reached was proven");
    assert_eq!(rig.conns.outbound().len(), 4);
    drop((lost, elsewhere, proven, by_service));
    assert!(rig.conns.outbound().is_empty());
}

/// Whatever brings the stand-in out cuts, and what begins too late to be cut can ask.
#[tokio::test(start_paused = true)]
async fn a_stand_in_cuts_once_nothing_stronger_is_there() {
    let rig = Rig::new().await;
    let stronger = lateen_wire::workload::Workload {
        network_mode: lateen_wire::workload::NetworkMode::Standard.into(),
        ..plain(pod("other", &["10.0.0.9"]))
    };
    let known =
        lateen_wire::workload::Address { r#type: Some(lateen_wire::workload::address::Type::Workload(stronger)) };
    rig.store.apply([decode::address(&known.encode_to_vec()).expect("good")]);
    let mut live = rig.conns.leave(to("10.0.0.9", Protocol::Tcp), flow());
    let mut weak = match unusable_at("10.0.0.9") {
        Change::Unusable(one) => one,
        other => panic!("{other:?}"),
    };
    weak.claim = 0;
    rig.store.apply([Change::Unusable(weak)]);
    assert!(!is_lost(&mut live).await);
    rig.store.apply([Change::RemoveAddress("Kubernetes//Pod/shop/other".into())]);
    assert!(is_lost(&mut live).await);
    let late = rig.conns.leave(to("10.0.0.9", Protocol::Tcp), flow());
    assert!(late.is_lost(&rig.store.load(), &own_network()));
    let proven = rig.conns.leave(to("10.0.0.9", Protocol::Hbone), flow());
    assert!(!proven.is_lost(&rig.store.load(), &own_network()));
}
