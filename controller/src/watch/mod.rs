//! Follows every kind the mesh is derived from.
//!
//! In: the API. Out: stores of facts, the names of what changed in one merging inbox, word when all stores are complete.
//! Absent on purpose: what a change means.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::watcher,
};
use lateen_cluster::{
    api as resources, labels,
    store::{self, Key, Listener, Reading, Store},
};
use lateen_rt::{drain::Drain, inbox::Inbox, ready::Readiness, tasks::Tasks};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    ca::residents::Residents,
    credentials::Found,
    facts::{
        AuthorizationPolicy, BackendTls, Common, DestinationRule, EndpointSlice, Gateway, GatewayClass, Lookup,
        Namespace, Node, PeerAuthentication, Pod, ReferenceGrant, Route, RouteKind, Servers, Service, ServiceEntry,
        Source, VirtualService, WorkloadEntry,
    },
    graph::Update,
    scope::Scope,
};

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    Namespace(Key),
    Node(Key),
    Pod(Key),
    Service(Key),
    Slice(Key),
    Policy(Key),
    Peer(Key),
    Entry(Key),
    External(Key),
    Gateway(Key),
    Class(Key),
    VirtualService(Key),
    Rule(Key),
    Route(RouteKind, Key),
    Grant(Key),
    /// A Gateway of the mesh's own API.
    Servers(Key),
    Backing(Key),
    /// Something that TLS needs.
    Credential(Source),
    /// What holds for the whole mesh.
    Settings,
}

impl Change {
    /// The object; none for what is not one.
    fn key(&self) -> Option<&Key> {
        match self {
            Self::Namespace(key)
            | Self::Node(key)
            | Self::Pod(key)
            | Self::Service(key)
            | Self::Slice(key)
            | Self::Policy(key)
            | Self::Peer(key)
            | Self::Entry(key)
            | Self::External(key)
            | Self::Gateway(key)
            | Self::Class(key)
            | Self::VirtualService(key)
            | Self::Rule(key)
            | Self::Route(_, key)
            | Self::Grant(key)
            | Self::Servers(key)
            | Self::Backing(key)
            | Self::Credential(Source::Secret(key) | Source::ConfigMap(key)) => Some(key),
            Self::Settings => None,
        }
    }
}

/// What is kept of the cluster; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    /// By name.
    pub namespaces: Store<Namespace>,
    nodes: Store<Node>,
    pods: Store<Pod>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    policies: Store<AuthorizationPolicy>,
    peers: Store<PeerAuthentication>,
    /// Service entries, which are given addresses.
    pub entries: Store<ServiceEntry>,
    externals: Store<WorkloadEntry>,
    gateways: Store<Gateway>,
    classes: Store<GatewayClass>,
    virtual_services: Store<VirtualService>,
    rules: Store<DestinationRule>,
    http: Store<Route>,
    grpc: Store<Route>,
    tls: Store<Route>,
    tcp: Store<Route>,
    grants: Store<ReferenceGrant>,
    servers: Store<Servers>,
    backings: Store<BackendTls>,
    /// What TLS needs.
    pub credentials: Found,
}

impl Stores {
    fn routes(&self, kind: RouteKind) -> &Store<Route> {
        match kind {
            RouteKind::Http => &self.http,
            RouteKind::Grpc => &self.grpc,
            RouteKind::Tls => &self.tls,
            RouteKind::Tcp => &self.tcp,
        }
    }

    /// The present state of what changed; what is outside `scope` is as good as gone.
    pub fn update(&self, change: &Change, scope: &Scope) -> Option<Update> {
        let key = change.key()?;
        let held = scope.holds(key);
        fn found<V>(store: &Store<V>, key: &Key, held: bool) -> Option<Arc<V>> {
            if held { store.find(key) } else { None }
        }
        Some(match change {
            Change::Namespace(_) => Update::Namespace(key.clone(), found(&self.namespaces, key, held)),
            Change::Node(_) => Update::Node(key.clone(), found(&self.nodes, key, held)),
            Change::Pod(_) => Update::Pod(key.clone(), found(&self.pods, key, held)),
            Change::Service(_) => Update::Service(key.clone(), found(&self.services, key, held)),
            Change::Slice(_) => Update::Slice(key.clone(), found(&self.slices, key, held)),
            Change::Policy(_) => Update::Policy(key.clone(), found(&self.policies, key, held)),
            Change::Peer(_) => Update::Peer(key.clone(), found(&self.peers, key, held)),
            Change::Entry(_) => Update::Entry(key.clone(), found(&self.entries, key, held)),
            Change::External(_) => Update::External(key.clone(), found(&self.externals, key, held)),
            Change::Gateway(_) => Update::Gateway(key.clone(), found(&self.gateways, key, held)),
            Change::Class(_) => Update::Class(key.clone(), found(&self.classes, key, held)),
            Change::VirtualService(_) => Update::VirtualService(key.clone(), found(&self.virtual_services, key, held)),
            Change::Rule(_) => Update::Rule(key.clone(), found(&self.rules, key, held)),
            Change::Route(kind, _) => Update::Route(*kind, key.clone(), found(self.routes(*kind), key, held)),
            Change::Grant(_) => Update::Grant(key.clone(), found(&self.grants, key, held)),
            Change::Servers(_) => Update::Servers(key.clone(), found(&self.servers, key, held)),
            Change::Backing(_) => Update::Backing(key.clone(), found(&self.backings, key, held)),
            Change::Credential(source) => {
                let found = if held { self.credentials.look(source) } else { Lookup::Absent };
                Update::Credential(source.clone(), found)
            }
            Change::Settings => return None,
        })
    }

    /// Everything in the namespaces that came into the scope or left it.
    pub fn moved(&self, before: &Scope, after: &Scope) -> Vec<Change> {
        fn of<V>(store: &Store<V>, change: fn(Key) -> Change, moved: &dyn Fn(&Key) -> bool) -> Vec<Change> {
            store.snapshot().into_iter().map(|(key, _)| key).filter(|key| moved(key)).map(change).collect()
        }
        let moved = |key: &Key| before.holds(key) != after.holds(key);
        let mut all = of(&self.pods, Change::Pod, &moved);
        all.extend(of(&self.services, Change::Service, &moved));
        all.extend(of(&self.slices, Change::Slice, &moved));
        all.extend(of(&self.policies, Change::Policy, &moved));
        all.extend(of(&self.peers, Change::Peer, &moved));
        all.extend(of(&self.entries, Change::Entry, &moved));
        all.extend(of(&self.externals, Change::External, &moved));
        all.extend(of(&self.gateways, Change::Gateway, &moved));
        all.extend(of(&self.virtual_services, Change::VirtualService, &moved));
        all.extend(of(&self.rules, Change::Rule, &moved));
        all.extend(of(&self.http, |key| Change::Route(RouteKind::Http, key), &moved));
        all.extend(of(&self.grpc, |key| Change::Route(RouteKind::Grpc, key), &moved));
        all.extend(of(&self.tls, |key| Change::Route(RouteKind::Tls, key), &moved));
        all.extend(of(&self.tcp, |key| Change::Route(RouteKind::Tcp, key), &moved));
        all.extend(of(&self.grants, Change::Grant, &moved));
        all.extend(of(&self.servers, Change::Servers, &moved));
        all.extend(of(&self.backings, Change::Backing, &moved));
        all
    }
}

/// How many kinds are not complete yet; 0 is all.
pub type Incomplete = watch::Receiver<usize>;

/// What following needs.
pub struct Watch {
    /// The API.
    pub client: Client,
    /// Where facts are kept.
    pub stores: Stores,
    /// Where changes are told.
    pub inbox: Inbox<Change>,
    /// Namespaces to hand trust anchors to.
    pub anchors: Inbox<Key>,
    /// Service entries to give addresses to.
    pub vips: Inbox<Key>,
    /// Objects labelled for another revision are not ours; empty takes all.
    pub revision: String,
    /// Who lives on which node, kept current without waiting for the inbox.
    pub residents: Residents,
    /// Gets one condition per kind.
    pub readiness: Readiness,
}

/// The kinds followed.
const KINDS: usize = 20;

impl Watch {
    /// Follows everything until `drain` begins.
    pub fn start(self, tasks: &Tasks, drain: &Drain) -> Incomplete {
        let left = watch::Sender::new(KINDS);
        let incomplete = left.subscribe();
        let follow = Follow { watch: &self, left: Arc::new(left), tasks, drain };
        let stores = &self.stores;
        let anchors = self.anchors.clone();
        let told = move |key: &Key| anchors.push(key.clone());
        let listener = follow.listener("namespaces", Namespace::read, Change::Namespace).also(told);
        follow.typed::<core::Namespace, _>(&stores.namespaces, listener);
        follow.typed::<core::Node, _>(&stores.nodes, follow.listener("nodes", Node::read, Change::Node));
        let (residents, pods) = (self.residents.clone(), stores.pods.clone());
        let noted = move |key: &Key| residents.note(key, pods.find(key).as_deref());
        let mut common = Common::default();
        let read = move |pod: core::Pod| match Pod::read(pod) {
            Reading::Value(pod) => Reading::Value(common.share(pod)),
            nothing => nothing,
        };
        follow.typed::<core::Pod, _>(&stores.pods, follow.listener("pods", read, Change::Pod).also(noted));
        let listener = follow.listener("services", Service::read, Change::Service);
        follow.typed::<core::Service, _>(&stores.services, listener);
        let listener = follow.listener("endpoint slices", EndpointSlice::read, Change::Slice);
        follow.typed::<discovery::EndpointSlice, _>(&stores.slices, listener);
        follow.policies(stores);
        follow.entries(stores, self.vips.clone());
        follow.gateways(stores);
        follow.traffic(stores);
        follow.attached(stores);
        incomplete
    }
}

struct Follow<'a> {
    watch: &'a Watch,
    left: Arc<watch::Sender<usize>>,
    tasks: &'a Tasks,
    drain: &'a Drain,
}

impl Follow<'_> {
    fn policies(&self, stores: &Stores) {
        let read = |object: DynamicObject| AuthorizationPolicy::read(&object);
        let listener = self.listener("authorization policies", read, Change::Policy);
        self.config(&ApiResource::erase::<resources::AuthorizationPolicy>(&()), &stores.policies, listener);
        let read = |object: DynamicObject| PeerAuthentication::read(&object);
        let listener = self.listener("peer authentications", read, Change::Peer);
        self.config(&ApiResource::erase::<resources::PeerAuthentication>(&()), &stores.peers, listener);
    }

    fn entries(&self, stores: &Stores, vips: Inbox<Key>) {
        let read = |object: DynamicObject| ServiceEntry::read(&object);
        let listener = self.listener("service entries", read, Change::Entry).also(move |key| vips.push(key.clone()));
        self.config(&kind("networking.istio.io", "ServiceEntry", "serviceentries"), &stores.entries, listener);
        let read = |object: DynamicObject| WorkloadEntry::read(&object);
        let listener = self.listener("workload entries", read, Change::External);
        self.config(&kind("networking.istio.io", "WorkloadEntry", "workloadentries"), &stores.externals, listener);
    }

    fn gateways(&self, stores: &Stores) {
        const GROUP: &str = "gateway.networking.k8s.io";
        let read = |object: DynamicObject| Gateway::read(&object);
        let listener = self.listener("gateways", read, Change::Gateway);
        self.config(&kind(GROUP, "Gateway", "gateways"), &stores.gateways, listener);
        let read = |object: DynamicObject| GatewayClass::read(&object);
        let listener = self.listener("gateway classes", read, Change::Class);
        self.config(&kind(GROUP, "GatewayClass", "gatewayclasses"), &stores.classes, listener);
        let read = |object: DynamicObject| Servers::read(&object);
        let listener = self.listener("servers", read, Change::Servers);
        self.config(&kind("networking.istio.io", "Gateway", "gateways"), &stores.servers, listener);
        let read = |object: DynamicObject| BackendTls::read(&object);
        let listener = self.listener("backend TLS policies", read, Change::Backing);
        self.config(&kind(GROUP, "BackendTLSPolicy", "backendtlspolicies"), &stores.backings, listener);
    }

    fn traffic(&self, stores: &Stores) {
        let read = |object: DynamicObject| VirtualService::read(&object);
        let listener = self.listener("virtual services", read, Change::VirtualService);
        let virtual_services = kind("networking.istio.io", "VirtualService", "virtualservices");
        self.config(&virtual_services, &stores.virtual_services, listener);
        let read = |object: DynamicObject| DestinationRule::read(&object);
        let listener = self.listener("destination rules", read, Change::Rule);
        self.config(&kind("networking.istio.io", "DestinationRule", "destinationrules"), &stores.rules, listener);
    }

    fn attached(&self, stores: &Stores) {
        const GROUP: &str = "gateway.networking.k8s.io";
        let listener = self.listener("HTTP routes", route(RouteKind::Http), |key| Change::Route(RouteKind::Http, key));
        self.config(&kind(GROUP, "HTTPRoute", "httproutes"), &stores.http, listener);
        let listener = self.listener("gRPC routes", route(RouteKind::Grpc), |key| Change::Route(RouteKind::Grpc, key));
        self.config(&kind(GROUP, "GRPCRoute", "grpcroutes"), &stores.grpc, listener);
        let listener = self.listener("TLS routes", route(RouteKind::Tls), |key| Change::Route(RouteKind::Tls, key));
        self.config(&kind(GROUP, "TLSRoute", "tlsroutes"), &stores.tls, listener);
        let listener = self.listener("TCP routes", route(RouteKind::Tcp), |key| Change::Route(RouteKind::Tcp, key));
        self.config(&kind(GROUP, "TCPRoute", "tcproutes"), &stores.tcp, listener);
        let read = |object: DynamicObject| ReferenceGrant::read(&object);
        let listener = self.listener("reference grants", read, Change::Grant);
        // The oldest version that clusters still serve; all say the same.
        let gvk = GroupVersionKind::gvk(GROUP, "v1beta1", "ReferenceGrant");
        self.config(&ApiResource::from_gvk_with_plural(&gvk, "referencegrants"), &stores.grants, listener);
    }

    fn listener<K, V>(
        &self,
        name: &'static str,
        read: impl FnMut(K) -> Reading<V> + Send + 'static,
        change: fn(Key) -> Change,
    ) -> Told<K, V> {
        Told {
            read: Box::new(read),
            change,
            inbox: self.watch.inbox.clone(),
            condition: self.watch.readiness.condition(name),
            left: Some(self.left.clone()),
            also: Box::new(|_| {}),
            is_ours: None,
        }
    }

    fn typed<K, V>(&self, store: &Store<V>, listener: Told<K, V>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        V: PartialEq + Send + Sync + 'static,
    {
        self.spawn(Api::all(self.watch.client.clone()), store, listener);
    }

    /// Follows a kind whose objects may belong to another revision.
    fn config<V>(&self, kind: &ApiResource, store: &Store<V>, mut listener: Told<DynamicObject, V>)
    where
        V: PartialEq + Send + Sync + 'static,
    {
        let revision = self.watch.revision.clone();
        listener.is_ours = Some(Box::new(move |object| is_ours(object, &revision)));
        self.spawn(Api::all_with(self.watch.client.clone(), kind), store, listener);
    }

    fn spawn<K, V>(&self, api: Api<K>, store: &Store<V>, listener: Told<K, V>)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        V: PartialEq + Send + Sync + 'static,
    {
        let (drain, store) = (self.drain.clone(), store.clone());
        self.tasks.spawn("following the cluster", async move {
            let following = store::follow(api, watcher::Config::default(), store, listener);
            tokio::select! {
                () = following => {}
                () = drain.draining() => {}
            }
        });
    }
}

/// Tells of changes of one kind.
struct Told<K, V> {
    read: Box<dyn FnMut(K) -> Reading<V> + Send>,
    change: fn(Key) -> Change,
    inbox: Inbox<Change>,
    condition: lateen_rt::ready::Condition,
    /// Until the first list is complete.
    left: Option<Arc<watch::Sender<usize>>>,
    also: Box<dyn Fn(&Key) + Send>,
    is_ours: Option<Ours<K>>,
}

/// Whether an object is to be looked at.
type Ours<K> = Box<dyn Fn(&K) -> bool + Send>;

fn route(kind: RouteKind) -> impl FnMut(DynamicObject) -> Reading<Route> + Send + 'static {
    move |object| Route::read(kind, &object)
}

fn kind(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
}

/// Whether an object is for the control plane of this revision.
fn is_ours(object: &DynamicObject, revision: &str) -> bool {
    let label = object.metadata.labels.as_ref().and_then(|all| all.get(labels::REVISION));
    revision.is_empty() || label.is_none_or(|wanted| wanted == revision)
}

impl<K, V> Told<K, V> {
    /// Calls `also` with each changed key, before the change is in the inbox.
    fn also(mut self, also: impl Fn(&Key) + Send + 'static) -> Self {
        self.also = Box::new(also);
        self
    }
}

impl<K, V: PartialEq + Send + Sync> Listener<K> for Told<K, V> {
    type Value = V;

    fn read(&mut self, object: K) -> Reading<V> {
        if self.is_ours.as_ref().is_some_and(|is_ours| !is_ours(&object)) {
            return Reading::Nothing;
        }
        (self.read)(object)
    }

    fn changed(&mut self, key: &Key) {
        (self.also)(key);
        self.inbox.push((self.change)(key.clone()));
    }

    fn complete(&mut self) {
        if let Some(left) = self.left.take() {
            self.condition.set(true);
            left.send_modify(|left| *left -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_other_revisions_are_not_ours() {
        let check = |label: Option<&str>, own: &str, expected: bool| {
            let mut object = DynamicObject::new("p", &kind("g", "K", "ks"));
            object.metadata.labels = label.map(|label| [(labels::REVISION.to_owned(), label.to_owned())].into());
            assert_eq!(is_ours(&object, own), expected, "{label:?} {own:?}");
        };
        check(None, "", true);
        check(Some("a"), "", true);
        check(None, "a", true);
        check(Some("a"), "a", true);
        check(Some("b"), "a", false);
    }
}
