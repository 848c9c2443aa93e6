//! The server's state: store, registry, keys, and the lock that makes each write one step.
//!
//! Absent on purpose: HTTP. `ops` reads and writes, `http` speaks.

use std::{fmt, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    convert, crd,
    ipam::Range,
    node_proxy::NodeProxy,
    object,
    registry::Registry,
    resource::{Resource, Version},
    status::ApiError,
    store::{GroupResource, HISTORY_MAX, ObjectKey, Store},
    token::{TokenError, Tokens},
};

/// What the caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Cluster IPs of family IPv4.
    pub service_range_v4: Range,
    /// Cluster IPs of family IPv6.
    pub service_range_v6: Range,
    /// More names and addresses in the serving certificate; loopback and the in-cluster names are always there.
    pub names: Vec<String>,
    /// Where pods reach this server: endpoints of the service `default/kubernetes`. None: the service has no endpoints.
    pub advertise: Option<SocketAddr>,
    /// Who answers for nodes.
    pub nodes: Option<Arc<dyn NodeProxy>>,
    /// How many past events of one resource watches can be continued from.
    pub history_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            service_range_v4: "10.96.0.0/16".parse().expect("a constant network"),
            service_range_v6: "fd00:10:96::/112".parse().expect("a constant network"),
            names: Vec::new(),
            advertise: None,
            nodes: None,
            history_max: HISTORY_MAX,
        }
    }
}

/// The server without its sockets.
pub struct Api {
    /// All objects.
    pub store: Store,
    /// All served resources.
    pub registry: Registry,
    /// What the caller decided.
    pub options: Options,
    /// Service-account tokens.
    pub tokens: Tokens,
    /// The certificate authority of the serving certificate, PEM.
    pub ca_pem: String,
    /// Held from reading an object to writing it, so that no write is lost and no address given twice. Never across an await.
    pub writer: Mutex<()>,
    /// Wakes the collector after anything that may leave work for it.
    pub collect: Notify,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What a request is about.
#[derive(Debug, Clone)]
pub struct Target {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The version the client speaks.
    pub version: String,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
}

impl Target {
    /// The object's key in the store.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(&self.namespace, &self.name)
    }

    /// `group/version` as the client writes it.
    pub fn api_version(&self) -> String {
        self.resource.api_version(&self.version)
    }

    /// The version's traits.
    pub fn traits(&self) -> Result<&Version, ApiError> {
        self.resource.version(&self.version).ok_or_else(ApiError::no_such_path)
    }

    /// A stored object as this client sees it.
    pub fn shown(&self, stored: &Value) -> Value {
        let mut object = stored.clone();
        convert::to_version(&self.resource, &self.version, &mut object);
        object
    }
}

impl Api {
    /// A server with the objects every cluster starts with.
    pub fn new(options: Options, ca_pem: String) -> Result<Self, TokenError> {
        let api = Self {
            store: Store::remembering(options.history_max),
            registry: Registry::new(),
            options,
            tokens: Tokens::new()?,
            ca_pem,
            writer: Mutex::new(()),
            collect: Notify::new(),
        };
        crate::seed::plant(&api);
        Ok(api)
    }

    /// One object of a built-in kind.
    pub fn built_in(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.store.get(&GroupResource::new(group, resource), &ObjectKey::new(namespace, name))
    }

    /// Serves what the stored CRDs define from now on.
    pub fn refresh_custom(&self) {
        let kind = GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions");
        let crds = self.store.list(&kind, None).objects;
        self.registry.set_custom(crds.iter().map(|crd| crd::resource(crd)).collect());
    }
}

/// An empty list of the target's kind.
pub fn empty_list(target: &Target, revision: u64) -> Value {
    json!({
        "kind": target.resource.list_kind, "apiVersion": target.api_version(),
        "metadata": { "resourceVersion": revision.to_string() }, "items": [],
    })
}

/// The metadata a stored object starts with.
pub fn stamp_new(object: &mut Value) {
    object::set(object, &["metadata", "uid"], object::new_uid());
    object::set(object, &["metadata", "creationTimestamp"], object::now());
}
