//! Vectors 1 to 32 as a table.

use serde_json::{Value, json};

use crate::mesh::{
    Call,
    Expect::{self, Allow, Denied, Missing, NotAllowed},
    Joined, outcome,
};

/// "anything" in the specification.
const ANYTHING: [&str; 4] = ["W:80", "X:80", "F:8080", "none:80"];

pub fn policy(name: &str, spec: Value) -> Value {
    policy_in("shop", name, spec)
}

fn policy_in(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": namespace, "generation": 1 }, "spec": spec,
    })
}

fn peer(spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "pa", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z" }, "spec": spec,
    })
}

fn allow(rules: Value) -> Value {
    policy("allow", json!({ "action": "ALLOW", "rules": rules }))
}

fn deny(rules: Value) -> Value {
    policy("deny", json!({ "action": "DENY", "rules": rules }))
}

fn from(source: Value) -> Value {
    json!([{ "from": [{ "source": source }] }])
}

fn to(operation: Value) -> Value {
    json!([{ "to": [{ "operation": operation }] }])
}

fn select_d() -> Value {
    json!({ "matchLabels": { "app": "d" } })
}

/// Applies the objects and asks every call.
fn check(number: u32, objects: &[Value], calls: &[(&str, Expect)]) {
    let mut joined = Joined::with_d(false);
    objects.iter().for_each(|object| joined.apply(object));
    for (call, expected) in calls {
        let verdict = joined.verdict(&Call::new(call));
        assert_eq!(outcome(&verdict), *expected, "vector {number}, {call}: {verdict:?}");
    }
}

fn check_anything(number: u32, objects: &[Value], expected: Expect) {
    check(number, objects, &ANYTHING.map(|call| (call, expected)));
}

#[test]
fn vectors_01_to_05_empty_policies() {
    check_anything(1, &[], Allow);
    check_anything(2, &[allow(json!([]))], NotAllowed);
    check_anything(2, &[policy("p", json!({}))], NotAllowed);
    check_anything(3, &[allow(json!([{}]))], Allow);
    check_anything(4, &[deny(json!([{}]))], Denied);
    check_anything(5, &[policy("p", json!({ "action": "DENY" }))], Allow);
}

#[test]
fn vectors_06_to_12_who_calls() {
    let of_web = allow(from(json!({ "namespaces": ["web"] })));
    check(6, std::slice::from_ref(&of_web), &[("W:80", Allow)]);
    check(7, &[of_web], &[("X:80", NotAllowed), ("none:80", NotAllowed)]);
    let prefix = allow(from(json!({ "principals": ["cluster.local/ns/web/*"] })));
    check(8, &[prefix], &[("W:80", Allow), ("F:80", NotAllowed)]);
    let scheme = allow(from(json!({ "principals": ["spiffe://cluster.local/ns/web/sa/front"] })));
    check(9, &[scheme], &[("W:80", NotAllowed)]);
    let account = allow(from(json!({ "serviceAccounts": ["web/front"] })));
    check(10, &[account], &[("W:80", Allow), ("F:80", Allow), ("X:80", NotAllowed)]);
    let anybody = allow(from(json!({ "principals": ["*"] })));
    check(11, &[anybody], &[("X:80", Allow), ("none:80", NotAllowed)]);
    let nobody = deny(from(json!({ "notPrincipals": ["*"] })));
    check(12, &[nobody], &[("none:80", Denied), ("X:80", Allow)]);
}

#[test]
fn vectors_13_to_18_where_to_and_http_parts() {
    let both = json!([{
        "from": [{ "source": { "namespaces": ["web"] } }, { "source": { "namespaces": ["batch"] } }],
        "to": [{ "operation": { "ports": ["80"] } }],
    }]);
    check(13, &[allow(both)], &[("X:80", Allow), ("X:81", NotAllowed)]);
    let objects = [allow(from(json!({ "namespaces": ["web"] }))), deny(to(json!({ "ports": ["80"] })))];
    check(14, &objects, &[("W:80", Denied), ("W:81", Allow)]);
    check_anything(15, &[allow(to(json!({ "methods": ["GET"] })))], NotAllowed);
    let one_of_http = json!([
        { "to": [{ "operation": { "ports": ["80"] } }] },
        { "to": [{ "operation": { "methods": ["GET"] } }] },
    ]);
    check(16, &[allow(one_of_http)], &[("none:80", Allow), ("none:81", NotAllowed)]);
    let method = deny(to(json!({ "ports": ["80"], "methods": ["POST"] })));
    check(17, &[method], &[("W:80", Denied), ("W:81", Allow)]);
    check_anything(18, &[deny(to(json!({ "paths": ["/admin"] })))], Allow);
}

#[test]
fn vectors_19_and_20_addresses() {
    let block = allow(from(json!({ "ipBlocks": ["10.1.0.0/16"] })));
    let mut joined = Joined::with_d(false);
    joined.apply(&block);
    for (number, source, expected) in [
        (19, "10.1.2.3", Allow),
        (19, "10.2.0.1", NotAllowed),
        // Over an east-west gateway the peer is the gateway; whom it forwards for is not asked.
        (20, "10.9.0.1", NotAllowed),
    ] {
        let verdict = joined.verdict(&Call::new("none:80").from(source));
        assert_eq!(outcome(&verdict), expected, "vector {number}, from {source}");
    }
}

#[test]
fn vectors_21_to_24_negatives_conditions_and_wildcards() {
    let others = deny(from(json!({ "notNamespaces": ["shop"] })));
    check(21, &[others], &[("W:80", Denied), ("none:80", Denied), ("S:80", Allow)]);
    let when = json!([{ "when": [
        { "key": "source.namespace", "values": ["web"] },
        { "key": "destination.port", "notValues": ["22"] },
    ] }]);
    check(22, &[allow(when)], &[("W:80", Allow), ("W:22", NotAllowed), ("X:80", NotAllowed)]);
    let any = allow(from(json!({ "namespaces": ["*"] })));
    check(23, &[any], &[("none:80", NotAllowed), ("X:80", Allow)]);
    let suffix = allow(from(json!({ "namespaces": ["*b"] })));
    check(24, &[suffix], &[("W:80", Allow), ("X:80", NotAllowed)]);
}

#[test]
fn vectors_25_and_26_dry_run() {
    let tried = |mut object: Value| {
        object["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
        object
    };
    for (number, object, caller, note) in [
        (25, deny(json!([{}])), "W:80", "dry run: would be denied by: shop/deny"),
        (
            26,
            allow(from(json!({ "namespaces": ["web"] }))),
            "X:80",
            "dry run: would be denied, no dry-run allow policy matches",
        ),
    ] {
        let mut joined = Joined::with_d(true);
        joined.apply(&tried(object.clone()));
        let verdict = joined.verdict(&Call::new(caller));
        assert_eq!(outcome(&verdict), Allow, "vector {number}");
        assert_eq!(verdict.dry_run.iter().map(ToString::to_string).collect::<Vec<_>>(), [note], "vector {number}");

        let mut without_feature = Joined::with_d(false);
        without_feature.apply(&tried(object));
        let verdict = without_feature.verdict(&Call::new(caller));
        assert!(verdict.is_allowed() && verdict.dry_run.is_empty(), "vector {number} without the feature");
    }
}

#[test]
fn vectors_27_to_29_peer_authentication() {
    let strict = peer(json!({ "mtls": { "mode": "STRICT" } }));
    check(27, &[strict], &[("none:80", Denied), ("X:80", Allow)]);
    let except = peer(json!({
        "selector": select_d(), "mtls": { "mode": "STRICT" }, "portLevelMtls": { "9090": { "mode": "PERMISSIVE" } },
    }));
    check(28, &[except], &[("none:9090", Allow), ("none:80", Denied), ("X:80", Allow)]);
    let only = peer(json!({ "selector": select_d(), "portLevelMtls": { "8080": { "mode": "STRICT" } } }));
    check(29, &[only], &[("none:8080", Denied), ("none:80", Allow), ("X:8080", Allow)]);
}

#[test]
fn vectors_30_to_32_scope_absence_and_ports() {
    let root = policy_in("istio-system", "allow", json!({ "rules": from(json!({ "namespaces": ["web"] })) }));
    check(30, &[root], &[("X:80", NotAllowed), ("W:80", Allow)]);

    // The reference lets everything through here; we refuse until the policy has arrived.
    let mut joined = Joined::with_d(false);
    let later = policy(
        "later",
        json!({ "selector": select_d(), "action": "DENY", "rules": from(json!({ "namespaces": ["batch"] })) }),
    );
    joined.apply_without_policies(&later);
    let verdict = joined.verdict(&Call::new("W:80"));
    assert_eq!(outcome(&verdict), Missing, "vector 31");
    let reason = verdict.refusal().expect("refused").to_string();
    assert_eq!(reason, "policy shop/later is attached to the destination but has not arrived");

    // Port 80 of a service leads to 8080 of the workload, and that is the port policies see.
    check(32, &[allow(to(json!({ "ports": ["80"] })))], &[("W:8080", NotAllowed), ("W:80", Allow)]);
}
