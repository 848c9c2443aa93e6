//! Policies, and the messages they become.

use kube::core::{ApiResource, DynamicObject};
use lateen_cluster::{
    api::PeerAuthentication as PeerKind,
    store::{Key, Reading},
};
use lateen_wire::security;
use serde_json::{Value, json};

use super::{mesh, policy_object, read_peer, read_policy, value};
use crate::{
    derive::{Mesh, authorization, enforced::Enforceable, matching, peer},
    facts,
};

#[test]
fn a_policy_has_scope_action_and_condition() {
    let check = |namespace: &str, spec: Value, expected: Option<(security::Scope, security::Action)>| {
        let made = authorization::derive(&mesh(), &Key::new(namespace, "p"), &read_policy(spec.clone()));
        let found = made.policy.map(|policy| (policy.scope(), policy.action()));
        assert_eq!(found, expected, "{namespace}: {spec}");
    };
    use security::{Action, Scope};
    check("shop", json!({}), Some((Scope::Namespace, Action::Allow)));
    check("shop", json!({"selector": {"matchLabels": {"a": "b"}}}), Some((Scope::WorkloadSelector, Action::Allow)));
    check("shop", json!({"selector": {}}), Some((Scope::WorkloadSelector, Action::Allow)));
    check("istio-system", json!({"action": "DENY"}), Some((Scope::Global, Action::Deny)));
    check("shop", json!({"action": "AUDIT"}), None);
    check("shop", json!({"action": "CUSTOM", "provider": {"name": "x"}}), None);
    check("shop", json!({"targetRefs": [{"kind": "Service", "name": "web"}]}), None);
    check("shop", json!({"targetRef": {"kind": "Service", "name": "web"}}), None);
}

#[test]
fn dry_run_policies_are_held_back_unless_proxies_understand_them() {
    let object = policy_object(json!({"action": "DENY"}), json!({"istio.io/dry-run": "true"}));
    let policy = value(facts::AuthorizationPolicy::read(&object));
    let key = Key::new("shop", "p");
    let held = authorization::derive(&mesh(), &key, &policy);
    assert!(held.policy.is_none() && held.condition.is_some_and(|condition| !condition.accepted));
    let enabled = Mesh { dry_run: true, ..mesh() };
    assert!(authorization::derive(&enabled, &key, &policy).policy.expect("sent").dry_run);
}

/// The rules as JSON-like text is long; this names each match by its fields.
fn rules_of(spec: Value) -> Vec<security::Rule> {
    authorization::derive(&mesh(), &Key::new("shop", "p"), &read_policy(spec)).policy.expect("sent").rules
}

fn exact(text: &str) -> security::StringMatch {
    matching::string(text)
}

fn clause(matches: Vec<security::Match>) -> security::Clause {
    security::Clause { matches }
}

#[test]
fn a_rule_is_clauses_of_to_from_and_each_when() {
    let rules = rules_of(json!({"rules": [{
        "from": [{"source": {"namespaces": ["web"], "notPrincipals": ["*"], "serviceAccounts": ["sa", "other/sa"]}},
                 {"source": {"ipBlocks": ["10.1.0.0/16", "10.2.0.1"]}}],
        "to": [{"operation": {"ports": ["80"], "notPorts": ["81"]}}],
        "when": [{"key": "destination.port", "notValues": ["22"]}, {"key": "source.principal", "values": ["*/sa/x", "td/*"]}]
    }, {}]}));
    let account =
        |namespace: &str| security::ServiceAccountMatch { namespace: namespace.into(), service_account: "sa".into() };
    let address = |bytes: [u8; 4], length| security::Address { address: bytes.to_vec(), length };
    let default = security::Match::default;
    let to = security::Match { destination_ports: vec![80], not_destination_ports: vec![81], ..default() };
    let identity = security::Match {
        namespaces: vec![exact("web")],
        not_principals: vec![matching::presence()],
        service_accounts: vec![account("shop"), account("other")],
        ..default()
    };
    let source_ips = vec![address([10, 1, 0, 0], 16), address([10, 2, 0, 1], 32)];
    let place = security::Match { source_ips, ..default() };
    let port = security::Match { not_destination_ports: vec![22], ..default() };
    use security::string_match::MatchType;
    let suffix = security::StringMatch { match_type: Some(MatchType::Suffix("/sa/x".into())) };
    let prefix = security::StringMatch { match_type: Some(MatchType::Prefix("td/".into())) };
    let principal = security::Match { principals: vec![suffix, prefix], ..default() };
    let clauses = vec![clause(vec![to]), clause(vec![identity, place]), clause(vec![port]), clause(vec![principal])];
    assert_eq!(rules, [security::Rule { clauses }, security::Rule::default()]);
}

#[test]
fn an_allow_rule_with_http_is_left_out_whole() {
    let allowed = json!({"rules": [
        {"to": [{"operation": {"ports": ["80"]}}]},
        {"to": [{"operation": {"ports": ["81"], "methods": ["GET"]}}]},
        {"when": [{"key": "request.headers[x]", "values": ["y"]}]},
        {"from": [{"source": {"requestPrincipals": ["*"]}}]},
        {"from": [{"source": {"trustDomains": ["td"]}}]},
        {"from": [{"source": {"namespaces": ["web"], "ipBlocks": ["nonsense"]}}]}]});
    let only = clause(vec![security::Match { destination_ports: vec![80], ..security::Match::default() }]);
    assert_eq!(rules_of(allowed.clone()), [security::Rule { clauses: vec![only] }]);
    let told = authorization::derive(&mesh(), &Key::new("shop", "p"), &read_policy(allowed)).condition.expect("told");
    assert!(told.accepted);
    assert_eq!(told.reason.as_str(), "UnsupportedValue");
    for word in ["methods", "request.headers[x]", "requestPrincipals", "trustDomains", "nonsense", "more restrictive"] {
        assert!(told.message.contains(word), "{word} is not in {}", told.message);
    }
}

#[test]
fn a_deny_rule_loses_only_its_http_parts() {
    let told = |spec: Value| {
        let made = authorization::derive(&mesh(), &Key::new("shop", "p"), &read_policy(spec));
        (made.policy.expect("sent").rules, made.condition.expect("told").message)
    };
    let port = security::Match { destination_ports: vec![80], ..security::Match::default() };
    let (rules, message) =
        told(json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"], "methods": ["POST"]}}]}]}));
    assert_eq!(rules, [security::Rule { clauses: vec![clause(vec![port])] }]);
    assert!(message.contains("more restrictive") && !message.contains("less"), "{message}");
    // A clause with nothing left never matches, so neither does the rule.
    let empty = clause(vec![security::Match::default()]);
    let (rules, message) = told(json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/a"]}}]}]}));
    assert_eq!(rules, [security::Rule { clauses: vec![empty.clone()] }]);
    assert!(message.contains("no effect"), "{message}");
    let (rules, message) = told(json!({"action": "DENY", "rules": [
        {"from": [{"source": {"namespaces": ["web"]}}], "to": [{"operation": {"paths": ["/a"]}}]},
        {"to": [{"operation": {"ports": ["80"], "paths": ["/a"]}}]}]}));
    let web = security::Match { namespaces: vec![exact("web")], ..security::Match::default() };
    assert_eq!(rules[0], security::Rule { clauses: vec![empty, clause(vec![web])] });
    assert!(message.contains("less restrictive"), "{message}");
    let (_, message) = told(json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]}));
    assert_eq!(message, "attached to ztunnel");
}

const UNKNOWN_NAMES: [&str; 0] = [];

/// Parent mode, workload mode, ports → what the workload names: `static`, `ports` or nothing.
fn check_peer(parent: &str, own: Option<Value>, expected: &[&str]) {
    let parent = read_peer("default", Some("2026-01-01T00:00:00Z"), json!({"mtls": {"mode": parent}}));
    let levels = peer::Levels { mesh: None, namespace: Some(&parent) };
    let key = Key::new("shop", "own");
    let own = own.map(|mut spec| {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
        read_peer("own", Some("2026-01-01T00:00:00Z"), spec)
    });
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let found = peer::names(&mesh(), levels, own.iter().map(|one| (&key, one)), &labels);
    let expected: Vec<&str> = expected
        .iter()
        .map(|short| match *short {
            "static" => "istio-system/istio_converted_static_strict",
            "ports" => "shop/converted_peer_authentication_own",
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(found, expected, "{own:?} under {parent:?}");
    let emitted = own.and_then(|own| peer::ports(&key, &own, levels.strict()));
    assert_eq!(emitted.is_some(), expected.iter().any(|name| name.contains("converted_peer")));
}

#[test]
fn which_peer_policies_a_workload_names() {
    let own = |mode: &str, port: &str| Some(json!({"mtls": {"mode": mode}, "portLevelMtls": {"9090": {"mode": port}}}));
    check_peer("STRICT", None, &["static"]);
    check_peer("PERMISSIVE", None, &UNKNOWN_NAMES);
    check_peer("DISABLE", None, &UNKNOWN_NAMES);
    check_peer("UNSET", None, &UNKNOWN_NAMES);
    check_peer("PERMISSIVE", own("STRICT", "PERMISSIVE"), &["ports"]);
    check_peer("PERMISSIVE", own("STRICT", "DISABLE"), &["ports"]);
    check_peer("PERMISSIVE", own("STRICT", "STRICT"), &["static"]);
    check_peer("STRICT", own("PERMISSIVE", "STRICT"), &["ports"]);
    check_peer("STRICT", own("PERMISSIVE", "PERMISSIVE"), &UNKNOWN_NAMES);
    check_peer("STRICT", own("UNSET", "PERMISSIVE"), &["ports"]);
    check_peer("STRICT", own("UNSET", "DISABLE"), &["ports"]);
    check_peer("STRICT", own("UNSET", "UNSET"), &["static"]);
    check_peer("UNSET", own("UNSET", "STRICT"), &["ports"]);
    check_peer("UNSET", own("UNSET", "PERMISSIVE"), &UNKNOWN_NAMES);
}

#[test]
fn the_older_and_the_nearer_policy_wins() {
    let strict = |name: &str, created: &str| read_peer(name, Some(created), json!({"mtls": {"mode": "STRICT"}}));
    let permissive =
        |name: &str, created: &str| read_peer(name, Some(created), json!({"mtls": {"mode": "PERMISSIVE"}}));
    let all = [
        permissive("b", "2026-02-01T00:00:00Z"),
        strict("z", "2026-01-01T00:00:00Z"),
        strict("c", "2026-03-01T00:00:00Z"),
    ];
    let (place, _) = peer::oldest(all.iter().enumerate()).expect("one");
    assert_eq!(place, 1);
    let (near, far) = (permissive("n", "2026-01-01T00:00:00Z"), strict("m", "2026-01-01T00:00:00Z"));
    assert!(!peer::Levels { mesh: Some(&far), namespace: Some(&near) }.strict());
    let unset = read_peer("u", None, json!({}));
    assert!(peer::Levels { mesh: Some(&far), namespace: Some(&unset) }.strict());
}

#[test]
fn the_worked_examples_of_port_policies() {
    let key = Key::new("shop", "own");
    let ports = |spec: Value, parent_strict: bool| {
        peer::ports(&key, &read_peer("own", None, spec), parent_strict).expect("a policy").rules
    };
    let one = |matches: security::Match| clause(vec![matches]);
    let unknown = || security::Match { not_principals: vec![matching::presence()], ..security::Match::default() };
    let rules = ports(json!({"mtls": {"mode": "STRICT"}, "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}}}), false);
    let other = security::Match { not_destination_ports: vec![8080], ..security::Match::default() };
    assert_eq!(rules, [security::Rule { clauses: vec![one(unknown()), one(other)] }]);
    let rules = ports(json!({"mtls": {"mode": "PERMISSIVE"}, "portLevelMtls": {"9000": {"mode": "STRICT"}}}), false);
    let at = security::Match { destination_ports: vec![9000], ..unknown() };
    assert_eq!(rules, [security::Rule { clauses: vec![one(at)] }]);
}

#[test]
fn a_port_that_is_none_makes_the_object_unreadable() {
    let object = DynamicObject::new("p", &ApiResource::erase::<PeerKind>(&()))
        .data(json!({"spec": {"portLevelMtls": {"http": {"mode": "STRICT"}}}}));
    assert!(matches!(facts::PeerAuthentication::read(&object), Reading::Unreadable(reason) if reason.contains("http")));
}

#[test]
fn what_of_a_policy_can_be_enforced_is_named_by_field() {
    let check = |spec: Value, expected: Enforceable| {
        let made = authorization::derive(&mesh(), &Key::new("shop", "p"), &read_policy(spec.clone()));
        assert_eq!(made.enforceable, expected, "{spec}");
    };
    let methods = "spec.rules[1].to[0].operation.methods: it needs HTTP, which a waypoint sees".to_owned();
    let rules = json!([{"to": [{"operation": {"ports": ["80"]}}]}, {"to": [{"operation": {"methods": ["GET"]}}]}]);
    check(json!({"rules": rules.clone()}), Enforceable::Without(vec![methods.clone()]));
    check(
        json!({"action": "DENY", "rules": [rules[1].clone()]}),
        Enforceable::Nothing(vec![methods.replace("[1]", "[0]")]),
    );
    check(json!({"rules": [rules[0].clone()]}), Enforceable::Whole);
    check(json!({"targetRefs": [{"kind": "Service", "name": "a"}]}), Enforceable::AtWaypoint(Vec::new()));
    let audit = "spec.action: the action AUDIT is not supported by ztunnel; use ALLOW or DENY";
    check(json!({"action": "AUDIT"}), Enforceable::Nothing(vec![audit.to_owned()]));
}

#[test]
fn what_of_a_peer_authentication_can_be_enforced() {
    let check = |namespace: &str, spec: Value, holder: Option<&Key>, expected: &str| {
        let read = read_peer("p", None, spec.clone());
        let found = peer::enforceable(&mesh(), &Key::new(namespace, "p"), &read, holder);
        let text = format!("{found:?}");
        assert!(text.starts_with(expected), "{namespace} {spec}: {text}");
    };
    let other = Key::new("shop", "older");
    let selector = json!({"matchLabels": {"a": "b"}});
    check("shop", json!({"mtls": {"mode": "STRICT"}}), None, "Whole");
    check("shop", json!({"mtls": {"mode": "STRICT"}}), Some(&other), "Overridden");
    check("shop", json!({"selector": selector.clone(), "mtls": {"mode": "STRICT"}}), Some(&other), "Whole");
    check("istio-system", json!({"selector": selector.clone()}), None, "Nothing([\"spec.selector");
    check("shop", json!({"mtls": {"mode": "DISABLE"}}), None, "Without([\"spec.mtls.mode");
    check("shop", json!({"portLevelMtls": {"80": {"mode": "STRICT"}}}), None, "Without([\"spec.portLevelMtls");
}
