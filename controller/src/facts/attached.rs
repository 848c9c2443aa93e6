//! What is used of the Gateway API's routes, and of what lets them name objects of other namespaces.

use kube::core::DynamicObject;
use lateen_cluster::{
    api::{self, ParentRef, ReferenceGrantSpec, RouteSpec},
    store::Reading,
};

use super::Age;

/// Which of the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`.
    Grpc,
    /// `TLSRoute`.
    Tls,
    /// `TCPRoute`.
    Tcp,
}

impl RouteKind {
    /// As objects and grants write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }

    /// Whether it is for requests, not for connections.
    pub fn is_of_requests(self) -> bool {
        matches!(self, Self::Http | Self::Grpc)
    }
}

/// What is used of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Which.
    pub kind: RouteKind,
    /// The older one comes first.
    pub age: Age,
    /// As written.
    pub spec: RouteSpec,
    /// The generation a status speaks of.
    pub generation: i64,
    /// The parents its status speaks of in our name, perhaps as an earlier process wrote it.
    pub told: Vec<ParentRef>,
}

impl Route {
    /// Reads a route of any served version.
    pub fn read(kind: RouteKind, object: &DynamicObject) -> Reading<Self> {
        let spec: RouteSpec = match api::spec_of(kind.as_str(), object) {
            Ok(spec) => spec,
            Err(error) => return Reading::Unreadable(error.to_string()),
        };
        Reading::Value(Self {
            kind,
            age: Age::of(&object.metadata),
            spec,
            generation: object.metadata.generation.unwrap_or_default(),
            told: told(object, ("/status/parents", "parentRef")),
        })
    }
}

/// What a status says in our name: the references of the entries of a list.
pub(super) fn told(object: &DynamicObject, (list, reference): (&str, &str)) -> Vec<ParentRef> {
    let entries = object.data.pointer(list).and_then(serde_json::Value::as_array);
    let is_ours = |one: &&serde_json::Value| one["controllerName"].as_str().is_some_and(is_controller);
    let ours = entries.into_iter().flatten().filter(is_ours);
    ours.filter_map(|one| serde_json::from_value(one[reference].clone()).ok()).collect()
}

/// The name statuses know us by, where no class of Gateways says otherwise.
pub const CONTROLLER: &str = "istio.io/gateway-controller";
/// All names we write statuses under.
const CONTROLLERS: [&str; 2] = [CONTROLLER, "lateen.io/gateway-controller"];

/// Whether entries of statuses under this name are ours.
pub fn is_controller(name: &str) -> bool {
    CONTROLLERS.contains(&name)
}

/// What is used of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// As written.
    pub spec: ReferenceGrantSpec,
}

impl ReferenceGrant {
    /// Reads a grant of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        match api::spec_of("ReferenceGrant", object) {
            Ok(spec) => Reading::Value(Self { spec }),
            Err(error) => Reading::Unreadable(error.to_string()),
        }
    }

    /// Whether it lets objects of `kind` (of the Gateway API) in `namespace` name `to`: group, kind and name.
    pub fn lets(&self, (kind, namespace): (&str, &str), to: (&str, &str, &str)) -> bool {
        let from = |one: &api::GrantFrom| {
            one.group == "gateway.networking.k8s.io" && one.kind == kind && one.namespace == namespace
        };
        let named = |one: &api::GrantTo| {
            let group = if one.group == "core" { "" } else { one.group.as_str() };
            group == to.0 && one.kind == to.1 && one.name.as_deref().is_none_or(|name| name == to.2)
        };
        self.spec.from.iter().any(from) && self.spec.to.iter().any(named)
    }
}
