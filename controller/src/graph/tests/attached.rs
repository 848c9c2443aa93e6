//! Routes of the Gateway API on services, as waypoints are sent them and as their authors are told.

use lateen_wire::proxy as wire;

use super::{super::*, show::Cluster};
use crate::facts::RouteKind;

const SERVICES: [(&str, &str, u16); 3] = [("a", "http", 80), ("v1", "http", 80), ("v2", "http", 80)];

fn cluster(objects: &str) -> Cluster {
    Cluster::with_waypoint(&SERVICES, objects)
}

/// A route of `kind` in `namespace` for the service `a` of `shop`.
fn route(kind: &str, (name, namespace): (&str, &str), rules: &str) -> String {
    format!(
        "kind: {kind}\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: a, namespace: shop}}]\n  rules:\n{rules}\n"
    )
}

fn http(name: &str, rules: &str) -> String {
    route("HTTPRoute", (name, "shop"), rules)
}

#[test]
fn rules_of_all_routes_are_sorted_together() {
    let older = http(
        "older",
        r"
  - {name: rest, backendRefs: [{name: v1, port: 80}]}
  - name: long
    matches: [{path: {value: /abc/}}, {path: {type: RegularExpression, value: '/x.*'}}]
    backendRefs: [{name: v1, port: 80}]
  - {name: get, matches: [{method: GET}], backendRefs: [{name: v1, port: 80}]}",
    );
    let newer = http(
        "newer",
        r"
  - {name: exact, matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: v2, port: 80}]}
  - {name: header, matches: [{headers: [{name: X-A, value: '1'}]}], backendRefs: [{name: v2, port: 80}]}
  - {name: query, matches: [{queryParams: [{name: q, value: '1'}]}], backendRefs: [{name: v2, port: 80}]}
  - {name: tie, backendRefs: [{name: v2, port: 80}]}",
    );
    let expected = [
        "exact: =/a => 1*v2.shop:80",
        "long: /abc/** => 1*v1.shop:80",
        "get: method=GET => 1*v1.shop:80",
        "header: x-a=1 => 1*v2.shop:80",
        "query: ?q=1 => 1*v2.shop:80",
        "rest: any => 1*v1.shop:80",
        "tie: any => 1*v2.shop:80",
        "long: ~/x.* => 1*v1.shop:80",
    ];
    assert_eq!(cluster(&format!("{older}---\n{newer}")).http("a"), expected);
}

#[test]
fn calls_are_paths() {
    let rules = r"
  - {name: one, matches: [{method: {service: s.S, method: M}}], backendRefs: [{name: v1, port: 80}]}
  - {name: all, matches: [{method: {service: s.S}}], backendRefs: [{name: v2, port: 80}]}
  - {name: any, matches: [{method: {method: M}}], backendRefs: [{name: v2, port: 80}]}";
    let expected = ["one: =/s.S/M => 1*v1.shop:80", "all: /s.S/** => 1*v2.shop:80", r"any: ~/[^/]+/M => 1*v2.shop:80"];
    assert_eq!(cluster(&route("GRPCRoute", ("r", "shop"), rules)).http("a"), expected);
}

#[test]
fn shares_that_cannot_be_used_are_answered_with_500() {
    let rules = r"
  - {name: none}
  - {name: zero, matches: [{path: {value: /zzzz}}], backendRefs: [{name: v1, port: 80, weight: 0}]}
  - {name: some, matches: [{path: {value: /sss}}], backendRefs: [{name: v1, port: 80, weight: 3}, {name: x, port: 80}]}
  - {name: kind, matches: [{path: {value: /kk}}], backendRefs: [{kind: Bucket, name: v1, port: 80}]}
  - {name: far, matches: [{path: {value: /f}}], backendRefs: [{name: far, namespace: web, port: 80}]}";
    let far = "---\nkind: Service\nmetadata: {name: far, namespace: web}\nspec: {ports: [{port: 80, name: http}]}\n";
    let mut found = cluster(&format!("{}{far}", http("r", rules)));
    let expected = [
        "zero: /zzzz/** => answer 500",
        "some: /sss/** => 3*v1.shop:80 + 1*500",
        "kind: /kk/** => 1*500",
        "far: /f/** => 1*500",
        "none: any => answer 500",
    ];
    assert_eq!(found.http("a"), expected);
    assert!(found.parent(RouteKind::Http, "r")[1].starts_with("ResolvedRefs BackendNotFound: spec.rules[2]"));
    let grant = r"
kind: ReferenceGrant
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: g, namespace: web}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: '', kind: Service, name: far}]
";
    found.apply(&grant.replace("name: far", "name: other"));
    assert_eq!(found.http("a")[3], "far: /f/** => 1*500");
    found.apply(grant);
    assert_eq!(found.http("a")[3], "far: /f/** => 1*far.web:80");
    found.delete(grant);
    assert_eq!(found.http("a")[3], "far: /f/** => 1*500");
}

#[test]
fn what_a_rule_changes() {
    let rules = r"
  - name: r
    matches: [{path: {value: /foo/}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: '50%'}], remove: [X-B]}}
    - {type: URLRewrite, urlRewrite: {hostname: h, path: {type: ReplacePrefixMatch, replacePrefixMatch: /xyz}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 25}}
    timeouts: {request: 10s, backendRequest: 2s}
    retry: {codes: [503], attempts: 3}
    backendRefs: [{name: v1, port: 80}]
  - name: plain
    timeouts: {request: 10s, backendRequest: 2s}
    backendRefs: [{name: v1, port: 80}]";
    let found = cluster(&http("r", rules));
    assert_eq!(found.http("a")[0], "r: /foo/** => 1*v1.shop:80 within 10000ms mirrored 250000ppm v2.shop:80");
    assert_eq!(found.http("a")[1], "plain: any => 1*v1.shop:80 within 2000ms");
    let route = found.service("a").ports[0].http[0].clone();
    let edits = route.request_headers.expect("edits");
    assert_eq!((edits.set[0].name.as_str(), edits.set[0].literal), ("x-a", true));
    assert_eq!(edits.remove, ["x-b"]);
    let Some(wire::http_route::Action::Forward(forward)) = route.action else { panic!("sent on") };
    let rewrite = forward.rewrite.expect("a rewrite");
    assert_eq!(rewrite.path, Some(wire::rewrite::Path::ElementPrefix("/xyz".to_owned())));
    assert_eq!((rewrite.authority.as_str(), rewrite.matched_prefix.as_str()), ("h", "/foo"));
    let retry = forward.retry.expect("more tries");
    assert_eq!((retry.attempts, retry.per_try_timeout.map(|one| one.seconds)), (3, Some(2)));
    assert_eq!(retry.status_codes, [503]);
}

#[test]
fn where_clients_are_sent() {
    let redirect = |filter: &str| {
        let rules = format!(
            "  - {{matches: [{{path: {{value: /p}}}}], filters: [{{type: RequestRedirect, requestRedirect: {filter}}}]}}"
        );
        match cluster(&http("r", &rules)).service("a").ports[0].http[0].action.clone() {
            Some(wire::http_route::Action::Redirect(redirect)) => redirect,
            other => panic!("{other:?}"),
        }
    };
    use wire::redirect::PortSource::{Listener, ProtocolDefault};
    let found = redirect("{scheme: https}");
    assert_eq!((found.status, found.port_source(), found.port), (302, ProtocolDefault, 0));
    let found = redirect("{hostname: h, statusCode: 301}");
    assert_eq!((found.status, found.port_source(), found.authority.as_str()), (301, Listener, "h"));
    let found = redirect("{port: 8443, path: {type: ReplacePrefixMatch, replacePrefixMatch: /q}}");
    assert_eq!((found.port, found.matched_prefix.as_str()), (8443, "/p"));
}

#[test]
fn a_filter_nobody_knows_fails_its_route() {
    let rules = "  - {filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Z, name: z}}], \
                 backendRefs: [{name: v1, port: 80}]}";
    let found = cluster(&http("r", rules));
    assert!(found.http("a").is_empty());
    assert!(found.parent(RouteKind::Http, "r")[0].starts_with("Accepted UnsupportedValue: spec.rules[0].filters"));
}

/// Our rule where both are written for one service: the Gateway API's count, and the other author is told.
#[test]
fn an_attached_route_replaces_virtual_services() {
    let routes = "kind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec: {hosts: [a], http: [{route: \
                  [{destination: {host: v1}}]}]}\n";
    let attached = http("r", "  - {name: one, backendRefs: [{name: v2, port: 80}]}");
    let mut found = cluster(&format!("{routes}---\n{attached}"));
    assert_eq!(found.http("a"), ["one: any => 1*v2.shop:80"]);
    assert!(found.said(Kind::VirtualService, "v").iter().any(|word| word.starts_with("lateen.io/Replaced GatewayAPI")));
    found.delete(&attached);
    assert_eq!(found.http("a"), ["any => 1*v1.shop:80"]);
    assert!(!found.said(Kind::VirtualService, "v").iter().any(|word| word.contains("Replaced")));
}

#[test]
fn a_parents_port_and_namespace_count() {
    let two = "kind: Service\nmetadata: {name: a, namespace: shop}\nspec: {ports: [{port: 80, name: http}, {port: 81, \
               name: http-b}]}\n";
    let one = http("r", "  - {backendRefs: [{name: v1, port: 80}]}").replace("name: a, ", "name: a, port: 81, ");
    let found = cluster(&format!("{two}---\n{one}"));
    let ports = found.service("a").ports;
    assert_eq!((ports[0].http.len(), ports[1].http.len()), (0, 1));
    let elsewhere = route("HTTPRoute", ("r", "web"), "  - {backendRefs: [{name: v1, namespace: shop, port: 80}]}");
    let found = cluster(&elsewhere);
    assert!(found.http("a").is_empty());
    let said = found.parent_in("web", RouteKind::Http, "r");
    assert!(said[0].starts_with("Accepted NotAllowedByListeners"), "{said:?}");
    assert!(said[1].starts_with("ResolvedRefs RefNotPermitted"), "{said:?}");
}

/// Routes of the namespace `web` for the service `a` of `shop`, and what their authors are told.
#[test]
fn routes_of_another_namespace_are_for_its_own_clients() {
    let own = http("own", "  - {name: own, backendRefs: [{name: v1, port: 80}]}");
    let theirs = "  - {name: theirs, backendRefs: [{name: a, namespace: shop, port: 80}]}\n  \
                  - {name: more, matches: [{path: {value: /x}}], backendRefs: [{name: v2, namespace: shop, port: 80}, {name: w, port: 80}]}";
    let theirs = route("HTTPRoute", ("theirs", "web"), theirs);
    let service = "kind: Service\nmetadata: {name: w, namespace: web}\nspec: {ports: [{port: 80, name: http}]}\n";
    let space = |label: &str| format!("kind: Namespace\nmetadata: {{name: web, labels: {{team: {label}}}}}\n");
    let waypoint = |allowed: &str| {
        super::show::WAYPOINT
            .split("\n---\n")
            .nth(1)
            .expect("the waypoint")
            .replace("HBONE}", &format!("HBONE{allowed}}}"))
    };
    let all = waypoint(", allowedRoutes: {namespaces: {from: All}}");
    let mut found = cluster(&[own.as_str(), &theirs, service, &space("a"), &all].join("\n---\n"));
    let of_clients = |found: &Cluster| {
        let ports = found.service("a").ports;
        let all = ports[0].http_of_clients.iter().map(|one| {
            let routes: Vec<String> = one.http.iter().map(super::show::show).collect();
            format!("{}: {}", one.client_namespace, routes.join(" | "))
        });
        all.collect::<Vec<_>>()
    };
    let expected = ["web: more: /x/** => 1*500 + 1*w.web:80 | theirs: any => 1*a.shop:80"];
    assert_eq!(of_clients(&found), expected, "v2 needs a grant, the service itself none");
    assert_eq!(found.http("a"), ["own: any => 1*v1.shop:80"], "all others keep theirs");
    assert!(found.names(lateen_wire::type_url::DESTINATION).contains(&"shop/waypoint/web/w.web.svc.cluster.local"));
    let said = |found: &Cluster| found.parent_in("web", RouteKind::Http, "theirs");
    assert!(said(&found)[0].starts_with("Accepted Accepted"), "{:?}", said(&found));
    assert!(said(&found)[1].starts_with("ResolvedRefs RefNotPermitted"), "{:?}", said(&found));
    // Who may is the waypoint's owner's to say, and to take back.
    found.apply(&waypoint(""));
    assert!(of_clients(&found).is_empty());
    assert!(said(&found)[0].starts_with("Accepted NotAllowedByListeners"), "{:?}", said(&found));
    let selected = ", allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: \
                    [{key: team, operator: NotIn, values: [b]}]}}}";
    found.apply(&waypoint(selected));
    assert_eq!(of_clients(&found), expected);
    found.apply(&space("b"));
    assert!(of_clients(&found).is_empty());
}

/// What is written for clients reaches nothing by the waypoint that is not theirs.
#[test]
fn what_a_waypoint_reaches_is_not_for_every_namespace() {
    let waypoint = super::show::WAYPOINT.replace("HBONE}", "HBONE, allowedRoutes: {namespaces: {from: All}}}");
    let host = |name: &str| {
        format!("{{group: networking.istio.io, kind: Hostname, name: {name}.shop.svc.cluster.local, port: 80}}")
    };
    let rules = format!("  - {{backendRefs: [{}, {}]}}", host("a"), host("v1"));
    let mut found = cluster(&route("HTTPRoute", ("r", "web"), &rules));
    found.apply(&waypoint);
    let of_clients = &found.service("a").ports[0].http_of_clients[0];
    assert_eq!(super::show::show(&of_clients.http[0]), "web.r.0: any => 1*a.shop:80 + 1*500");
    // Without identity nothing is known of who connects, and connections are not told apart.
    let mut found =
        cluster(&route("TCPRoute", ("r", "web"), "  - {backendRefs: [{name: a, namespace: shop, port: 80}]}"));
    found.apply(&waypoint);
    let said = found.parent_in("web", RouteKind::Tcp, "r");
    assert!(said[0].starts_with("Accepted NotAllowedByListeners: TCPRoutes hold for all clients"), "{said:?}");
    assert!(found.service("a").ports[0].tcp.is_empty());
}

#[test]
fn connections_have_routes_too() {
    let rules = "  - {backendRefs: [{name: v1, port: 80, weight: 3}, {name: v2, port: 80, weight: 1}]}";
    let services = [("a", "tcp", 80), ("v1", "tcp", 80), ("v2", "tcp", 80)];
    let found = Cluster::with_waypoint(&services, &route("TCPRoute", ("r", "shop"), rules));
    let shares: Vec<u32> = found.service("a").ports[0].tcp[0].destinations.iter().map(|one| one.weight).collect();
    assert_eq!(shares, [3, 1]);
}

#[test]
fn an_author_is_told_what_became_of_each_parent() {
    let route = http("r", "  - {backendRefs: [{name: v1, port: 80}]}");
    let expected = [
        "Accepted Accepted: it is in use",
        "ResolvedRefs ResolvedRefs: all it names is there",
        "ResolvedWaypoints ResolvedWaypoints: the waypoint shop/waypoint acts on it",
    ];
    assert_eq!(cluster(&route).parent(RouteKind::Http, "r"), expected);
    let said = Cluster::new(&route).parent(RouteKind::Http, "r");
    assert!(said[0].starts_with("Accepted NoMatchingParent"), "{said:?}");
    assert!(said[2].starts_with("ResolvedWaypoints MissingUseWaypointLabel"), "{said:?}");
}
