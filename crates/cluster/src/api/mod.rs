//! Our custom resources as Rust types; the schemas in `deploy/crds` are generated from them.
//!
//! Objects are followed as [`DynamicObject`] and read one by one with [`spec_of`], so that one object nobody can read
//! does not hide all others of its kind.

mod authorization_policy;
mod condition;
mod destination_rule;
mod duration;
mod gateway;
mod gateway_route;
mod peer_authentication;
mod service_entry;
mod virtual_service;
mod workload_entry;

use kube::core::DynamicObject;
use serde::de::DeserializeOwned;

pub use authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Condition, From, Operation, Provider, Rule, Source,
    TargetRef, To,
};
pub use condition::{PolicyStatus, StatusCondition};
pub use destination_rule::{
    ClientTls, ConnectionPool, ConsistentHash, DestinationRuleSpec, Distribute, HashCookie, HttpPool, LoadBalancer,
    LocalitySetting, OutlierDetection, PortPolicy, ProxyProtocol, RetryBudget, Subset, TcpPool, TrafficPolicy, Tunnel,
    Warmup,
};
pub use duration::Duration;
pub use gateway::{
    AllowedRoutes, AltName, BackendTls, BackendTlsPolicySpec, BackendValidation, ClientValidation, FrontendPort,
    FrontendTls, GatewayTls, IstioGatewaySpec, Listener, ListenerTls, ObjectRef, PolicyTarget, PortFrontend,
    RouteGroupKind, RouteNamespaces, Server, ServerPort, ServerTls,
};
pub use gateway_route::{
    BackendRef, Filter, Fraction, GrantFrom, GrantTo, GrpcMethod, HeaderModifier, Method, NamedMatch, ParentRef,
    PathModifier, ReferenceGrantSpec, RequestMirror, RequestRedirect, RouteCors, RouteMatch, RouteRetry, RouteRule,
    RouteSpec, SessionCookie, SessionHeader, SessionPersistence, Timeouts, TypedValue, UrlRewrite,
};
pub use peer_authentication::{MutualTls, MutualTlsMode, PeerAuthentication, PeerAuthenticationSpec};
pub use service_entry::{
    AllocatedAddress, LabelsSelector, Location, Resolution, ServiceEntry, ServiceEntrySpec, ServiceEntryStatus,
    ServicePort,
};
pub use virtual_service::{
    Abort, Body, Cors, Delay, Delegate, Destination, DirectResponse, Fault, GRPC_STATUSES, HeaderEdits, Headers,
    HttpMatch, HttpRoute, HttpTarget, Mirror, Percent, Redirect, RegexRewrite, Retries, Rewrite, StringMatch, Target,
    TcpMatch, TcpRoute, TlsMatch, TlsRoute, VirtualServiceSpec,
};
pub use workload_entry::{WorkloadEntry, WorkloadEntrySpec};

/// Which pods of its namespace a policy is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels a pod must carry, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<lateen_types::label::Labels>,
}

/// A port by its number.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Port {
    /// The number.
    pub number: u32,
}

/// An object whose spec is not what its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {namespace}/{name}: its spec cannot be read: {reason}; correct the object")]
pub struct SpecError {
    /// The kind of object.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the decoder said, with the field's path where it knows.
    pub reason: String,
}

/// The spec of `object`; an absent one is empty, as the API server allows both.
pub fn spec_of<S: DeserializeOwned + Default>(kind: &'static str, object: &DynamicObject) -> Result<S, SpecError> {
    let Some(spec) = object.data.get("spec").filter(|spec| !spec.is_null()) else { return Ok(S::default()) };
    S::deserialize(spec).map_err(|error| SpecError {
        kind,
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.metadata.name.clone().unwrap_or_default(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;
    use serde_json::json;

    use super::*;

    fn object(data: serde_json::Value) -> DynamicObject {
        DynamicObject::new("p", &ApiResource::erase::<AuthorizationPolicy>(&())).within("shop").data(data)
    }

    #[test]
    fn an_absent_spec_is_an_empty_one_and_a_wrong_one_names_the_object() {
        for data in [json!({}), json!({"spec": null}), json!({"spec": {}})] {
            let spec: AuthorizationPolicySpec = spec_of("AuthorizationPolicy", &object(data)).expect("empty");
            assert_eq!(spec, AuthorizationPolicySpec::default());
        }
        let wrong = object(json!({"spec": {"action": "MAYBE"}}));
        let error = spec_of::<AuthorizationPolicySpec>("AuthorizationPolicy", &wrong).expect_err("unknown action");
        assert!(error.to_string().starts_with("AuthorizationPolicy shop/p: "), "{error}");
        assert!(error.reason.contains("MAYBE"), "{error}");
    }
}
