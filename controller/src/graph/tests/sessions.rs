//! Clients that stay with their endpoints: what proxies are told, and given to seal it with.

use lateen_wire::{
    proxy::{self as wire, session_persistence::By},
    type_url,
};

use super::{
    super::*,
    show::{Cluster, WAYPOINT},
};

const SERVICE: &str = "kind: Service\nmetadata: {name: a, namespace: shop}\nspec: {clusterIP: 10.96.0.1, selector: \
                       {app: a}, ports: [{name: http, port: 80}]}\n---\n";
const GATEWAY: &str = r"
kind: Gateway
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: g, namespace: shop}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
";

/// A route at the gateway and at the service.
fn route(kind: &str, session: &str) -> String {
    format!(
        "kind: {kind}\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {{name: r, namespace: shop}}\nspec:\n  \
         parentRefs: [{{name: g}}, {{group: '', kind: Service, name: a}}]\n  rules:\n  - sessionPersistence: \
         {session}\n    backendRefs: [{{name: a, port: 80}}]\n---\n"
    )
}

fn secret(bytes: usize) -> String {
    let text = "x".repeat(bytes);
    format!(
        "kind: Secret\nmetadata: {{name: lateen-session-secret, namespace: istio-system}}\nstringData: \
         {{session-secret: {text}}}\n"
    )
}

fn session(found: &Cluster) -> Option<wire::SessionPersistence> {
    match found.service("a").ports[0].http.first()?.action.clone()? {
        wire::http_route::Action::Forward(forward) => forward.session,
        other => panic!("{other:?}"),
    }
}

fn cluster(session: &str) -> Cluster {
    Cluster::new(&format!("{WAYPOINT}{GATEWAY}{SERVICE}{}", route("HTTPRoute", session)))
}

#[test]
fn each_gateway_has_a_key_of_its_own() {
    let mut found = cluster("{}");
    let source = Source::Secret(Key::new("istio-system", "lateen-session-secret"));
    assert_eq!(found.asked, [source].into());
    assert!(!found.graph.is_complete() && found.names(type_url::CREDENTIAL).is_empty());
    assert_eq!(session(&found).expect("a session").key, "shop/waypoint/sessions");
    found.apply(&secret(32));
    let key = |name: &str| found.message::<wire::Credential>(type_url::CREDENTIAL, name).expect("a key").secret;
    let (waypoint, gateway) = (key("shop/waypoint/sessions"), key("shop/g/sessions"));
    assert!(waypoint.len() == 32 && gateway.len() == 32 && waypoint != gateway);
    assert_eq!(found.group_of(type_url::CREDENTIAL, "shop/g/sessions"), "gateway/shop/g");
    // Another secret makes other keys; without a route that keeps sessions nobody has any.
    found.apply(&secret(33));
    let next: wire::Credential = found.message(type_url::CREDENTIAL, "shop/g/sessions").expect("a key");
    assert_ne!(next.secret, gateway);
    found.delete(&route("HTTPRoute", "{}"));
    assert!(found.names(type_url::CREDENTIAL).is_empty() && found.asked.is_empty());
}

#[test]
fn without_a_key_authors_are_told() {
    let mut found = cluster("{}");
    found.apply(&secret(16));
    assert!(found.names(type_url::CREDENTIAL).is_empty(), "what is short could be guessed");
    let said = &found.parent(RouteKind::Http, "r")[1];
    assert!(said.starts_with("ResolvedRefs NoSessionKey") && said.contains("less than 32 bytes"), "{said}");
    assert!(session(&found).is_some(), "its requests are refused, not sent anywhere");
    found.delete(&secret(32));
    assert!(found.parent(RouteKind::Http, "r")[1].contains("there is no Secret istio-system/lateen-session-secret"));
    found.apply(&secret(32));
    assert!(found.parent(RouteKind::Http, "r")[1].starts_with("ResolvedRefs ResolvedRefs"));
}

#[test]
fn sessions_are_carried_as_their_author_says() {
    let check = |written: &str, by: By, (path, seconds, is_of_client): (&str, Option<i64>, bool)| {
        let made = session(&cluster(written)).expect("a session");
        assert_eq!(made.by, Some(by), "{written}");
        let lifetime = made.lifetime.map(|length| length.seconds);
        assert_eq!((made.path.as_str(), lifetime, made.session_cookie), (path, seconds, is_of_client), "{written}");
    };
    let cookie = |name: &str| By::Cookie(name.to_owned());
    check("{sessionName: sid}", cookie("sid"), ("/", None, true));
    check("{sessionName: sid, absoluteTimeout: 1h}", cookie("sid"), ("/", Some(3600), true));
    let permanent = "{type: Cookie, sessionName: sid, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}";
    check(permanent, cookie("sid"), ("/", Some(3600), false));
    check("{type: Cookie, cookie: {name: sid, path: /a}}", cookie("sid"), ("/a", None, true));
    check("{type: Header, sessionName: X-Sid}", By::Header("x-sid".to_owned()), ("", None, false));
    check("{type: Header, header: {name: X-Sid}}", By::Header("x-sid".to_owned()), ("", None, false));
}

#[test]
fn names_nobody_wrote_are_each_rules_own() {
    let rules = "{}\n    backendRefs: [{name: a, port: 80}]\n  - matches: [{path: {value: /x}}]\n    \
                 sessionPersistence: {type: Cookie}";
    let found = cluster(rules);
    let names: BTreeSet<String> = found.service("a").ports[0]
        .http
        .iter()
        .map(|route| match route.action.clone() {
            Some(wire::http_route::Action::Forward(forward)) => format!("{:?}", forward.session.and_then(|one| one.by)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.contains("lateen-session-")), "{names:?}");
}

#[test]
fn what_cannot_be_kept_fails_its_route() {
    for (written, why) in [
        ("{idleTimeout: 5m}", ".idleTimeout is not supported"),
        ("{cookieConfig: {lifetimeType: Permanent}}", "write it"),
        ("{cookie: {lifetimeType: Ever}}", "use Session or Permanent"),
        ("{sessionName: 'a b'}", "is no name of a cookie"),
        ("{cookie: {path: '/; Domain=example.com'}}", "cannot stand in a cookie"),
        ("{type: Header, sessionName: 'a b'}", "is no name of a header"),
        ("{type: Query}", "use Cookie or Header"),
    ] {
        let found = cluster(written);
        assert!(found.http("a").is_empty(), "{written}");
        let said = &found.parent(RouteKind::Http, "r")[0];
        assert!(said.starts_with("Accepted UnsupportedValue: spec.rules[0].sessionPersistence"), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn calls_have_sessions_too() {
    let found = Cluster::new(&format!("{WAYPOINT}{SERVICE}{}", route("GRPCRoute", "{sessionName: sid}")));
    assert_eq!(session(&found).and_then(|made| made.by), Some(By::Cookie("sid".to_owned())));
}
