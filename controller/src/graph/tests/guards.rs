//! Authorization policies reach the waypoints and services they are for, and nobody else.

use lateen_wire::{proxy as wire, type_url};

use super::{super::*, show::Cluster};

const OF_SERVICE: &str = r"
kind: AuthorizationPolicy
metadata: {name: getters, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
";

/// The waypoint has an address.
const READY: &str = r"
kind: Gateway
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: waypoint, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status:
  addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]
---
";

fn shop(objects: &str) -> Cluster {
    Cluster::with_waypoint(&[("web", "http", 80), ("db", "tcp", 27017)], &format!("{READY}{objects}"))
}

fn policy(cluster: &Cluster, name: &str) -> wire::Policy {
    cluster.message(type_url::POLICY, name).expect("a policy")
}

const AT_WEB: &str = "shop/waypoint/shop/web.shop.svc.cluster.local/shop/getters";

#[test]
fn a_policy_for_a_service_is_sent_for_it() {
    let mut cluster = shop(OF_SERVICE);
    assert_eq!(cluster.names(type_url::POLICY), [AT_WEB]);
    assert_eq!(cluster.service("web").policies, [AT_WEB]);
    assert!(cluster.service("db").policies.is_empty() && cluster.proxy("shop/waypoint").policies.is_empty());
    let sent = policy(&cluster, AT_WEB);
    assert_eq!((sent.namespace.as_str(), sent.name.as_str(), sent.action()), ("shop", "getters", wire::Action::Allow));
    let said = cluster.said_by(Reporter::Waypoint, Kind::AuthorizationPolicy, "getters");
    assert_eq!(said, ["WaypointAccepted Accepted: Service/web attached"]);

    // It moves with its target, changes with its words, and goes with itself.
    cluster.apply(&OF_SERVICE.replace("name: web", "name: db"));
    let at_db = AT_WEB.replace("/web.", "/db.");
    assert_eq!(cluster.names(type_url::POLICY), [at_db.as_str()]);
    assert!(cluster.service("web").policies.is_empty());
    cluster.apply(&OF_SERVICE.replace("GET", "POST"));
    assert_eq!(policy(&cluster, AT_WEB).rules[0].clauses[0].matches[0].fields[0].any, ["POST"]);
    cluster.delete(OF_SERVICE);
    assert!(cluster.names(type_url::POLICY).is_empty() && cluster.service("web").policies.is_empty());
}

#[test]
fn what_is_no_longer_bound_is_no_longer_ruled_there() {
    let mut cluster = shop(OF_SERVICE);
    let service = "kind: Service\nmetadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: none}}\n\
                   spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}\n";
    cluster.apply(service);
    assert!(cluster.names(type_url::POLICY).is_empty());
    let said = cluster.said_by(Reporter::Waypoint, Kind::AuthorizationPolicy, "getters");
    assert!(said[0].contains("AncestorNotBound"), "{said:?}");
    cluster.apply(&service.replace("none", "waypoint"));
    assert_eq!(cluster.names(type_url::POLICY), [AT_WEB]);
    let said = cluster.said_by(Reporter::Waypoint, Kind::AuthorizationPolicy, "getters");
    assert_eq!(said, ["WaypointAccepted Accepted: Service/web attached"]);
}

#[test]
fn a_policy_for_a_gateway_or_its_class_holds_for_every_request() {
    let gateway = r"
kind: AuthorizationPolicy
metadata: {name: all, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]
---
kind: AuthorizationPolicy
metadata: {name: class, namespace: istio-system}
spec:
  action: DENY
  targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]
  rules: [{from: [{source: {requestPrincipals: ['*']}}]}]
---
kind: AuthorizationPolicy
metadata: {name: elsewhere, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]
---
kind: AuthorizationPolicy
metadata: {name: selecting, namespace: shop}
spec: {}
";
    let cluster = shop(gateway);
    let names = ["shop/waypoint/istio-system/class", "shop/waypoint/shop/all"];
    assert_eq!(cluster.names(type_url::POLICY), names);
    assert_eq!(cluster.proxy("shop/waypoint").policies, names);
    assert!(cluster.service("web").policies.is_empty());
    // What needs a token closes: a DENY of all that the rule speaks of.
    assert!(policy(&cluster, names[0]).rules[0].clauses.is_empty());
    let object = Object { kind: Kind::AuthorizationPolicy, key: Key::new("istio-system", "class") };
    let word = &cluster.told[&(object, Reporter::Waypoint)].words[0];
    assert_eq!((word.truth, word.reason), (crate::derive::word::Truth::True, "UnsupportedValue"));
    let field = "spec.rules[0].from[0].source.requestPrincipals: it needs a JSON web token";
    assert!(word.message.contains(field) && word.message.contains("refuses more"), "{}", word.message);
    let said = cluster.said_by(Reporter::Waypoint, Kind::AuthorizationPolicy, "elsewhere");
    assert!(said[0].contains("Invalid"), "{said:?}");
}
