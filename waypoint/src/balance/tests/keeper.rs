//! When a keeper makes a new chooser, and what it remembers.

use std::{sync::Arc, time::Duration};

use lateen_state::{decode, world::WorldStore};
use lateen_wire::workload as wire;
use prost::Message as _;

use super::outlier;
use crate::{
    balance::{Chooser, Keeper, Made, Snapshot, Spot},
    book::{Cluster, Protocol, TrafficPolicy, cluster::Resolution, tests as book},
    upstream::health::Event,
};

/// What a keeper sees.
struct Scene {
    keeper: Keeper<String>,
    world: WorldStore,
    cluster: Arc<Cluster>,
}

fn cluster(version: Option<&str>) -> Arc<Cluster> {
    let policy = TrafficPolicy { outlier: Some(outlier(0)), ..TrafficPolicy::default() };
    Arc::new(Cluster {
        upstream: book::upstream(version.unwrap_or_default()),
        labels: version.into_iter().map(|version| ("version".into(), version.into())).collect(),
        protocol: Protocol::Http,
        policy,
        resolution: Resolution::Endpoints,
        unusable: None,
    })
}

impl Scene {
    fn new(version: Option<&str>) -> Self {
        let scene = Self { keeper: Keeper::default(), world: WorldStore::new(None), cluster: cluster(version) };
        scene.put(wire::address::Type::Service(wire::Service {
            name: "web".into(),
            namespace: "shop".into(),
            hostname: book::HOST.into(),
            ports: vec![wire::Port { service_port: 80, target_port: 8080, ..wire::Port::default() }],
            ..wire::Service::default()
        }));
        scene
    }

    fn put(&self, what: wire::address::Type) {
        let bytes = wire::Address { r#type: Some(what) }.encode_to_vec();
        self.world.apply([decode::address(&bytes).expect("a good resource")]);
    }

    /// A pod of the service.
    fn pod(&self, name: &str, version: &str) {
        let labels = lateen_wire::proxy::Labels { labels: [("version".into(), version.into())].into() };
        let config = prost_types::Any { type_url: String::new(), value: labels.encode_to_vec() };
        self.put(wire::address::Type::Workload(wire::Workload {
            uid: name.into(),
            name: name.into(),
            namespace: "shop".into(),
            addresses: vec![vec![10, 0, 0, name.as_bytes()[0]]],
            services: [(format!("shop/{}", book::HOST), wire::PortList::default())].into(),
            extensions: vec![wire::Extension { name: "lateen.labels".into(), config: Some(config) }],
            ..wire::Workload::default()
        }));
    }

    fn at(&self, second: u64) -> Arc<Chooser<String>> {
        let (world, here) = (self.world.load(), Spot::default());
        let now = Duration::from_secs(second);
        let at = Snapshot { cluster: &self.cluster, world: &world, here: &here, now, seed: 0 };
        self.keeper.current(at, |one, _| {
            let address = (*one.workload.addresses.first()?, 8080).into();
            Some(Made { endpoint: one.workload.name.to_string(), address })
        })
    }

    fn names(&self, second: u64) -> Vec<String> {
        self.at(second).members().iter().map(|member| member.endpoint.clone()).collect()
    }
}

#[test]
fn a_chooser_is_kept_until_its_own_endpoints_change() {
    let scene = Scene::new(None);
    scene.pod("a", "v1");
    let first = scene.at(1);
    assert!(Arc::ptr_eq(&first, &scene.at(2)), "nothing changed");
    scene.put(wire::address::Type::Workload(wire::Workload { uid: "stranger".into(), ..wire::Workload::default() }));
    assert!(Arc::ptr_eq(&first, &scene.at(3)), "the world changed, its endpoints did not");
    scene.pod("b", "v1");
    assert_eq!(scene.names(4), ["a", "b"]);
    scene.world.apply([lateen_state::index::Change::RemoveAddress("a".into())]);
    assert_eq!(scene.names(5), ["b"]);
}

#[test]
fn a_subset_has_the_endpoints_that_carry_its_labels() {
    let scene = Scene::new(Some("v2"));
    scene.pod("a", "v1");
    scene.pod("b", "v2");
    assert_eq!(scene.names(1), ["b"]);
    scene.pod("a", "v2");
    assert_eq!(scene.names(2), ["a", "b"]);
}

#[test]
fn ejections_outlive_choosers_and_end_with_a_sweep() {
    let mut scene = Scene::new(None);
    ["a", "b"].iter().for_each(|name| scene.pod(name, "v1"));
    let before = scene.at(1);
    let fail = |scene: &Scene, at: usize| {
        let chooser = scene.at(1);
        let now = Duration::from_secs(1);
        (0..5).for_each(|_| {
            let told = scene.keeper.observe(&scene.cluster, &chooser.members()[at], Event::Reset, now);
            told.expect("the gate is open");
        });
    };
    fail(&scene, 0);
    assert_eq!(scene.keeper.ejected(), 1);
    let after = scene.at(1);
    assert!(!Arc::ptr_eq(&before, &after) && after.members()[0].health.is_ejected());
    scene.pod("c", "v1");
    assert!(scene.at(2).members()[0].health.is_ejected(), "another endpoint changes nothing for this one");
    scene.keeper.sweep(&scene.cluster, Duration::from_secs(20));
    assert_eq!(scene.keeper.ejected(), 1, "30 s are not over");
    scene.keeper.sweep(&scene.cluster, Duration::from_secs(40));
    assert!(scene.keeper.ejected() == 0 && !scene.at(40).members()[0].health.is_ejected());
    fail(&scene, 1);
    let calm = Cluster { policy: TrafficPolicy::default(), ..Arc::try_unwrap(cluster(None)).expect("ours") };
    scene.cluster = Arc::new(calm);
    scene.keeper.sweep(&scene.cluster, Duration::from_secs(41));
    assert_eq!(scene.keeper.ejected(), 0, "without detection nobody is ejected");
}
