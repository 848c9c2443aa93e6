//! A cluster written in YAML, and what its proxies are sent, in a notation a person reads.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::DynamicObject;
use lateen_wire::{
    proxy::{self as wire, http_route::Action, path_match, string_match, weighted},
    type_url,
};
use prost::Message;
use serde_json::Value;

use super::super::*;
use crate::{derive::tests::mesh, facts};
use lateen_cluster::store::Reading;

/// A graph that is told objects as users write them.
pub(super) struct Cluster {
    pub(super) graph: Graph,
    sent: BTreeMap<(String, String), Sent>,
    /// What proxies need of Secrets and ConfigMaps.
    pub(super) asked: BTreeSet<Source>,
    pub(super) told: BTreeMap<(Object, Reporter), Told>,
    /// How many objects came, which is when the next was created.
    age: u32,
}

/// A resource as it was sent last.
struct Sent {
    content: Vec<u8>,
    groups: Vec<Arc<str>>,
}

/// A namespace, a waypoint for it, and what else `objects` say.
pub(super) const WAYPOINT: &str = r"
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint}}
---
kind: Gateway
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: waypoint, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status: {addresses: [{type: IPAddress, value: 10.96.0.9}]}
---
";

impl Cluster {
    pub(super) fn new(objects: &str) -> Self {
        let mut cluster = Self {
            graph: Graph::new(mesh()),
            sent: BTreeMap::new(),
            asked: BTreeSet::new(),
            told: BTreeMap::new(),
            age: 0,
        };
        cluster.apply(objects);
        cluster
    }

    /// Services of `shop` by name, port name and port, behind a waypoint, and what else `objects` say.
    pub(super) fn with_waypoint(services: &[(&str, &str, u16)], objects: &str) -> Self {
        let mut cluster = Self::new(WAYPOINT);
        for (name, port, number) in services {
            cluster.apply(&format!(
                "kind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{clusterIP: 10.96.0.1, \
                 selector: {{app: {name}}}, ports: [{{name: {port}, port: {number}}}]}}\n"
            ));
        }
        cluster.apply(objects);
        cluster
    }

    /// All of them at once; one after the other in age.
    pub(super) fn apply(&mut self, objects: &str) -> usize {
        let updates = objects.split("\n---\n").filter(|text| !text.trim().is_empty());
        let updates: Vec<Update> = updates.map(|text| self.update(text, false)).collect();
        self.take(updates)
    }

    pub(super) fn delete(&mut self, objects: &str) -> usize {
        let updates = objects.split("\n---\n").filter(|text| !text.trim().is_empty());
        let updates: Vec<Update> = updates.map(|text| self.update(text, true)).collect();
        self.take(updates)
    }

    fn take(&mut self, updates: Vec<Update>) -> usize {
        let delta = self.graph.apply(&mesh(), updates);
        for told in delta.conditions {
            self.told.insert((told.object.clone(), told.reporter), told);
        }
        let count = delta.changes.len();
        if let Some(asked) = delta.asked {
            self.asked = asked;
        }
        for change in delta.changes {
            match change {
                Publish::Put(type_url, entry) => {
                    let sent = Sent { content: entry.content(), groups: entry.groups.clone() };
                    self.sent.insert((type_url.to_owned(), (*entry.name).to_owned()), sent);
                }
                Publish::Remove(type_url, name) => {
                    self.sent.remove(&(type_url.to_owned(), (*name).to_owned()));
                }
            }
        }
        count
    }

    fn update(&mut self, text: &str, is_gone: bool) -> Update {
        let mut object: Value = serde_saphyr::from_str(text).expect("YAML");
        self.age += 1;
        let at = format!("2026-01-01T00:{:02}:{:02}Z", self.age / 60, self.age % 60);
        object["metadata"]["creationTimestamp"] = Value::String(at);
        if object["apiVersion"].is_null() {
            object["apiVersion"] = Value::String("v1".to_owned());
        }
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let group = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        // As the API server does.
        let texts = object["stringData"].as_object().cloned().unwrap_or_default();
        for (name, text) in texts {
            let bytes = k8s_openapi::ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
            object["data"][name] = serde_json::to_value(bytes).expect("JSON");
        }
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let key = Key::of(&object);
        update_of((&group, &kind), key, object, is_gone)
    }

    pub(super) fn message<M: Message + Default>(&self, type_url: &str, name: &str) -> Option<M> {
        let sent = self.sent.get(&(type_url.to_owned(), name.to_owned()))?;
        Some(M::decode(sent.content.as_slice()).expect("the message"))
    }

    /// The one group of a resource.
    pub(super) fn group_of(&self, type_url: &str, name: &str) -> String {
        let sent = &self.sent[&(type_url.to_owned(), name.to_owned())];
        assert_eq!(sent.groups.len(), 1);
        sent.groups[0].to_string()
    }

    pub(super) fn names(&self, type_url: &str) -> Vec<&str> {
        self.sent.keys().filter(|(of, _)| of == type_url).map(|(_, name)| name.as_str()).collect()
    }

    pub(super) fn proxy(&self, name: &str) -> wire::Proxy {
        self.message(type_url::PROXY, name).expect("a proxy")
    }

    /// How the waypoint `shop/waypoint` serves a service of `shop`.
    pub(super) fn service(&self, name: &str) -> wire::Service {
        let name = format!("shop/waypoint/shop/{}", full(name));
        self.message(type_url::SERVICE, &name).expect("a service")
    }

    /// Its routes for requests, each on a line.
    pub(super) fn http(&self, name: &str) -> Vec<String> {
        self.service(name).ports[0].http.iter().map(show).collect()
    }

    /// The clusters by which it sends to a service.
    pub(super) fn clusters(&self, name: &str) -> Vec<wire::Cluster> {
        let name = format!("shop/waypoint/shop/{}", full(name));
        let found: wire::Destination = self.message(type_url::DESTINATION, &name).expect("a destination");
        found.clusters
    }

    /// Reason and message of each condition told of an object.
    pub(super) fn said(&self, kind: Kind, name: &str) -> Vec<String> {
        self.said_by(Reporter::Routes, kind, name)
    }

    /// The same, of what another reporter says.
    pub(super) fn said_by(&self, reporter: Reporter, kind: Kind, name: &str) -> Vec<String> {
        let object = Object { kind, key: Key::new("shop", name) };
        let told = self.told.get(&(object, reporter)).expect("something was told");
        told.words.iter().map(|word| format!("{} {}: {}", word.kind, word.reason, word.message)).collect()
    }
}

impl Cluster {
    /// Reason and message of each condition told of a route of `shop` at its first parent.
    pub(super) fn parent(&self, kind: RouteKind, name: &str) -> Vec<String> {
        self.parent_in("shop", kind, name)
    }

    pub(super) fn parent_in(&self, namespace: &str, kind: RouteKind, name: &str) -> Vec<String> {
        let object = Object { kind: Kind::Route(kind), key: Key::new(namespace, name) };
        let told = self.told.get(&(object, Reporter::Parents)).expect("something was told");
        told.parents[0].words.iter().map(|word| format!("{} {}: {}", word.kind, word.reason, word.message)).collect()
    }
}

fn full(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.shop.svc.cluster.local") }
}

fn value<V>(reading: Reading<V>, is_gone: bool) -> Option<Arc<V>> {
    match reading {
        Reading::Value(value) => (!is_gone).then(|| Arc::new(value)),
        Reading::Nothing => panic!("the object was skipped"),
        Reading::Unreadable(reason) => panic!("the object is unreadable: {reason}"),
    }
}

fn lookup(found: facts::Credential, gone: bool) -> Lookup {
    if gone { Lookup::Absent } else { Lookup::Found(Arc::new(found)) }
}

fn typed<K: serde::de::DeserializeOwned>(object: &DynamicObject) -> K {
    serde_json::from_value(serde_json::to_value(object).expect("JSON")).expect("of that kind")
}

fn update_of((version, kind): (&str, &str), key: Key, object: DynamicObject, gone: bool) -> Update {
    match kind {
        "Namespace" => Update::Namespace(key, value(Namespace::read(typed(&object)), gone)),
        "Service" => Update::Service(key, value(Service::read(typed(&object)), gone)),
        "Pod" => Update::Pod(key, value(Pod::read(typed(&object)), gone)),
        "ServiceEntry" => Update::Entry(key, value(ServiceEntry::read(&object), gone)),
        "AuthorizationPolicy" => Update::Policy(key, value(facts::AuthorizationPolicy::read(&object), gone)),
        "VirtualService" => Update::VirtualService(key, value(VirtualService::read(&object), gone)),
        "HTTPRoute" => Update::Route(RouteKind::Http, key, value(Route::read(RouteKind::Http, &object), gone)),
        "GRPCRoute" => Update::Route(RouteKind::Grpc, key, value(Route::read(RouteKind::Grpc, &object), gone)),
        "TLSRoute" => Update::Route(RouteKind::Tls, key, value(Route::read(RouteKind::Tls, &object), gone)),
        "TCPRoute" => Update::Route(RouteKind::Tcp, key, value(Route::read(RouteKind::Tcp, &object), gone)),
        "ReferenceGrant" => Update::Grant(key, value(ReferenceGrant::read(&object), gone)),
        "DestinationRule" => Update::Rule(key, value(DestinationRule::read(&object), gone)),
        "Gateway" if version.starts_with("networking.") => Update::Servers(key, value(Servers::read(&object), gone)),
        "GatewayClass" => Update::Class(key, value(GatewayClass::read(&object), gone)),
        "BackendTLSPolicy" => Update::Backing(key, value(facts::BackendTls::read(&object), gone)),
        "Secret" => {
            let found = facts::Credential::of_secret(&typed(&object));
            Update::Credential(Source::Secret(key), lookup(found, gone))
        }
        "ConfigMap" => {
            let found = facts::Credential::of_config_map(&typed(&object));
            Update::Credential(Source::ConfigMap(key), lookup(found, gone))
        }
        "Gateway" if version.starts_with("gateway.") => {
            Update::Gateway(key, value(facts::Gateway::read(&object), gone))
        }
        other => panic!("no such kind here: {other}"),
    }
}

/// `match => action`.
pub(super) fn show(route: &wire::HttpRoute) -> String {
    let mut text = String::new();
    if !route.name.is_empty() {
        text.push_str(&format!("{}: ", route.name));
    }
    text.push_str(&route.r#match.as_ref().map_or("any".to_owned(), show_match));
    text.push_str(" => ");
    if let Some(fault) = &route.fault {
        text.push_str(&format!("fault({fault:?}) "));
    }
    match route.action.as_ref().expect("an action") {
        Action::Forward(forward) => text.push_str(&show_forward(forward)),
        Action::Redirect(redirect) => text.push_str(&format!("redirect {} {}", redirect.status, redirect.authority)),
        Action::Direct(direct) => text.push_str(&format!("answer {}", direct.status)),
    }
    text
}

fn show_forward(forward: &wire::Forward) -> String {
    let to = |to: &wire::Upstream| {
        let name = to.hostname.strip_suffix(".svc.cluster.local").unwrap_or(&to.hostname);
        let subset = if to.subset.is_empty() { String::new() } else { format!("/{}", to.subset) };
        format!("{name}:{}{subset}", to.port)
    };
    let shares = forward.destinations.iter().map(|share| match share.to.as_ref().expect("somewhere") {
        weighted::To::Upstream(upstream) => format!("{}*{}", share.weight, to(upstream)),
        weighted::To::InvalidStatus(status) => format!("{}*{status}", share.weight),
        weighted::To::Redirect(redirect) => format!("{}*redirect {}", share.weight, redirect.status),
    });
    let mut text = shares.collect::<Vec<_>>().join(" + ");
    if forward.destinations.is_empty() {
        text = format!("answer {}", forward.empty_status);
    }
    if let Some(timeout) = &forward.timeout {
        text.push_str(&format!(" within {}ms", timeout.seconds * 1000 + i64::from(timeout.nanos) / 1_000_000));
    }
    for mirror in &forward.mirrors {
        text.push_str(&format!(" mirrored {}ppm {}", mirror.per_million, to(mirror.to.as_ref().expect("somewhere"))));
    }
    text
}

fn show_match(one: &wire::HttpMatch) -> String {
    let mut parts = Vec::new();
    match one.path.as_ref().and_then(|path| path.kind.as_ref()) {
        Some(path_match::Kind::Exact(text)) => parts.push(format!("={text}")),
        Some(path_match::Kind::Prefix(text)) => parts.push(format!("{text}*")),
        Some(path_match::Kind::ElementPrefix(text)) => parts.push(format!("{text}/**")),
        Some(path_match::Kind::Regex(text)) => parts.push(format!("~{text}")),
        None => {}
    }
    for (name, value) in [("method", &one.method), ("scheme", &one.scheme), ("authority", &one.authority)] {
        parts.extend(value.as_ref().map(|value| format!("{name}{}", show_text(value))));
    }
    for header in &one.headers {
        let not = if header.invert { "!" } else { "" };
        parts.push(format!("{not}{}{}", header.name, header.value.as_ref().map_or(String::new(), show_text)));
    }
    for query in &one.query {
        parts.push(format!("?{}{}", query.name, query.value.as_ref().map_or(String::new(), show_text)));
    }
    parts.join(" ")
}

fn show_text(text: &wire::StringMatch) -> String {
    match text.kind.as_ref().expect("something") {
        string_match::Kind::Exact(text) => format!("={text}"),
        string_match::Kind::Prefix(text) => format!("={text}*"),
        string_match::Kind::Suffix(text) => format!("=*{text}"),
        string_match::Kind::Regex(text) => format!("~{text}"),
        string_match::Kind::Present(_) => " present".to_owned(),
    }
}
