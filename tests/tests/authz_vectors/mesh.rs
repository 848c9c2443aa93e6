//! A controller's graph and a proxy's world, joined by bytes.

use std::sync::Arc;

use kube::core::DynamicObject;
use lateen_cluster::store::{Key, Reading};
use lateen_controller::{
    derive::Mesh,
    facts::{AuthorizationPolicy, PeerAuthentication, Pod},
    graph::{Graph, Update},
};
use lateen_policy::decide::{Facts, Refusal, Verdict, decide_with_missing};
use lateen_state::{
    decode,
    index::Change,
    workload::Workload,
    world::{World, WorldStore},
};
use lateen_types::{addr::NetworkAddress, id::SpiffeId, name::NetworkId};
use lateen_xds::server::Publish;
use serde_json::{Value, json};

/// The pod all vectors call.
pub const D: &str = "10.0.0.9";

/// What a vector expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Allow,
    /// A DENY policy speaks.
    Denied,
    /// ALLOW policies exist, none matches.
    NotAllowed,
    /// A named policy has not arrived.
    Missing,
}

/// One connection to D.
#[derive(Debug, Clone)]
pub struct Call {
    pub identity: Option<SpiffeId>,
    pub source: &'static str,
    pub port: u16,
}

impl Call {
    /// `W:80`: one of the specification's callers, and a port. `none` is plaintext.
    pub fn new(text: &str) -> Self {
        let (who, port) = text.split_once(':').expect("caller and port");
        let identity = match who {
            "W" => Some("cluster.local/ns/web/sa/front"),
            "X" => Some("cluster.local/ns/batch/sa/job"),
            "F" => Some("other.org/ns/web/sa/front"),
            "S" => Some("cluster.local/ns/shop/sa/till"),
            "none" => None,
            other => panic!("no caller {other}"),
        };
        let identity = identity.map(|principal| format!("spiffe://{principal}").parse().expect("an identity"));
        Self { identity, source: "10.1.2.3", port: port.parse().expect("a port") }
    }

    pub fn from(mut self, source: &'static str) -> Self {
        self.source = source;
        self
    }
}

/// A cluster with D in it and a proxy that knows what the controller published.
pub struct Joined {
    graph: Graph,
    store: WorldStore,
}

impl Joined {
    pub fn with_d(dry_run: bool) -> Self {
        let mesh = Mesh {
            cluster: "Kubernetes".to_owned(),
            domain: "cluster.local".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            root_namespace: "istio-system".to_owned(),
            dry_run,
            sight: lateen_controller::derive::visible::Sight::default(),
            shown: lateen_controller::derive::Shown::default(),
            sessions: lateen_cluster::store::Key::new("istio-system", "lateen-sessions"),
            confines_servers: false,
            proxies: lateen_controller::derive::proxy::Defaults::default(),
        };
        let mut joined = Self { graph: Graph::new(mesh), store: WorldStore::new(None) };
        let pod = json!({
            "metadata": {
                "name": "d", "namespace": "shop", "uid": "u1", "labels": { "app": "d" },
                "annotations": { "ambient.istio.io/redirection": "enabled" },
            },
            "spec": { "nodeName": "n1", "serviceAccountName": "d", "containers": [{ "name": "c" }] },
            "status": { "phase": "Running", "podIP": D, "podIPs": [{ "ip": D }],
                        "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        let pod = read(Pod::read(serde_json::from_value(pod).expect("a pod")));
        let changes = joined.derive(vec![Update::Pod(Key::new("shop", "d"), Some(Arc::new(pod)))]);
        joined.store.apply(changes);
        joined
    }

    /// Applies an object as a user would, down to the proxy.
    pub fn apply(&mut self, object: &Value) {
        let changes = self.changes(object);
        self.store.apply(changes);
    }

    /// Applies an object, but the policies it makes stay on their way.
    pub fn apply_without_policies(&mut self, object: &Value) {
        let changes = self.changes(object);
        self.store.apply(changes.into_iter().filter(|change| !matches!(change, Change::Policy(_))));
    }

    fn changes(&mut self, object: &Value) -> Vec<Change> {
        let object: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
        let key = Key::of(&object);
        let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
        let update = match kind {
            "AuthorizationPolicy" => Update::Policy(key, Some(Arc::new(read(AuthorizationPolicy::read(&object))))),
            "PeerAuthentication" => Update::Peer(key, Some(Arc::new(read(PeerAuthentication::read(&object))))),
            other => panic!("no vector has a {other:?}"),
        };
        self.derive(vec![update])
    }

    fn derive(&mut self, updates: Vec<Update>) -> Vec<Change> {
        let mesh = self.graph.mesh().clone();
        self.graph.apply(&mesh, updates).changes.into_iter().map(decoded).collect()
    }

    pub fn world(&self) -> Arc<World> {
        self.store.load()
    }

    /// D as the proxy knows it now.
    pub fn d(&self) -> Arc<Workload> {
        let address = NetworkAddress { network: NetworkId::default(), ip: D.parse().expect("an address") };
        Arc::clone(self.world().workload_by_ip(&address).expect("D is known"))
    }

    /// The verdict on a call to D as it is now.
    pub fn verdict(&self, call: &Call) -> Verdict {
        verdict(&self.world(), &self.d(), call)
    }
}

/// The verdict in `world` on a call to `workload`.
pub fn verdict(world: &World, workload: &Workload, call: &Call) -> Verdict {
    let policies = world.policies_for(workload);
    let known: Vec<_> = policies.known.iter().map(Arc::as_ref).collect();
    let facts = Facts {
        source: format!("{}:40000", call.source).parse().expect("an address"),
        destination: format!("{D}:{}", call.port).parse().expect("an address"),
        identity: call.identity.as_ref(),
        client: None,
    };
    decide_with_missing(&known, &policies.missing, &facts)
}

pub fn outcome(verdict: &Verdict) -> Expect {
    match verdict.refusal() {
        None => Expect::Allow,
        Some(Refusal::ExplicitlyDenied(_)) => Expect::Denied,
        Some(Refusal::NoneAllowed) => Expect::NotAllowed,
        Some(Refusal::PolicyMissing(_)) => Expect::Missing,
    }
}

fn decoded(publish: Publish) -> Change {
    match publish {
        Publish::Put(url, entry) if url.ends_with("Authorization") => decode::policy(&entry.content()).expect("valid"),
        Publish::Put(_, entry) => decode::address(&entry.content()).expect("valid"),
        Publish::Remove(url, name) if url.ends_with("Authorization") => Change::RemovePolicy((*name).into()),
        Publish::Remove(_, name) => Change::RemoveAddress((*name).into()),
    }
}

fn read<V>(reading: Reading<V>) -> V {
    match reading {
        Reading::Value(value) => value,
        Reading::Nothing => panic!("the object was skipped"),
        Reading::Unreadable(reason) => panic!("the object is unreadable: {reason}"),
    }
}
