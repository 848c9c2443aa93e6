//! Policies as waypoints and gateways enforce them, and for whom they are.

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::proxy as wire;
use serde_json::{Value, json};

use super::{mesh, policy_object, read_policy, value};
use crate::{
    derive::{
        Mesh,
        attach::{self, Proxy, Served},
        authorization::l7::{self, Derived},
    },
    facts,
};

fn derived(spec: Value) -> Derived {
    l7::derive(&mesh(), &Key::new("shop", "p"), &read_policy(spec))
}

/// A rule in one line: clauses are joined with " & ", matches with " | ", fields with ", ".
fn shown(rule: &wire::Rule) -> String {
    let field = |field: &wire::Field| {
        let key = if field.key.is_empty() { String::new() } else { format!("[{}]", field.key) };
        let none = if field.none.is_empty() { String::new() } else { format!(" not {}", field.none.join("+")) };
        format!("{:?}{key}={}{none}", field.attribute(), field.any.join("+"))
    };
    let one = |one: &wire::Match| one.fields.iter().map(field).collect::<Vec<_>>().join(", ");
    let clause = |clause: &wire::Clause| clause.matches.iter().map(one).collect::<Vec<_>>().join(" | ");
    rule.clauses.iter().map(clause).collect::<Vec<_>>().join(" & ")
}

#[test]
fn every_attribute_that_needs_no_token_is_sent() {
    let made = derived(json!({"rules": [{
        "from": [{"source": {"principals": ["cluster.local/ns/a/sa/x"], "notPrincipals": ["*/sa/y"],
                             "ipBlocks": ["10.0.0.0/8"], "notRemoteIpBlocks": ["1.2.3.4"]}},
                 {"source": {"namespaces": ["pr*d"]}},
                 {"source": {"serviceAccounts": ["sa", "other/sa"]}},
                 {"source": {"trustDomains": ["td"]}}],
        "to": [{"operation": {"hosts": ["a.b"], "ports": ["80"], "methods": ["GET"], "paths": ["/a/{*}"]}},
               {"operation": {"notPaths": ["/b*"]}}],
        "when": [{"key": "request.headers[X-Tenant]", "values": ["a"], "notValues": ["b"]},
                 {"key": "remote.ip", "values": ["10.0.0.1"]}, {"key": "connection.sni", "values": ["s"]},
                 {"key": "source.serviceAccount", "values": ["sa"]}, {"key": "destination.ip", "values": ["10.0.0.2"]},
                 {"key": "destination.port", "values": ["81"]}, {"key": "source.trustDomain", "values": ["td"]}]
    }, {}]}));
    assert_eq!(made.lost, Vec::<String>::new());
    assert_eq!((made.policy.namespace.as_str(), made.policy.name.as_str()), ("shop", "p"));
    let expected = "Principal=cluster.local/ns/a/sa/x not */sa/y, SourceIp=10.0.0.0/8, RemoteIp= not 1.2.3.4 \
                    | SourceNamespace=pr*d | ServiceAccount=shop/sa+other/sa | TrustDomain=td \
                    & Host=a.b, DestinationPort=80, Method=GET, Path=/a/{*} | Path= not /b* \
                    & Header[x-tenant]=a not b & RemoteIp=10.0.0.1 & Sni=s & ServiceAccount=shop/sa \
                    & DestinationIp=10.0.0.2 & DestinationPort=81 & TrustDomain=td";
    assert_eq!(made.policy.rules.iter().map(shown).collect::<Vec<_>>(), [expected, ""]);
}

/// What cannot be enforced closes, and never opens.
#[test]
fn what_cannot_be_enforced_refuses_more_and_is_named() {
    let token = json!({"from": [{"source": {"requestPrincipals": ["*"], "namespaces": ["a"]}}]});
    let only_token = json!({"from": [{"source": {"requestPrincipals": ["*"]}}, {"source": {"namespaces": ["a"]}}],
                            "to": [{"operation": {"methods": ["GET"]}}]});
    let claim = json!({"when": [{"key": "request.auth.claims[g]", "values": ["x"]}],
                       "to": [{"operation": {"methods": ["GET"]}}]});
    let block = json!({"from": [{"source": {"ipBlocks": ["10.x"], "namespaces": ["a"]}}]});
    let template = json!({"to": [{"operation": {"paths": ["/foo/{*}.txt"]}}]});
    let unknown = json!({"when": [{"key": "experimental.envoy.filters.a[b]", "values": ["x"]}]});
    let empty = json!({"from": [{"source": {}}]});
    let plain = json!({"to": [{"operation": {"methods": ["PUT"]}}]});
    for (rule, of_deny, lost) in [
        (&token, "SourceNamespace=a", "spec.rules[0].from[0].source.requestPrincipals"),
        (&only_token, "Method=GET", "spec.rules[0].from[0].source.requestPrincipals"),
        (&claim, "Method=GET", "spec.rules[0].when[0].key: request.auth.claims[g] needs a JSON web token"),
        (&block, "SourceNamespace=a", "ipBlocks: \"10.x\" cannot be read"),
        (&template, "", "paths: \"/foo/{*}.txt\" cannot be read"),
        (&unknown, "", "is not supported"),
        (&empty, "", "nothing is asked here"),
    ] {
        let rules = json!([rule, plain]);
        for (action, expected) in [
            ("ALLOW", vec![(1, "Method=PUT")]),
            ("AUDIT", vec![(1, "Method=PUT")]),
            ("DENY", vec![(0, of_deny), (1, "Method=PUT")]),
        ] {
            let made = derived(json!({"action": action, "rules": rules}));
            let found: Vec<(u32, String)> = made.policy.rules.iter().map(|rule| (rule.index, shown(rule))).collect();
            let found: Vec<(u32, &str)> = found.iter().map(|(at, text)| (*at, text.as_str())).collect();
            assert_eq!(found, expected, "{action} {rule}");
            assert!(made.lost[0].contains(lost) && made.consequence.is_some(), "{:?}", made.lost);
        }
    }
}

#[test]
fn what_would_ask_a_provider_refuses_meanwhile() {
    let made = derived(json!({"action": "CUSTOM", "provider": {"name": "x"},
                              "rules": [{"to": [{"operation": {"paths": ["/admin*"]}}]}]}));
    assert_eq!(made.policy.action(), wire::Action::Deny);
    assert_eq!(shown(&made.policy.rules[0]), "Path=/admin*");
    assert!(made.lost[0].contains("spec.action: CUSTOM") && made.consequence.is_some());
}

#[test]
fn a_dry_run_is_sent_as_one_and_names_of_the_mesh_are_filled_in() {
    let object = policy_object(json!({"action": "DENY"}), json!({"istio.io/dry-run": "true"}));
    let policy = value(facts::AuthorizationPolicy::read(&object));
    assert!(l7::derive(&mesh(), &Key::new("shop", "p"), &policy).policy.dry_run);

    let principals =
        json!({"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/a/*", "x/ns/*", "*/sa/b"]}}]}]});
    let other = Mesh { trust_domain: "td.example".to_owned(), ..mesh() };
    let made = l7::derive(&other, &Key::new("shop", "p"), &read_policy(principals));
    assert_eq!(shown(&made.policy.rules[0]), "Principal=td.example/ns/a/*+x/ns/*+*/sa/b");
}

/// Vector 46 among them: nothing reaches into another namespace, and a class is named from the root namespace only.
#[test]
fn policies_hold_where_their_targets_say() {
    let gateway_api = "gateway.networking.k8s.io";
    let policies: Vec<(Key, facts::AuthorizationPolicy)> = [
        ("shop", "gateway", json!({"targetRefs": [{"group": gateway_api, "kind": "Gateway", "name": "w"}]})),
        ("shop", "service", json!({"targetRefs": [{"kind": "Service", "name": "web"}]})),
        ("shop", "core", json!({"targetRef": {"group": "core", "kind": "Service", "name": "web"}})),
        (
            "shop",
            "entry",
            json!({"targetRefs": [{"group": "networking.istio.io", "kind": "ServiceEntry", "name": "web"}]}),
        ),
        ("shop", "away", json!({"targetRefs": [{"kind": "Service", "name": "web", "namespace": "other"}]})),
        (
            "shop",
            "both",
            json!({"targetRefs": [{"kind": "Service", "name": "web"}, {"kind": "Service", "name": "db"}]}),
        ),
        (
            "shop",
            "class",
            json!({"targetRefs": [{"group": gateway_api, "kind": "GatewayClass", "name": "istio-waypoint"}]}),
        ),
        ("shop", "selector", json!({"selector": {"matchLabels": {"app": "gw"}}})),
        ("shop", "others", json!({"selector": {"matchLabels": {"app": "db"}}})),
        ("shop", "all", json!({})),
        (
            "istio-system",
            "class",
            json!({"targetRefs": [{"group": gateway_api, "kind": "GatewayClass", "name": "istio-waypoint"}]}),
        ),
        ("istio-system", "mesh", json!({})),
        ("istio-system", "gateway", json!({"targetRefs": [{"group": gateway_api, "kind": "Gateway", "name": "w"}]})),
        ("other", "gateway", json!({"targetRefs": [{"group": gateway_api, "kind": "Gateway", "name": "w"}]})),
        ("other", "service", json!({"targetRefs": [{"kind": "Service", "name": "web"}]})),
        ("other", "all", json!({})),
    ]
    .into_iter()
    .map(|(namespace, name, spec)| (Key::new(namespace, name), read_policy(spec)))
    .collect();
    let all = || policies.iter().map(|(key, policy)| (key, policy));
    let gateway = Key::new("shop", "w");
    let labels: Labels = [("app".to_owned(), "gw".to_owned())].into_iter().collect();
    let waypoint = Proxy { gateway: &gateway, class: "istio-waypoint", selectable: None };
    let ingress = Proxy { gateway: &gateway, class: "istio", selectable: Some(&[&labels]) };
    let mesh = mesh();
    let names = |found: Vec<(&Key, &facts::AuthorizationPolicy)>| -> Vec<String> {
        found.iter().map(|(key, _)| key.to_string()).collect()
    };
    assert_eq!(names(attach::to_proxy(&mesh, waypoint, all())), ["istio-system/class", "shop/gateway"]);
    let expected = ["istio-system/mesh", "shop/all", "shop/gateway", "shop/selector"];
    assert_eq!(names(attach::to_proxy(&mesh, ingress, all())), expected);
    let web = Key::new("shop", "web");
    assert_eq!(names(attach::to_service(Served::Service(&web), all())), ["shop/both", "shop/core", "shop/service"]);
    assert_eq!(names(attach::to_service(Served::Entry(&web), all())), ["shop/entry"]);
    assert!(attach::to_service(Served::Service(&Key::new("shop", "x")), all()).is_empty());
}
