//! The written rules: which virtual services and destination rules count, and what becomes of what they say.

use lateen_wire::{proxy as wire, type_url};

use super::{super::*, show::Cluster};

const SERVICES: [(&str, &str, u16); 3] = [("a", "http", 80), ("b", "http", 80), ("many", "http", 80)];

fn cluster(objects: &str) -> Cluster {
    Cluster::with_waypoint(&SERVICES, objects)
}

/// A virtual service `name` of `namespace` for `host` with a body of `http`.
fn service(name: &str, namespace: &str, host: &str, http: &str) -> String {
    format!(
        "kind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  hosts: ['{host}']\n{http}\n"
    )
}

fn to(host: &str) -> String {
    format!("  http: [{{route: [{{destination: {{host: {host}}}}}]}}]")
}

fn a(http: &str) -> Vec<String> {
    cluster(&service("v", "shop", "a", http)).http("a")
}

#[test]
fn only_the_services_namespace_and_the_waypoints_own_count() {
    let far = service("far", "web", "a.shop.svc.cluster.local", &to("b.shop.svc.cluster.local"));
    assert!(cluster(&far).http("a").is_empty(), "a rule of a third namespace");
    let short = service("short", "web", "a", &to("b.shop.svc.cluster.local"));
    assert!(cluster(&short).http("a").is_empty(), "a short name is of the rule's own namespace");
    let hidden = format!("{}  exportTo: [web]\n", service("v", "shop", "a", &to("b")));
    assert!(cluster(&hidden).http("a").is_empty(), "not exported to the waypoint");
    let gateway = format!("{}  gateways: [edge]\n", service("v", "shop", "a", &to("b")));
    assert!(cluster(&gateway).http("a").is_empty(), "for a gateway only");
    let both = format!("{}  gateways: [edge, mesh]\n", service("v", "shop", "a", &to("b")));
    assert_eq!(cluster(&both).http("a"), ["any => 1*b.shop:80"]);
}

#[test]
fn several_for_one_host_are_joined_oldest_first_and_the_most_specific_host_wins() {
    let first = service("z", "shop", "a", "  http: [{match: [{uri: {exact: /1}}], route: [{destination: {host: a}}]}]");
    let second = service("yy", "shop", "A.shop.svc.cluster.local", &to("b"));
    let wild = service("w", "shop", "*.shop.svc.cluster.local", &to("many"));
    let cluster = cluster(&[wild, first, second].join("---\n"));
    assert_eq!(cluster.http("a"), ["=/1 => 1*a.shop:80", "any => 1*b.shop:80"]);
    assert_eq!(cluster.http("b"), ["any => 1*many.shop:80"]);
}

#[test]
fn a_catch_all_ends_its_virtual_service() {
    let all = |first: &str| {
        a(&format!(
            "  http: [{{match: [{first}], route: [{{destination: {{host: b}}}}]}}, {{route: [{{destination: {{host: a}}}}]}}]"
        ))
        .len()
    };
    assert_eq!(all("{uri: {prefix: /}}"), 1);
    assert_eq!(all("{uri: {regex: '.*'}}"), 1);
    assert_eq!(all("{name: one}"), 1);
    assert_eq!(all("{uri: {prefix: /}, method: {exact: GET}}"), 2);
    assert_eq!(all("{uri: {prefix: /}, authority: {exact: x}}"), 2);
    assert_eq!(all("{uri: {prefix: /a}}"), 2);
    assert_eq!(all("{headers: {x: {}}}"), 2);
}

#[test]
fn each_match_becomes_a_route_in_order() {
    let found = a(r"
  http:
  - name: r
    match:
    - {name: m, uri: {exact: /A}, ignoreUriCase: true, method: {exact: GET}}
    - {uri: {regex: '/a.*'}, headers: {':authority': {prefix: x}, uri: {exact: other}, UPPER: {exact: v}}}
    - {withoutHeaders: {end-user: {exact: jason}, x: {regex: '*'}, z: {regex: '.*'}}, queryParams: {k: {exact: ''}}}
    - {port: 81}
    - {port: 80, scheme: {exact: https}}
    - {sourceLabels: {app: x}}
    - {sourceNamespace: other}
    - {sourceNamespace: shop, uri: {prefix: /own}}
    - {gateways: [mesh], sourceLabels: {app: x}, uri: {prefix: /gw}}
    - {gateways: [edge], uri: {prefix: /gw}}
    - {headers: {'@request.auth.claims.group': {exact: admin}}}
    route: [{destination: {host: b}}]");
    let expected = [
        "r.m: =/A method=GET => 1*b.shop:80",
        "r: ~/a.* authority=x* upper=v => 1*b.shop:80",
        "r: !end-user=jason !x present !z~.* ?k= => 1*b.shop:80",
        "r: scheme=https => 1*b.shop:80",
        "r: /own* => 1*b.shop:80",
        "r: /gw* => 1*b.shop:80",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_port_is_the_one_written_the_only_one_or_the_one_called() {
    let two = "kind: Service\nmetadata: {name: two, namespace: shop}\nspec: {ports: [{port: 80, name: http}, {port: 81, name: http-b}]}\n";
    let check = |destination: &str, expected: &str| {
        let cluster = cluster(&format!(
            "{two}---\n{}",
            service("v", "shop", "a", &format!("  http: [{{route: [{{destination: {destination}}}]}}]"))
        ));
        assert_eq!(cluster.http("a"), [format!("any => {expected}")], "{destination}");
    };
    check("{host: two, port: {number: 81}}", "1*two.shop:81");
    check("{host: two}", "1*two.shop:80");
    check("{host: b}", "1*b.shop:80");
    check("{host: b, port: {number: 81}}", "1*503");
}

fn forward(http: &str) -> wire::Forward {
    let cluster = cluster(&service("v", "shop", "a", http));
    match cluster.service("a").ports[0].http[0].action.clone() {
        Some(wire::http_route::Action::Forward(forward)) => forward,
        other => panic!("{other:?}"),
    }
}

#[test]
fn when_a_request_is_tried_again() {
    let retry = |retries: &str| forward(&format!("  http: [{{route: [{{destination: {{host: b}}}}]{retries}}}]")).retry;
    let usual = retry("").expect("two more tries");
    let on = usual.on.clone().expect("conditions");
    assert_eq!((usual.attempts, usual.avoid_previous, on.grpc.as_slice()), (2, true, [1, 14].as_slice()));
    assert!(on.connect_failure && on.refused_stream && on.status_codes && !on.server_error && !on.reset);
    assert_eq!(retry(", retries: {attempts: 0}"), None);
    let own = retry(", retries: {attempts: 3, perTryTimeout: 2s}").expect("tries");
    assert_eq!((own.attempts, own.on), (3, Some(on)), "the same conditions");
    let codes = retry(", retries: {attempts: 1, retryOn: '503, reset,unavailable', retryIgnorePreviousHosts: false}");
    let codes = codes.expect("tries");
    let on = codes.on.expect("conditions");
    assert_eq!((codes.status_codes, codes.avoid_previous), (vec![503], false));
    assert!(on.status_codes && on.reset && !on.connect_failure && on.grpc == [14]);
}

#[test]
fn rewrites_and_hosts() {
    let rewritten =
        |text: &str| forward(&format!("  http: [{{{text}, route: [{{destination: {{host: b}}}}]}}]")).rewrite;
    let found = rewritten("match: [{uri: {prefix: /v1/}}], rewrite: {uri: /}").expect("a rewrite");
    assert_eq!((found.path, found.matched_prefix.as_str()), (Some(wire::rewrite::Path::Prefix("/".into())), "/v1/"));
    let found = rewritten("rewrite: {uri: /x}").expect("a rewrite");
    assert_eq!((found.path, found.matched_prefix.as_str()), (Some(wire::rewrite::Path::Prefix("/x".into())), "/"));
    let found = rewritten("match: [{uri: {exact: /a}}], rewrite: {uri: /b, authority: h}").expect("a rewrite");
    assert_eq!((found.path, found.authority.as_str()), (Some(wire::rewrite::Path::Full("/b".into())), "h"));
    let host = rewritten("headers: {request: {set: {Host: a}}}").expect("a rewrite");
    assert_eq!(host.authority, "a");
    let both = forward(
        "  http: [{headers: {request: {set: {':authority': a}}}, route: [{destination: {host: b}, headers: {request: {set: {host: b, x: z}}}}]}]",
    );
    assert_eq!(both.rewrite.expect("a rewrite").authority, "a");
    assert_eq!(both.destinations[0].rewrite, None, "the route's host counts");
    assert_eq!(both.destinations[0].request_headers.as_ref().expect("edits").set[0].name, "x");
}

#[test]
fn another_virtual_service_decides() {
    let root = r"
  http:
  - name: root
    match: [{uri: {prefix: /a}, headers: {x: {exact: '1'}}}]
    timeout: 1s
    delegate: {name: inner, namespace: web}";
    let inner = r"
kind: VirtualService
metadata: {name: inner, namespace: web}
spec:
  http:
  - {name: in, match: [{uri: {prefix: /a/b}}], route: [{destination: {host: b.shop.svc.cluster.local}}]}
  - {match: [{uri: {prefix: /c}}], route: [{destination: {host: b.shop.svc.cluster.local}}]}
  - {timeout: 2s, route: [{destination: {host: here}}]}
---
kind: Service
metadata: {name: here, namespace: web}
spec: {ports: [{port: 80, name: http}]}
";
    let root = service("v", "shop", "a", root);
    let mut found = cluster(&root);
    assert!(found.http("a").is_empty(), "the delegate is not there");
    assert!(found.said(Kind::VirtualService, "v")[1].contains("there is no VirtualService web/inner"));
    found.apply(inner);
    let expected = ["root-in: /a/b* x=1 => 1*b.shop:80 within 1000ms", "root: /a* x=1 => 1*here.web:80 within 2000ms"];
    assert_eq!(found.http("a"), expected);
    found.apply(&inner.replace("spec:\n  http", "spec:\n  exportTo: ['.']\n  http"));
    assert!(found.http("a").is_empty(), "it is not exported to the root");
}

fn rule(name: &str, namespace: &str, host: &str, body: &str) -> String {
    format!(
        "kind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{host: '{host}', {body}}}\n"
    )
}

fn balance(algorithm: &str) -> String {
    format!("trafficPolicy: {{loadBalancer: {{simple: {algorithm}}}}}")
}

fn simple(cluster: &Cluster) -> wire::load_balancer::Simple {
    let policy = cluster.clusters("a").remove(0).policy.expect("a policy");
    match policy.load_balancer.and_then(|balancer| balancer.kind) {
        Some(wire::load_balancer::Kind::Simple(simple)) => simple.try_into().expect("known"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_tier_and_the_most_specific_host_count() {
    use wire::load_balancer::Simple::{LeastRequest, Random, RoundRobin};
    let name = "a.shop.svc.cluster.local";
    let root = rule("r", "istio-system", name, &balance("RANDOM"));
    let own = rule("o", "shop", "a", &balance("ROUND_ROBIN"));
    let third = rule("t", "web", name, &balance("RANDOM"));
    assert_eq!(simple(&cluster("")), LeastRequest);
    assert_eq!(simple(&cluster(&third)), LeastRequest, "of a third namespace");
    assert_eq!(simple(&cluster(&root)), Random);
    assert_eq!(simple(&cluster(&format!("{root}---\n{own}"))), RoundRobin);
    let wild = rule("w", "shop", "*.shop.svc.cluster.local", &balance("RANDOM"));
    assert_eq!(simple(&cluster(&wild)), Random);
    assert_eq!(simple(&cluster(&format!("{wild}---\n{own}"))), RoundRobin);
    // A nearer tier counts alone, even where its host is less specific.
    assert_eq!(
        simple(&cluster(&format!("{}---\n{wild}", rule("r", "istio-system", name, &balance("ROUND_ROBIN"))))),
        Random
    );
    let selected =
        rule("s", "shop", "a", &format!("{}, workloadSelector: {{matchLabels: {{x: z}}}}", balance("RANDOM")));
    assert_eq!(simple(&cluster(&selected)), LeastRequest, "for other proxies");
}

#[test]
fn rules_for_one_host_are_merged() {
    let first = rule("first", "shop", "a", "subsets: [{name: v1, labels: {version: v1}}]");
    let second = rule(
        "second",
        "shop",
        "a",
        &format!(
            "{}, subsets: [{{name: v2, labels: {{version: v2}}}}, {{name: v1, labels: {{version: other}}}}]",
            balance("RANDOM")
        ),
    );
    let found = cluster(&format!("{first}---\n{second}"));
    let clusters = found.clusters("a");
    let subsets: Vec<&str> = clusters.iter().map(|one| one.subset.as_str()).collect();
    assert_eq!(subsets, ["", "v1", "v2"]);
    assert_eq!(clusters[1].labels["version"], "v1");
    assert_eq!(simple(&found), wire::load_balancer::Simple::Random, "of the oldest that has one");
    assert!(found.said(Kind::DestinationRule, "second")[0].contains("Accepted Accepted"));
}

#[test]
fn ports_replace_whole_blocks_and_subsets_single_ones() {
    let body = "trafficPolicy: {outlierDetection: {}, tls: {mode: SIMPLE, sni: s}, \
                portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}";
    let found = cluster(&rule("r", "shop", "a", body));
    let policy = found.clusters("a").remove(0).policy.expect("a policy");
    assert_eq!((policy.outlier, policy.tls), (None, None));
    let body = "trafficPolicy: {tls: {mode: SIMPLE, sni: s}, connectionPool: {tcp: {maxConnections: 5}}}, \
                subsets: [{name: v1, labels: {v: '1'}, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 2}}}}]";
    let found = cluster(&rule("r", "shop", "a", body));
    let policy = found.clusters("a").remove(1).policy.expect("a policy");
    let pool = policy.pool.expect("limits");
    assert_eq!((pool.max_connections, pool.max_requests), (None, Some(2)));
    assert_eq!(policy.tls.expect("TLS").server_name, "s");
}

/// What cannot be had is never done without.
#[test]
fn tls_that_cannot_be_had_makes_the_cluster_unusable() {
    let unusable = |tls: &str| {
        let found = cluster(&rule("r", "shop", "a", &format!("trafficPolicy: {{tls: {{{tls}}}}}")));
        found.clusters("a").remove(0).unusable
    };
    assert!(unusable("mode: MUTUAL").contains("credentialName"));
    assert!(unusable("mode: SIMPLE, caCertificates: /etc/ca.pem").contains("files"));
    assert_eq!(unusable("mode: ISTIO_MUTUAL"), "");
    assert_eq!(unusable("mode: DISABLE"), "");
}

#[test]
fn a_destination_elsewhere_is_sent_to_the_proxy_that_routes_there() {
    let mut found = cluster(&service("v", "shop", "a", &to("far.web.svc.cluster.local")));
    found.apply("kind: Service\nmetadata: {name: far, namespace: web}\nspec: {ports: [{port: 80, name: http}]}\n");
    let name = "shop/waypoint/web/far.web.svc.cluster.local";
    assert!(found.names(type_url::DESTINATION).contains(&name), "{:?}", found.names(type_url::DESTINATION));
    assert!(!found.names(type_url::SERVICE).contains(&name));
    found.delete(&service("v", "shop", "a", &to("x")));
    assert!(!found.names(type_url::DESTINATION).contains(&name));
}

#[test]
fn what_does_nothing_is_named() {
    let found = cluster(&service(
        "v",
        "shop",
        "a",
        "  http: [{match: [{sourceLabels: {app: x}, statPrefix: p}], route: [{destination: {host: b}}]}]",
    ));
    let said = found.said(Kind::VirtualService, "v");
    let said = said.iter().find(|word| word.starts_with("lateen.io/UnsupportedFields")).expect("it is named");
    for field in ["spec.http[0].match[0].sourceLabels does nothing", "spec.http[0].match[0].statPrefix does nothing"] {
        assert!(said.contains(field), "{said}");
    }
    let found = cluster(&rule("r", "shop", "a", "trafficPolicy: {tls: {mode: MUTUAL, privateKey: /k}}"));
    let said = found.said(Kind::DestinationRule, "r");
    assert!(said[1].contains("spec.trafficPolicy.tls.privateKey is not supported"), "{said:?}");
}

#[test]
fn a_rule_nobody_acts_on_says_so() {
    let mut found = Cluster::new(&service("v", "shop", "a", &to("b")));
    assert!(found.said(Kind::VirtualService, "v")[0].contains("NoWaypoint"));
    found.apply(&rule("r", "shop", "a", &balance("RANDOM")));
    assert!(found.said(Kind::DestinationRule, "r")[0].contains("NotUsed"));
}

/// Every proxy holds these labels of every workload, so somebody's thousands of subsets must not become everybody's memory.
#[test]
fn labels_that_endpoints_are_chosen_by_are_bounded() {
    let subsets: Vec<String> =
        (0..300).map(|number| format!("{{name: s{number}, labels: {{k{number}: x}}}}")).collect();
    let body = format!("subsets: [{}]", subsets.join(", "));
    let route = "kind: VirtualService\nmetadata: {name: a, namespace: shop}\nspec: {hosts: [a], http: [{route: [{destination: \
                 {host: a, subset: s299}}]}]}\n";
    let found = Cluster::with_waypoint(&[("a", "http", 80)], &format!("{}---\n{route}", rule("r", "shop", "a", &body)));
    let unusable = |name: &str| {
        let clusters = found.clusters("a");
        clusters.into_iter().find(|one| one.subset == name).expect("the subset").unusable
    };
    assert!(unusable("s0").is_empty() && unusable("s299").contains("no further labels"), "{}", unusable("s299"));
    let said = found.said(Kind::DestinationRule, "r");
    assert!(
        said[1].starts_with("lateen.io/ResolvedRefs TooManyLabels: endpoints are chosen by 256 labels"),
        "{said:?}"
    );
}
