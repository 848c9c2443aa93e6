//! The control plane's resources into the world.
//!
//! In: responses of the delta stream. Out: one batch for the store, and which resources were refused.
//! Absent on purpose: the protocol (see `lateen-xds`), what resources mean (see `lateen-state`).

use lateen_state::{
    decode::{self, DecodeError, Refused},
    index::Change,
    wait::Demands,
    world::WorldStore,
};
use lateen_wire::{discovery::Resource, type_url};
use lateen_xds::client::{Handler, Rejected, Told};

/// Feeds one store.
#[derive(Debug, Clone)]
pub struct Feed {
    store: WorldStore,
    demands: Demands,
}

impl Feed {
    /// Into `store`; whoever waits through `demands` hears of answers.
    pub fn new(store: WorldStore, demands: Demands) -> Self {
        Self { store, demands }
    }
}

impl Handler for Feed {
    fn apply(&self, type_url: &str, resources: Vec<Told>, removed: Vec<String>) -> Result<(), Vec<Rejected>> {
        let (decode, remove): (Decode, fn(String) -> Change) = match type_url {
            type_url::ADDRESS => (address, Change::RemoveAddress),
            type_url::AUTHORIZATION => (policy, Change::RemovePolicy),
            other => {
                tracing::warn!(type_url = other, "resources of a type we did not ask for are passed over");
                return Ok(());
            }
        };
        let mut rejected = Vec::new();
        let mut changes = Vec::with_capacity(resources.len() + removed.len());
        for told in resources {
            match decode(&told) {
                Ok(change) => changes.push(change),
                Err(error) => {
                    let (resource, reason) = (told.resource, error.to_string());
                    changes.extend(stand_in(type_url, &resource, &reason));
                    rejected.push(Rejected { name: resource.name, reason });
                }
            }
        }
        changes.extend(removed.into_iter().map(remove));
        self.store.apply(changes);
        if type_url == type_url::ADDRESS {
            metrics::gauge!("istio_xds_unusable").set(self.store.load().unusable_count() as f64);
        }
        metrics::counter!("istio_xds_rejected").increment(rejected.len() as u64);
        if rejected.is_empty() { Ok(()) } else { Err(rejected) }
    }

    fn answered(&self, _: &str, keys: &[String]) {
        if let Demands::On(asked) = &self.demands {
            asked.answered(keys);
        }
    }
}

/// What refuses in the place of a resource that was rejected, until a good version comes or it is removed.
fn stand_in(type_url: &str, resource: &Resource, reason: &str) -> Option<Change> {
    let bytes = bytes(resource);
    if type_url == type_url::AUTHORIZATION {
        return decode::unreadable_policy(&resource.name, bytes);
    }
    let refused = Refused { name: &resource.name, aliases: &resource.aliases, bytes, reason };
    let change = decode::unreadable_address(&refused);
    if change.is_none() {
        tracing::warn!(
            name = resource.name,
            "a resource was rejected and no address of it can be told: none is refused"
        );
    }
    change
}

/// Reads one resource.
type Decode = fn(&Told) -> Result<Change, DecodeError>;

fn address(told: &Told) -> Result<Change, DecodeError> {
    decode::address_named(&told.name, bytes(&told.resource))
}

fn policy(told: &Told) -> Result<Change, DecodeError> {
    decode::policy(bytes(&told.resource))
}

fn bytes(resource: &Resource) -> &[u8] {
    resource.resource.as_ref().map_or(&[][..], |any| &any.value)
}

#[cfg(test)]
mod tests {
    use lateen_state::lookup::Known;
    use lateen_types::addr::NetworkAddress;
    use lateen_wire::workload::{Address, Workload, address::Type};
    use prost::Message as _;

    use super::*;
    use crate::fixtures::pod;

    fn told(resource: Resource) -> Told {
        Told { name: resource.name.as_str().into(), resource }
    }

    fn resource(name: &str, workload: Workload) -> Told {
        let value = Address { r#type: Some(Type::Workload(workload)) }.encode_to_vec();
        let any = prost_types::Any { type_url: type_url::ADDRESS.into(), value };
        told(Resource { name: name.into(), resource: Some(any), ..Default::default() })
    }

    #[test]
    fn a_bad_resource_refuses_only_itself() {
        let store = WorldStore::new(None);
        let feed = Feed::new(store.clone(), Demands::Off);
        let bad = Workload { addresses: vec![vec![1, 2, 3]], ..pod("bad", &[]) };
        let batch = vec![resource("good", pod("good", &["10.0.0.1"])), resource("bad", bad)];
        let rejected = feed.apply(type_url::ADDRESS, batch, vec![]).expect_err("one is bad");
        assert_eq!(rejected.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["bad"]);
        assert!(rejected[0].reason.contains("addresses"));
        assert_eq!(store.load().workloads().count(), 1);
        feed.apply(type_url::ADDRESS, vec![], vec!["Kubernetes//Pod/shop/good".into()]).expect("removed");
        assert_eq!(store.load().workloads().count(), 0);
        feed.apply("unknown", vec![told(Resource::default())], vec![]).expect("passed over");
    }

    #[test]
    fn a_workload_or_service_nobody_can_read_is_not_unknown() {
        let store = WorldStore::new(None);
        let feed = Feed::new(store.clone(), Demands::Off);
        let send = |batch: Vec<Told>, removed: &[&str]| {
            feed.apply(type_url::ADDRESS, batch, removed.iter().map(|name| (*name).to_owned()).collect())
        };
        let is_refused = |ip: &str| {
            let address = NetworkAddress { network: "".into(), ip: ip.parse().expect("an address") };
            let known = store.load().known_at(&address, &"shop".into());
            matches!(known, Some(Known::Unusable(one)) if !one.reason.is_empty())
        };
        const UID: &str = "Kubernetes//Pod/shop/bad";
        let bad = |ips: &[&str]| resource(UID, Workload { tunnel_protocol: 9, ..pod("bad", ips) });
        let good = |ips: &[&str]| resource(UID, pod("bad", ips));
        send(vec![bad(&["10.0.0.1", "10.0.0.2"])], &[]).expect_err("refused");
        assert!(is_refused("10.0.0.1") && is_refused("10.0.0.2") && !is_refused("10.0.0.3"));
        send(vec![good(&["10.0.0.1"])], &[]).expect("good");
        assert!(!is_refused("10.0.0.1") && !is_refused("10.0.0.2"));
        // What is held answers for its own address; an address only the bad version has is refused.
        send(vec![bad(&["10.0.0.1", "10.0.0.2"])], &[]).expect_err("refused");
        assert!(!is_refused("10.0.0.1") && is_refused("10.0.0.2"));
        send(vec![], &[UID]).expect("removed");
        assert!(!is_refused("10.0.0.2"));
        // Not even the bytes are a message, but the control plane said where it is.
        let any = prost_types::Any { type_url: type_url::ADDRESS.into(), value: vec![0xff; 9] };
        let aliases = vec!["/10.0.0.4".to_owned()];
        send(vec![told(Resource { name: UID.into(), resource: Some(any), aliases, ..Default::default() })], &[])
            .expect_err("refused");
        assert!(is_refused("10.0.0.4"));
        send(vec![], &[UID]).expect("removed");
        assert!(!is_refused("10.0.0.4"));
        assert_eq!(store.load().unusable_count(), 0);
    }

    #[test]
    fn a_policy_nobody_can_read_opens_nothing() {
        use lateen_policy::decide::{Facts, decide};
        use lateen_wire::security::{Action, Authorization, Clause, Match, Rule, Scope};

        let store = WorldStore::new(None);
        let feed = Feed::new(store.clone(), Demands::Off);
        let send = |name: &str, value: Vec<u8>| {
            let any = prost_types::Any { type_url: type_url::AUTHORIZATION.into(), value };
            feed.apply(
                type_url::AUTHORIZATION,
                vec![told(Resource { name: name.into(), resource: Some(any), ..Default::default() })],
                vec![],
            )
        };
        let policy = |action: Action, port: u32| {
            let matches = vec![Match { destination_ports: vec![port], ..Default::default() }];
            let rules = vec![Rule { clauses: vec![Clause { matches }] }];
            Authorization {
                name: "p".into(),
                namespace: "shop".into(),
                scope: Scope::Namespace.into(),
                action: action.into(),
                rules,
                ..Default::default()
            }
        };
        let passes = |port: u16| {
            let world = store.load();
            let policies: Vec<_> = world.policies().map(|policy| &**policy).collect();
            let destination = std::net::SocketAddr::from(([10, 0, 0, 2], port));
            decide(&policies, &Facts { source: ([10, 0, 0, 1], 1).into(), destination, identity: None, client: None })
                .is_allowed()
        };
        for unreadable in
            [policy(Action::Deny, 70_000).encode_to_vec(), policy(Action::Allow, 70_000).encode_to_vec(), vec![0xff]]
        {
            send("shop/p", unreadable).expect_err("it is refused");
            assert!(!passes(80), "nothing passes until it can be read");
            send("shop/p", policy(Action::Deny, 81).encode_to_vec()).expect("it can be read now");
            assert!(passes(80) && !passes(81));
            send("shop/p", policy(Action::Deny, 70_000).encode_to_vec()).expect_err("it is refused");
            assert!(passes(80) && !passes(81), "what was held stays");
            feed.apply(type_url::AUTHORIZATION, vec![], vec!["shop/p".into()]).expect("removed");
            assert!(passes(81));
        }
        send("shop/p", Authorization { dry_run: true, ..policy(Action::Deny, 70_000) }.encode_to_vec())
            .expect_err("refused");
        assert!(passes(80), "a dry run refuses nothing");
    }
}
