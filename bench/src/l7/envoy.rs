//! Envoy's configuration of a scene, as a control plane would write it: one listener, one virtual host, two RBAC filters.
//!
//! In: a scene, ports. Out: a bootstrap in JSON. Absent on purpose: access logs, which are off on both sides, and statistics
//! by identity, which the bare Envoy does not have.

use serde_json::{Value, json};

use super::scene::{HOST, Policy, SOURCES, Scene};

/// Where it listens and sends.
pub(crate) struct Ports {
    /// For requests.
    pub listen: u16,
    /// For readiness.
    pub admin: u16,
    /// The server's addresses.
    pub endpoints: Vec<std::net::SocketAddr>,
}

/// The whole bootstrap.
pub(crate) fn bootstrap(scene: &Scene, ports: &Ports) -> Value {
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    // A filter without policies would refuse everything.
    let mut filters: Vec<Value> =
        if scene.policies > 0 { vec![rbac(scene, true), rbac(scene, false)] } else { Vec::new() };
    filters.push(typed("envoy.filters.http.router", "filters.http.router.v3.Router", json!({})));
    let manager = typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "in",
            "use_remote_address": true,
            "normalize_path": true,
            "route_config": {"name": "routes", "virtual_hosts": [{
                "name": "shop", "domains": [HOST], "routes": scene.prefixes().map(route).collect::<Vec<Value>>(),
            }]},
            "http_filters": filters,
        }),
    );
    json!({
        "admin": {"address": address(ports.admin)},
        "static_resources": {
            "listeners": [{"name": "in", "address": address(ports.listen), "filter_chains": [{"filters": [manager]}]}],
            "clusters": [cluster(ports)],
        },
    })
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{kind}"));
    json!({"name": name, "typed_config": config})
}

/// With the mesh's default retries, as ours has them.
fn route(prefix: String) -> Value {
    json!({"match": {"prefix": prefix}, "route": {
        "cluster": "echo",
        "timeout": "0s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "num_retries": 2,
            "retriable_status_codes": [503],
        },
    }})
}

fn cluster(ports: &Ports) -> Value {
    let endpoint = |to: &std::net::SocketAddr| json!({"endpoint": {"address": {"socket_address": {"address": to.ip().to_string(), "port_value": to.port()}}}});
    let all: Vec<Value> = ports.endpoints.iter().map(endpoint).collect();
    let most = u32::MAX;
    json!({
        "name": "echo",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [
            {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}
        ]},
        "load_assignment": {"cluster_name": "echo", "endpoints": [{"lb_endpoints": all}]},
    })
}

/// All policies of one action.
fn rbac(scene: &Scene, denies: bool) -> Value {
    let of_action = scene.policies().filter(|policy| policy.denies == denies);
    let policies: serde_json::Map<String, Value> =
        of_action.map(|one| (format!("ns[shop]-policy[{}]-rule[0]", one.name), policy(&one))).collect();
    let action = if denies { "DENY" } else { "ALLOW" };
    typed(
        "envoy.filters.http.rbac",
        "filters.http.rbac.v3.RBAC",
        json!({"rules": {"action": action, "policies": policies}}),
    )
}

fn policy(of: &Policy) -> Value {
    let any = |what: &str, rules: Vec<Value>| json!({format!("or_{what}"): {what: rules}});
    let methods = of.methods.map(|method| json!({"header": {"name": ":method", "string_match": {"exact": method}}}));
    let paths = of.prefixes.each_ref().map(|prefix| json!({"url_path": {"path": {"prefix": prefix}}}));
    let sources =
        SOURCES.map(|(from, length)| json!({"direct_remote_ip": {"address_prefix": from, "prefix_len": length}}));
    json!({
        "permissions": [{"and_rules": {"rules": [any("rules", methods.into()), any("rules", paths.into())]}}],
        "principals": [{"and_ids": {"ids": [any("ids", sources.into())]}}],
    })
}
