//! The graph against the slow, obvious way: deriving everything anew from the same objects.

mod attached;
mod closed;
mod gates;
mod guards;
mod rules;
mod sessions;
mod show;
mod waypoints;

use std::collections::{BTreeMap, BTreeSet};

use lateen_types::label::Labels;
use lateen_wire::type_url;
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::*;
use crate::{
    derive::{
        tests::{
            mesh, read_backing, read_entry, read_external, read_gateway, read_peer, read_policy, read_route,
            read_routes, read_rule, read_servers,
        },
        word::Word,
    },
    facts::{
        Asked, Distribution, Endpoint, InboundBinding, Phase, PodRef, ServicePort, SlicePort, TargetPort, Traffic, Wish,
    },
};

const SPACES: [&str; 3] = ["istio-system", "shop", "web"];

fn key(random: &mut StdRng) -> Key {
    Key::new(SPACES[random.random_range(0..SPACES.len())], ["a", "b", "c"][random.random_range(0..3)])
}

fn labels(random: &mut StdRng) -> Labels {
    let app = ["x", "y"][random.random_range(0..2)];
    [("app".to_owned(), app.to_owned())].into()
}

fn pod(random: &mut StdRng) -> Pod {
    let mut labels = labels(random);
    if random.random_ratio(1, 4) {
        labels.insert("gateway.networking.k8s.io/gateway-name".to_owned(), "a".to_owned());
    }
    Pod {
        uid: format!("u{}", random.random_range(0..2)).into(),
        labels: labels.into(),
        addresses: vec![[10, 0, 0, random.random_range(1..5)].into()],
        node: format!("n{}", random.random_range(0..3)).into(),
        service_account: ["sa", "sb"][random.random_range(0..2)].into(),
        healthy: random.random(),
        host_network: false,
        redirected: random.random(),
        owner: None,
        ports: Arc::default(),
        phase: if random.random_ratio(1, 5) { Phase::Failed } else { Phase::Live },
        wish: wish(random),
    }
}

fn service(random: &mut StdRng) -> Service {
    let port = ServicePort {
        name: "p".to_owned(),
        number: 80,
        target: TargetPort::Number(8080),
        protocol: wire::AppProtocol::Unknown,
        spoken: Some(lateen_wire::proxy::Protocol::Http),
    };
    Service {
        addresses: vec![[10, 96, 0, random.random_range(1..5)].into()],
        ports: vec![port],
        selector: if random.random() { labels(random) } else { Labels::new() },
        families: wire::IpFamilies::Ipv4Only,
        node_local: false,
        distribution: None,
        publish_not_ready: random.random(),
        wish: wish(random),
        is_waypoint: random.random_ratio(1, 5),
        has_condition: false,
    }
}

fn wish(random: &mut StdRng) -> Wish {
    let waypoint = match random.random_range(0..4) {
        0 => Asked::Declined,
        1 => Asked::Gateway(key(random)),
        _ => Asked::Unsaid,
    };
    let believes = random.random::<bool>().then(|| random.random());
    Wish { waypoint, canary: None, ingress: None, bypass: random.random(), believes }
}

const HOSTS: [&str; 3] = ["x.example", "a.shop.svc.cluster.local", "*.y.example"];

fn entry(random: &mut StdRng, name: &str) -> ServiceEntry {
    let host = HOSTS[random.random_range(0..HOSTS.len())];
    let resolution = ["NONE", "STATIC", "DNS"][random.random_range(0..3)];
    let mut spec = json!({"hosts": [host, "z.example"], "resolution": resolution,
        "ports": [{"name": "p", "number": 80}]});
    match random.random_range(0..3) {
        0 => spec["workloadSelector"] = json!({"labels": labels(random)}),
        1 => spec["endpoints"] = json!([{"address": "192.0.2.9", "network": (["", "far"][random.random_range(0..2)])}]),
        _ => {}
    }
    if let Some(export) = [None, Some("."), Some("~"), Some("*")][random.random_range(0..4)] {
        spec["exportTo"] = json!([export]);
    }
    let created = format!("2026-01-0{}T00:00:00Z", random.random_range(1..4));
    ServiceEntry { wish: wish(random), labels: labels(random), ..read_entry(name, Some(&created), spec, json!({})) }
}

fn external(random: &mut StdRng) -> WorkloadEntry {
    let network = ["", "far"][random.random_range(0..2)];
    let mut made = read_external("e", json!(labels(random)), json!({"address": "192.0.2.8", "network": network}));
    made.external.wish = wish(random);
    made
}

fn gateway(random: &mut StdRng) -> Gateway {
    let labels = json!({"istio.io/waypoint-for": (["all", "service", "workload"][random.random_range(0..3)]),
        "topology.istio.io/network": (["", "far"][random.random_range(0..2)])});
    let class = ["istio-waypoint", "istio-remote"][random.random_range(0..2)];
    let from = ["All", "Same"][random.random_range(0..2)];
    let spec = json!({"gatewayClassName": class,
        "listeners": [{"port": 15008, "protocol": "HBONE", "allowedRoutes": {"namespaces": {"from": from}}}]});
    let addresses = if random.random() { json!([{"type": "IPAddress", "value": "10.96.1.1"}]) } else { json!([]) };
    let account = random.random_ratio(1, 4).then_some("sa");
    let annotations = account.map_or(json!({}), |name| json!({"istio.io/for-service-account": name}));
    read_gateway(labels, annotations, spec, addresses)
}

fn class(random: &mut StdRng) -> GatewayClass {
    let traffic = [None, Some(Traffic::All), Some(Traffic::Workload)][random.random_range(0..3)];
    let binding = random.random::<bool>().then_some(InboundBinding { proxy: true, port: 15088 });
    GatewayClass { traffic, binding, controller: String::new() }
}

fn slice(random: &mut StdRng, namespace: &str) -> EndpointSlice {
    let endpoint = |random: &mut StdRng| {
        let name = ["a", "b", "c"][random.random_range(0..3)];
        let target = PodRef { key: Key::new(namespace, name), uid: format!("u{}", random.random_range(0..2)) };
        Endpoint {
            address: [192, 0, 2, random.random_range(1..4)].into(),
            ready: random.random(),
            pod: random.random::<bool>().then_some(target),
        }
    };
    EndpointSlice {
        service: Key::new(namespace, ["a", "b", "c"][random.random_range(0..3)]),
        ports: vec![SlicePort { name: "p".to_owned(), number: 9000 }],
        endpoints: (0..3).map(|_| endpoint(random)).collect(),
    }
}

fn policy(random: &mut StdRng) -> AuthorizationPolicy {
    let action = ["ALLOW", "DENY", "AUDIT"][random.random_range(0..3)];
    let app = ["x", "y"][random.random_range(0..2)];
    read_policy(match random.random_range(0..3) {
        0 => json!({"action": action}),
        1 => json!({"action": action, "selector": {"matchLabels": {"app": app}}}),
        _ => json!({"selector": {"matchLabels": {"app": app}}, "targetRefs": [{"kind": "Service", "name": "a"}]}),
    })
}

const NAMES: [&str; 6] = ["a", "b", "a.web.svc.cluster.local", "x.example", "*.svc.cluster.local", "*.y.example"];

fn virtual_service(random: &mut StdRng) -> VirtualService {
    let mut name = || NAMES[random.random_range(0..NAMES.len())];
    let (host, to, mirror) = (name(), name(), name());
    let hosts = if random.random_ratio(1, 6) { json!([]) } else { json!([host]) };
    let export = [json!([]), json!(["."]), json!(["web"]), json!(["*"])][random.random_range(0..4)].clone();
    let subset = ["", "v1"][random.random_range(0..2)];
    let mut route = json!({"route": [{"destination": {"host": to, "subset": subset}}],
        "mirror": {"host": mirror}});
    if random.random_ratio(1, 4) {
        let space = SPACES[random.random_range(0..SPACES.len())];
        route = json!({"delegate": {"name": "a", "namespace": space}});
    }
    let created = format!("2026-01-0{}T00:00:00Z", random.random_range(1..4));
    let gateways = [json!([]), json!(["mesh", "shop/a"]), json!(["a", "web/b"])][random.random_range(0..3)].clone();
    read_routes("v", &created, json!({"hosts": hosts, "exportTo": export, "gateways": gateways, "http": [route]}))
}

fn attached(random: &mut StdRng, kind: RouteKind) -> Route {
    let mut place = || (["a", "b"][random.random_range(0..2)], SPACES[random.random_range(0..SPACES.len())]);
    let ((parent, space), (to, other)) = (place(), place());
    let (group, of) = [("", "Service"), ("networking.istio.io", "ServiceEntry")][random.random_range(0..2)];
    let spec = json!({"parentRefs": [{"group": group, "kind": of, "name": parent, "namespace": space}],
        "rules": [{"backendRefs": [{"name": to, "namespace": other, "port": 80}]}]});
    let created = format!("2026-01-0{}T00:00:00Z", random.random_range(1..4));
    read_route(kind, &created, spec)
}

fn servers(random: &mut StdRng) -> Servers {
    let host = ["*", "*.example", "./x.example", "web/*"][random.random_range(0..4)];
    let protocol = ["HTTP", "TCP"][random.random_range(0..2)];
    let spec = json!({"selector": labels(random), "servers": [{"hosts": [host],
        "port": {"number": random.random_range(80..82), "name": "p", "protocol": protocol}}]});
    read_servers(&format!("2026-01-0{}T00:00:00Z", random.random_range(1..4)), spec)
}

fn backing(random: &mut StdRng) -> BackendTls {
    let name = ["a", "b"][random.random_range(0..2)];
    let host = ["x.example", "y.example"][random.random_range(0..2)];
    let mut spec = json!({"targetRefs": [{"group": "", "kind": "Service", "name": name}],
        "validation": {"wellKnownCACertificates": "System", "hostname": host}});
    if random.random() {
        spec["targetRefs"][0]["sectionName"] = json!("p");
    }
    read_backing(&format!("2026-01-0{}T00:00:00Z", random.random_range(1..4)), spec)
}

fn gate(random: &mut StdRng) -> Gateway {
    let from = ["All", "Same"][random.random_range(0..2)];
    let mut listener = |name: &str, protocol: &str| {
        let hostname = [None, Some("x.example"), Some("*.example")][random.random_range(0..3)];
        json!({"name": name, "port": random.random_range(80..82), "protocol": protocol, "hostname": hostname,
            "allowedRoutes": {"namespaces": {"from": from}}})
    };
    let spec = json!({"gatewayClassName": "istio", "listeners": [listener("l", "HTTP"), listener("m", "HTTP"),
        listener("t", "TCP")]});
    read_gateway(json!({}), json!({}), spec, json!([]))
}

fn attached_to_gate(random: &mut StdRng, kind: RouteKind) -> Route {
    let mut place = || (["a", "b", "c"][random.random_range(0..3)], SPACES[random.random_range(0..SPACES.len())]);
    let ((parent, space), (to, other)) = (place(), place());
    let section = [None, Some("l"), Some("t")][random.random_range(0..3)];
    let mut spec = json!({"parentRefs": [{"name": parent, "namespace": space, "sectionName": section}],
        "rules": [{"backendRefs": [{"name": to, "namespace": other, "port": 80}]}]});
    if kind == RouteKind::Http && random.random() {
        spec["hostnames"] = json!(["x.example"]);
    }
    read_route(kind, &format!("2026-01-0{}T00:00:00Z", random.random_range(1..4)), spec)
}

fn rule(random: &mut StdRng) -> DestinationRule {
    let host = NAMES[random.random_range(0..NAMES.len())];
    let export = [json!([]), json!(["."]), json!(["web"])][random.random_range(0..3)].clone();
    let name = ["v1", "v2"][random.random_range(0..2)];
    let mut spec = json!({"host": host, "exportTo": export, "subsets": [{"name": name, "labels": labels(random)}]});
    if random.random_ratio(1, 4) {
        spec["workloadSelector"] = json!({"matchLabels": labels(random)});
    }
    let created = format!("2026-01-0{}T00:00:00Z", random.random_range(1..4));
    read_rule("r", &created, spec)
}

fn peer_policy(random: &mut StdRng, name: &str) -> PeerAuthentication {
    let mut mode = || ["UNSET", "STRICT", "PERMISSIVE"][random.random_range(0..3)];
    let mut spec = json!({"mtls": {"mode": mode()}, "portLevelMtls": {"8080": {"mode": mode()}}});
    if random.random() {
        let app = ["x", "y"][random.random_range(0..2)];
        spec["selector"] = json!({"matchLabels": {"app": app}});
    }
    let created = format!("2026-01-0{}T00:00:00Z", random.random_range(1..4));
    read_peer(name, Some(&created), spec)
}

fn update(random: &mut StdRng) -> Update {
    let key = key(random);
    let there = random.random_ratio(3, 4);
    match random.random_range(0..22) {
        0 => {
            let name = Key::new("", SPACES[random.random_range(0..SPACES.len())]);
            let namespace = Namespace {
                network: ["", "net"][random.random_range(0..2)].to_owned(),
                distribution: random.random::<bool>().then_some(Distribution::PreferClose),
                terminating: false,
                labels: labels(random),
                wish: wish(random),
            };
            Update::Namespace(name, there.then(|| Arc::new(namespace)))
        }
        1 => {
            let name = Key::new("", &format!("n{}", random.random_range(0..3)));
            let node = Node { zone: format!("z{}", random.random_range(0..2)), ..Node::default() };
            Update::Node(name, there.then(|| Arc::new(node)))
        }
        2 => Update::Pod(key, there.then(|| Arc::new(pod(random)))),
        3 => Update::Service(key, there.then(|| Arc::new(service(random)))),
        4 => {
            let made = slice(random, &key.namespace);
            Update::Slice(key, there.then(|| Arc::new(made)))
        }
        5 => Update::Policy(key, there.then(|| Arc::new(policy(random)))),
        6 => {
            let made = entry(random, &key.name);
            Update::Entry(key, there.then(|| Arc::new(made)))
        }
        7 => Update::External(key, there.then(|| Arc::new(external(random)))),
        8 => Update::Gateway(key, there.then(|| Arc::new(gateway(random)))),
        9 | 10 => Update::VirtualService(key, there.then(|| Arc::new(virtual_service(random)))),
        11 | 12 => Update::Rule(key, there.then(|| Arc::new(rule(random)))),
        13 | 14 => {
            let kind = [RouteKind::Http, RouteKind::Tcp][random.random_range(0..2)];
            Update::Route(kind, key, there.then(|| Arc::new(attached(random, kind))))
        }
        15 => {
            let namespace = SPACES[random.random_range(0..SPACES.len())];
            let from = json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": namespace});
            let spec = serde_json::from_value(json!({"from": [from], "to": [{"group": "", "kind": "Service"}]}));
            let grant = ReferenceGrant { spec: spec.expect("a grant") };
            Update::Grant(key, there.then(|| Arc::new(grant)))
        }
        16 => Update::Servers(key, there.then(|| Arc::new(servers(random)))),
        17 => Update::Backing(key, there.then(|| Arc::new(backing(random)))),
        18 => Update::Gateway(key, there.then(|| Arc::new(gate(random)))),
        19 => {
            let kind = [RouteKind::Http, RouteKind::Tcp][random.random_range(0..2)];
            Update::Route(kind, key, there.then(|| Arc::new(attached_to_gate(random, kind))))
        }
        20 => Update::Class(Key::new("", "istio-waypoint"), there.then(|| Arc::new(class(random)))),
        _ => {
            let made = peer_policy(random, &key.name);
            Update::Peer(key, there.then(|| Arc::new(made)))
        }
    }
}

/// Versions by type and name.
type Held = BTreeMap<(String, String), String>;

/// What is said of each object.
type Words = BTreeMap<Object, Vec<Word>>;

/// The newest state of every object.
#[derive(Default)]
struct Objects {
    updates: BTreeMap<(u8, Key), Update>,
}

impl Objects {
    fn keep(&mut self, update: &Update) {
        let place = match update {
            Update::Namespace(key, _) => (0, key.clone()),
            Update::Node(key, _) => (1, key.clone()),
            Update::Pod(key, _) => (2, key.clone()),
            Update::Service(key, _) => (3, key.clone()),
            Update::Slice(key, _) => (4, key.clone()),
            Update::Policy(key, _) => (5, key.clone()),
            Update::Peer(key, _) => (6, key.clone()),
            Update::Entry(key, _) => (7, key.clone()),
            Update::External(key, _) => (8, key.clone()),
            Update::Gateway(key, _) => (9, key.clone()),
            Update::Class(key, _) => (10, key.clone()),
            Update::VirtualService(key, _) => (11, key.clone()),
            Update::Rule(key, _) => (12, key.clone()),
            Update::Route(RouteKind::Http, key, _) => (13, key.clone()),
            Update::Route(_, key, _) => (14, key.clone()),
            Update::Grant(key, _) => (15, key.clone()),
            Update::Servers(key, _) => (16, key.clone()),
            Update::Backing(key, _) => (17, key.clone()),
            Update::Credential(source, _) => panic!("{source} was asked for by nobody"),
        };
        self.updates.insert(place, update.clone());
    }

    /// Everything, in one batch, into an empty graph, but for what is remembered: the labels that rules once chose by.
    fn derived_anew(&self, remembered: &BTreeSet<String>) -> (Held, Words) {
        let mut graph = Graph::new(mesh());
        graph.world.label_keys.clone_from(remembered);
        let delta = graph.apply(&mesh(), self.updates.values().cloned().collect());
        let mut held = BTreeMap::new();
        hold(&mut held, delta.changes);
        (held, of_routes(&graph))
    }
}

const OF_ROUTES: [Reporter; 4] = [Reporter::Routes, Reporter::Parents, Reporter::Listeners, Reporter::Ancestors];

/// What authors of routes and rules were told last.
fn of_routes(graph: &Graph) -> Words {
    let told = graph.told.values().filter(|told| OF_ROUTES.contains(&told.reporter) && !told.is_silence());
    let said = |told: &Told| {
        let parents = told.parents.iter().flat_map(|one| &one.words);
        let listeners = told.listeners.iter().flat_map(|one| &one.words);
        told.words.iter().chain(parents).chain(listeners).cloned().collect()
    };
    told.map(|told| (told.object.clone(), said(told))).collect()
}

/// What a proxy that was sent all deltas holds: versions by type and name.
fn hold(held: &mut Held, changes: Vec<Publish>) {
    for change in changes {
        match change {
            Publish::Put(type_url, entry) => {
                let version = entry.version.to_string();
                let before = held.insert((type_url.to_owned(), (*entry.name).to_owned()), version.clone());
                assert_ne!(before, Some(version), "{} was sent without a difference", entry.name);
            }
            Publish::Remove(type_url, name) => {
                assert!(held.remove(&(type_url.to_owned(), (*name).to_owned())).is_some(), "{name} was removed twice");
            }
        }
    }
}

#[test]
fn increments_equal_deriving_everything_anew() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut graph, mut objects, mut held) = (Graph::new(mesh()), Objects::default(), BTreeMap::new());
        for step in 0..60 {
            let batch: Vec<Update> = (0..random.random_range(1..4)).map(|_| update(&mut random)).collect();
            batch.iter().for_each(|update| objects.keep(update));
            hold(&mut held, graph.apply(&mesh(), batch).changes);
            let (anew, told) = objects.derived_anew(&graph.world.label_keys);
            assert_eq!(held, anew, "seed {seed}, step {step}");
            assert_eq!(of_routes(&graph), told, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn a_change_nobody_uses_sends_nothing() {
    let mut random = StdRng::seed_from_u64(1);
    let mut graph = Graph::new(mesh());
    let one = Arc::new(Pod { phase: Phase::Live, ..pod(&mut random) });
    let key = Key::new("shop", "a");
    assert_eq!(graph.apply(&mesh(), vec![Update::Pod(key.clone(), Some(one.clone()))]).changes.len(), 1);
    assert!(graph.apply(&mesh(), vec![Update::Pod(key.clone(), Some(one.clone()))]).changes.is_empty());
    let unused = Arc::new(Pod { uid: "other".into(), ..(*one).clone() });
    assert!(graph.apply(&mesh(), vec![Update::Pod(key, Some(unused))]).changes.is_empty());
}

#[test]
fn authors_are_told_once_per_change() {
    let mut graph = Graph::new(mesh());
    let key = Key::new("shop", "p");
    let policy = Arc::new(read_policy(json!({"action": "AUDIT"})));
    let told = graph.apply(&mesh(), vec![Update::Policy(key.clone(), Some(policy.clone()))]).conditions;
    let told: Vec<Told> = told.into_iter().filter(|told| !told.words.is_empty()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].reporter, told[0].words[0].reason), (Reporter::Ztunnel, "UnsupportedValue"));
    assert!(graph.apply(&mesh(), vec![Update::Policy(key, Some(policy))]).conditions.is_empty());
}

#[test]
fn workloads_are_found_by_address_node_and_service() {
    let mut graph = Graph::new(mesh());
    let mut random = StdRng::seed_from_u64(3);
    let labels: Labels = [("app".to_owned(), "x".to_owned())].into();
    let own = Arc::new(labels.clone());
    let one = Pod { labels: own, phase: Phase::Live, node: "n1".into(), ..pod(&mut random) };
    let behind = Service { selector: labels, ..service(&mut random) };
    let changes = graph.apply(
        &mesh(),
        vec![
            Update::Pod(Key::new("shop", "a"), Some(Arc::new(one.clone()))),
            Update::Service(Key::new("shop", "s"), Some(Arc::new(behind))),
        ],
    );
    let found = changes.changes.iter().find_map(|change| match change {
        Publish::Put(_, entry) if *entry.name == *"Kubernetes//Pod/shop/a" => Some(entry),
        Publish::Put(..) | Publish::Remove(..) => None,
    });
    let entry = found.expect("the workload");
    assert_eq!(entry.aliases, [format!("/{}", one.addresses[0])]);
    let groups: BTreeSet<&str> = entry.groups.iter().map(|group| &**group).collect();
    assert_eq!(groups, ["node/n1", "shop/s.shop.svc.cluster.local"].into());
}

/// The reasons told of an object, newest last.
fn reasons(delta: &Delta, kind: Kind) -> Vec<&'static str> {
    let of_kind = delta.conditions.iter().filter(|told| told.object.kind == kind);
    of_kind.flat_map(|told| told.words.iter().map(|word| word.reason)).collect()
}

#[test]
fn a_waypoint_binds_once_it_is_there_and_lets_go_with_it() {
    let (mut graph, mut random) = (Graph::new(mesh()), StdRng::seed_from_u64(5));
    let bound = Wish { waypoint: Asked::Gateway(Key::new("shop", "w")), ..Wish::default() };
    let one = Service { wish: bound, is_waypoint: false, ..service(&mut random) };
    let targeted = read_policy(json!({"targetRefs": [{"kind": "Service", "name": "s"}]}));
    let first = graph.apply(
        &mesh(),
        vec![
            Update::Service(Key::new("shop", "s"), Some(Arc::new(one))),
            Update::Policy(Key::new("shop", "p"), Some(Arc::new(targeted))),
        ],
    );
    assert_eq!(reasons(&first, Kind::Service), ["WaypointIsNotReady"]);
    assert_eq!(reasons(&first, Kind::AuthorizationPolicy), ["AncestorNotBound"]);
    let listener = json!({"gatewayClassName": "istio-waypoint", "listeners": [{"port": 15008, "protocol": "HBONE"}]});
    let there = read_gateway(json!({}), json!({}), listener, json!([{"type": "Hostname", "value": "w.shop"}]));
    let key = Key::new("shop", "w");
    let second = graph.apply(&mesh(), vec![Update::Gateway(key.clone(), Some(Arc::new(there)))]);
    assert_eq!(reasons(&second, Kind::Service), ["WaypointAccepted"]);
    let kinds = second.changes.iter().map(|change| match change {
        Publish::Put(type_url, _) | Publish::Remove(type_url, _) => *type_url,
    });
    let kinds: BTreeSet<&str> = kinds.collect();
    let expected = [type_url::ADDRESS, type_url::DESTINATION, type_url::POLICY, type_url::PROXY, type_url::SERVICE];
    assert_eq!((kinds, second.changes.len()), (expected.into(), 5), "the service, and what its waypoint needs of it");
    assert_eq!(reasons(&second, Kind::AuthorizationPolicy), ["Accepted"]);
    let third = graph.apply(&mesh(), vec![Update::Gateway(key, None)]);
    assert_eq!(reasons(&third, Kind::Service), ["WaypointIsNotReady"]);
}

#[test]
fn a_host_that_several_claim_has_one_holder_in_each_namespace() {
    let claim = |name: &str, day: u8| {
        let spec = json!({"hosts": ["a.shop.svc.cluster.local"], "resolution": "DNS"});
        Arc::new(read_entry(name, Some(&format!("2026-01-0{day}T00:00:00Z")), spec, json!({})))
    };
    let mut graph = Graph::new(mesh());
    let mut held = BTreeMap::new();
    let mut after = |updates: Vec<Update>| {
        hold(&mut held, graph.apply(&mesh(), updates).changes);
        held.keys().map(|(_, name)| name.clone()).collect::<Vec<String>>()
    };
    let entry = |space: &str, name: &str, day| Update::Entry(Key::new(space, name), Some(claim(name, day)));
    let (in_shop, in_web) = ("shop/a.shop.svc.cluster.local", "web/a.shop.svc.cluster.local");
    let endpoint = |of: &str| format!("Kubernetes/networking.istio.io/ServiceEntry/{of}/a.shop.svc.cluster.local");
    let all = after(vec![entry("shop", "young", 3), entry("shop", "aged", 1), entry("web", "other", 2)]);
    assert_eq!(all, [&endpoint("shop/aged"), &endpoint("web/other"), in_shop, in_web]);
    let all = after(vec![Update::Entry(Key::new("shop", "aged"), None)]);
    assert_eq!(all, [&endpoint("shop/young"), &endpoint("web/other"), in_shop, in_web]);
    // The name is a Kubernetes service's own: entries of its namespace lose it.
    let one = service(&mut StdRng::seed_from_u64(7));
    let all = after(vec![Update::Service(Key::new("shop", "a"), Some(Arc::new(one)))]);
    assert_eq!(all, [&endpoint("web/other"), in_shop, in_web]);
}

/// What only its own namespace sees takes a name from nobody else, and what nobody sees from nobody at all.
#[test]
fn a_hidden_entry_holds_a_host_for_whoever_sees_it() {
    use lateen_wire::workload::{Address, address::Type, service::Visibility};

    let mut graph = Graph::new(mesh());
    let entry = |space: &str, name: &str, (day, export): (u8, &str)| {
        let spec = json!({"hosts": ["x.example"], "resolution": "DNS", "exportTo": [export]});
        let read = read_entry(name, Some(&format!("2026-01-0{day}T00:00:00Z")), spec, json!({}));
        Update::Entry(Key::new(space, name), Some(Arc::new(read)))
    };
    let mut services = BTreeMap::new();
    let mut after = |updates: Vec<Update>| {
        for change in graph.apply(&mesh(), updates).changes {
            match change {
                Publish::Put(_, entry) => {
                    if let Some(Type::Service(one)) = Address::decode(&*entry.content()).expect("an address").r#type {
                        services.insert((*entry.name).to_owned(), (one.canonical, one.visibility()));
                    }
                }
                Publish::Remove(_, name) => _ = services.remove(&*name),
            }
        }
        services.iter().map(|(name, (canonical, seen))| (name.clone(), *canonical, *seen)).collect::<Vec<_>>()
    };
    let seen = |space: &str, canonical, seen| (format!("{space}/x.example"), canonical, seen);
    let all = after(vec![entry("shop", "aged", (1, ".")), entry("web", "young", (2, "*"))]);
    assert_eq!(all, [seen("shop", false, Visibility::Namespace), seen("web", true, Visibility::Public)]);
    let all = after(vec![entry("web", "young", (2, "~")), entry("web", "other", (3, "."))]);
    assert_eq!(all, [seen("shop", false, Visibility::Namespace), seen("web", false, Visibility::Namespace)]);
    let all = after(vec![entry("shop", "aged", (1, "~"))]);
    assert_eq!(all, [seen("web", false, Visibility::Namespace)]);
}

/// Within one batch an address passes from one pod to another: what has it is never two workloads, nor the old one.
#[test]
fn an_address_passes_to_its_new_pod_after_the_old_one_is_gone() {
    let mut graph = Graph::new(mesh());
    let at = |account: &str| Pod {
        addresses: vec!["10.0.0.9".parse().expect("an address")],
        service_account: account.into(),
        phase: Phase::Live,
        ..pod(&mut StdRng::seed_from_u64(1))
    };
    let (old, new) = (Key::new("shop", "old"), Key::new("shop", "new"));
    graph.apply(&mesh(), vec![Update::Pod(old.clone(), Some(Arc::new(at("a"))))]);
    let batch = vec![Update::Pod(new, Some(Arc::new(at("b")))), Update::Pod(old, None)];
    let names: Vec<String> = graph
        .apply(&mesh(), batch)
        .changes
        .iter()
        .map(|change| match change {
            Publish::Put(_, entry) => format!("+{} {:?}", entry.name, entry.aliases),
            Publish::Remove(_, name) => format!("-{name}"),
        })
        .collect();
    assert_eq!(names, ["-Kubernetes//Pod/shop/old", "+Kubernetes//Pod/shop/new [\"/10.0.0.9\"]"]);
}

#[test]
fn a_new_mesh_changes_what_depends_on_it() {
    let (mut graph, mut random) = (Graph::new(mesh()), StdRng::seed_from_u64(6));
    let one = Pod { phase: Phase::Live, ..pod(&mut random) };
    let update = Update::Pod(Key::new("shop", "a"), Some(Arc::new(one)));
    graph.apply(&mesh(), vec![update]);
    let other = Mesh { trust_domain: "td.example".to_owned(), ..mesh() };
    assert_eq!(graph.apply(&other, Vec::new()).changes.len(), 1);
    assert!(graph.apply(&other, Vec::new()).changes.is_empty());
}
