//! The documents' routes and rules as waypoints are sent them.

use lateen_wire::{proxy as wire, type_url};
use prost_types::Duration;

use super::{super::*, show::Cluster};

const VERSIONS: &str = r"
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
---
";

fn bookinfo(objects: &str) -> Cluster {
    let services = [("reviews", "http", 9080), ("ratings", "http", 9080), ("httpbin", "http", 8000)];
    Cluster::with_waypoint(&services, &format!("{VERSIONS}{objects}"))
}

fn routes(http: &str) -> String {
    format!("kind: VirtualService\nmetadata: {{name: reviews, namespace: shop}}\nspec:\n  hosts: [reviews]\n{http}\n")
}

#[test]
fn a_waypoint_serves_what_is_bound_to_it() {
    let mut cluster = bookinfo("");
    let proxy = cluster.proxy("shop/waypoint");
    assert_eq!((proxy.role(), proxy.serves_services, proxy.serves_workloads), (wire::Role::Waypoint, true, false));
    let of = |name: &str| format!("shop/waypoint/shop/{name}.shop.svc.cluster.local");
    let all = ["httpbin", "ratings", "reviews"].map(of);
    assert_eq!(proxy.services, all);
    assert_eq!(cluster.names(type_url::SERVICE), all);
    assert_eq!(cluster.names(type_url::DESTINATION), all);
    let port = &cluster.service("reviews").ports[0];
    assert_eq!((port.port, port.protocol(), port.http.len()), (9080, wire::Protocol::Http, 0));
    cluster.apply("kind: Service\nmetadata: {name: httpbin, namespace: shop, labels: {istio.io/use-waypoint: none}}\nspec: {ports: [{port: 8000}]}\n");
    assert_eq!(cluster.proxy("shop/waypoint").services, all[1..]);
    assert_eq!(cluster.names(type_url::DESTINATION), all[1..]);
    cluster.delete("kind: Gateway\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: waypoint, namespace: shop}\nspec: {gatewayClassName: istio-waypoint, listeners: []}\n");
    for type_url in [type_url::PROXY, type_url::SERVICE, type_url::DESTINATION] {
        assert!(cluster.names(type_url).is_empty(), "{type_url}");
    }
}

#[test]
fn one_user_is_sent_to_another_version() {
    let cluster = bookinfo(&routes(
        r"
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route: [{destination: {host: reviews, subset: v1}}]",
    ));
    let expected = ["end-user=jason => 1*reviews.shop:9080/v2", "any => 1*reviews.shop:9080/v1"];
    assert_eq!(cluster.http("reviews"), expected);
    let clusters = cluster.clusters("reviews");
    let subsets: Vec<(u32, &str, Option<&String>)> =
        clusters.iter().map(|one| (one.port, one.subset.as_str(), one.labels.get("version"))).collect();
    let version =
        |text: &'static str| clusters.iter().find_map(|one| one.labels.get("version").filter(|is| *is == text));
    let expected =
        [(9080, "", None), (9080, "v1", version("v1")), (9080, "v2", version("v2")), (9080, "v3", version("v3"))];
    assert_eq!(subsets, expected);
    let said = cluster.said(Kind::VirtualService, "reviews");
    assert_eq!(said[0], "lateen.io/Accepted Accepted: waypoints serve reviews.shop.svc.cluster.local by it");
    assert!(said[1].starts_with("lateen.io/ResolvedRefs ResolvedRefs"), "{said:?}");
}

#[test]
fn traffic_is_split_by_weight() {
    let cluster = bookinfo(&routes(
        r"
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v2}, weight: 10}
    - {destination: {host: reviews, subset: v3}, weight: 0}",
    ));
    assert_eq!(cluster.http("reviews"), ["any => 90*reviews.shop:9080/v1 + 10*reviews.shop:9080/v2"]);
}

#[test]
fn connections_are_split_by_weight() {
    let cluster = Cluster::with_waypoint(
        &[("tcp-echo", "tcp", 9000)],
        r"
kind: DestinationRule
metadata: {name: tcp-echo, namespace: shop}
spec: {host: tcp-echo, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
kind: VirtualService
metadata: {name: tcp-echo, namespace: shop}
spec:
  hosts: [tcp-echo]
  tcp:
  - match: [{port: 9000}]
    route:
    - {destination: {host: tcp-echo, port: {number: 9000}, subset: v1}, weight: 80}
    - {destination: {host: tcp-echo, port: {number: 9000}, subset: v2}, weight: 20}
  - match: [{port: 9001}]
    route: [{destination: {host: tcp-echo}}]
",
    );
    let port = &cluster.service("tcp-echo").ports[0];
    assert_eq!((port.protocol(), port.tcp.len(), port.http.len()), (wire::Protocol::Tcp, 1, 0));
    let shares: Vec<(u32, String)> = port.tcp[0]
        .destinations
        .iter()
        .map(|share| (share.weight, crate::derive::served::of_share(share).expect("there").subset.clone()))
        .collect();
    assert_eq!(shares, [(80, "v1".to_owned()), (20, "v2".to_owned())]);
}

#[test]
fn late_answers_and_faults() {
    let cluster = bookinfo(&routes(
        r"
  http:
  - match: [{uri: {prefix: /slow}}]
    fault: {delay: {percentage: {value: 100.0}, fixedDelay: 2s}}
    route: [{destination: {host: ratings}}]
  - match: [{uri: {exact: /no}}]
    fault: {abort: {percentage: {value: 0.01}, httpStatus: 418}}
    route: [{destination: {host: ratings}}]
  - fault: {abort: {httpStatus: 418}}
    timeout: 0.5s
    route: [{destination: {host: reviews, subset: v2}}]",
    ));
    let service = cluster.service("reviews");
    let http = &service.ports[0].http;
    let delay = http[0].fault.as_ref().and_then(|fault| fault.delay).expect("a delay");
    assert_eq!((delay.fixed, delay.per_million), (Some(Duration { seconds: 2, nanos: 0 }), 1_000_000));
    let abort = http[1].fault.as_ref().and_then(|fault| fault.abort).expect("an abort");
    assert_eq!((abort.status, abort.per_million), (Some(wire::fault::abort::Status::Http(418)), 100));
    assert_eq!(http[2].fault, None, "no share is none");
    assert_eq!(super::show::show(&http[2]), "any => 1*reviews.shop:9080/v2 within 500ms");
}

#[test]
fn a_circuit_breaker_and_its_ejections() {
    let cluster = bookinfo(
        r"
kind: DestinationRule
metadata: {name: httpbin, namespace: shop}
spec:
  host: httpbin
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}
",
    );
    let policy = cluster.clusters("httpbin").remove(0).policy.expect("a policy");
    let pool = policy.pool.expect("limits");
    assert_eq!((pool.max_connections, pool.max_pending_requests), (Some(1), Some(1)));
    assert_eq!((pool.max_requests_per_connection, pool.max_requests, pool.max_retries), (Some(1), None, None));
    assert_eq!(pool.connect_timeout, Some(Duration { seconds: 10, nanos: 0 }));
    assert_eq!(pool.http_idle_timeout, Some(Duration { seconds: 3600, nanos: 0 }));
    let outlier = policy.outlier.expect("ejections");
    assert_eq!((outlier.consecutive_5xx, outlier.max_ejection_percent), (1, 100));
    assert_eq!(outlier.base_ejection_time, Some(Duration { seconds: 180, nanos: 0 }));
    let locality = policy.load_balancer.and_then(|balancer| balancer.locality).and_then(|locality| locality.mode);
    assert!(matches!(locality, Some(wire::locality::Mode::Failover(_))), "ejecting prefers what is near: {locality:?}");
    assert!(cluster.clusters("reviews")[0].policy.as_ref().expect("a policy").outlier.is_none());
}

#[test]
fn requests_are_mirrored() {
    let cluster = bookinfo(&routes(
        r"
  http:
  - route: [{destination: {host: reviews, subset: v1}, weight: 100}]
    mirror: {host: reviews, subset: v2}
    mirrorPercentage: {value: 50.5}
    mirrors: []",
    ));
    assert_eq!(cluster.http("reviews"), ["any => 1*reviews.shop:9080/v1 mirrored 505000ppm reviews.shop:9080/v2"]);
}

#[test]
fn tls_is_begun_on_the_way_out() {
    let cluster = Cluster::with_waypoint(
        &[],
        r"
kind: ServiceEntry
metadata: {name: edition, namespace: shop}
spec:
  hosts: [edition.example.com]
  ports: [{number: 80, name: http-port, protocol: HTTP, targetPort: 443}, {number: 443, name: https-port, protocol: HTTPS}]
  resolution: DNS
---
kind: DestinationRule
metadata: {name: edition, namespace: shop}
spec:
  host: edition.example.com
  trafficPolicy:
    portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, sni: edition.example.com}}]
",
    );
    let clusters = cluster.clusters("edition.example.com");
    let tls = |at: usize| clusters[at].policy.as_ref().and_then(|policy| policy.tls.clone());
    let begun = tls(0).expect("TLS at port 80");
    assert_eq!(
        (begun.server_name.as_str(), begun.ca.as_str(), begun.insecure_skip_verify),
        ("edition.example.com", "", false)
    );
    assert_eq!((clusters[1].protocol(), tls(1)), (wire::Protocol::Tls, None));
}

#[test]
fn what_is_missing_is_answered_with_an_error_and_told() {
    let mut cluster = bookinfo(&routes(
        r"
  http:
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: nowhere}}]
  - match: [{uri: {prefix: /b}}]
    route: [{destination: {host: reviews, subset: v9}, weight: 1}, {destination: {host: reviews}, weight: 1}]
  - route: [{destination: {host: reviews, port: {number: 1}}}]",
    ));
    assert_eq!(cluster.http("reviews"), ["/a* => 1*503", "/b* => 1*503 + 1*reviews.shop:9080", "any => 1*503"]);
    let said = cluster.said(Kind::VirtualService, "reviews")[1].clone();
    for part in ["spec.http[0]: there is no service nowhere.shop", "the subset v9", "no TCP port 1"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    cluster
        .apply("kind: Service\nmetadata: {name: nowhere, namespace: shop}\nspec: {ports: [{port: 80, name: http}]}\n");
    assert_eq!(cluster.http("reviews")[0], "/a* => 1*nowhere.shop:80");
}

/// Of the mesh's many services a rule of one concerns that one.
#[test]
fn a_change_of_one_route_concerns_its_service_only() {
    let mut cluster = bookinfo("");
    let one = routes("\n  http: [{route: [{destination: {host: reviews}}], timeout: 3s}]");
    assert_eq!(cluster.apply(&one), 1);
    assert_eq!(cluster.apply(&one), 0, "nothing changed");
    assert_eq!(cluster.delete(&one), 1);
}

#[test]
fn whether_a_waypoint_is_believed_is_said_of_the_pod_or_else_of_its_namespace() {
    let annotated = |kind: &str, name: &str, annotation: &str, rest: &str| {
        format!("kind: {kind}\nmetadata: {{name: {name}, namespace: shop, uid: u{annotation}}}\n{rest}")
    };
    let says = |word: &str| format!(", annotations: {{lateen.io/client-identity: {word}}}");
    let pod = |annotation: &str| {
        annotated("Pod", "p", annotation, "spec: {containers: []}\nstatus: {phase: Running, podIP: 10.0.0.1}\n")
    };
    let believes = |cluster: &Cluster| {
        let address: lateen_wire::workload::Address =
            cluster.message(type_url::ADDRESS, "Kubernetes//Pod/shop/p").expect("the workload");
        let Some(lateen_wire::workload::address::Type::Workload(workload)) = address.r#type else {
            panic!("a workload")
        };
        workload.extensions.iter().any(|extension| extension.name == "lateen.client_identity")
    };
    let mut cluster = Cluster::with_waypoint(&[("reviews", "http", 9080)], &pod(""));
    assert!(!believes(&cluster), "nobody asked");
    cluster.apply(&pod(&says("believe-waypoint")));
    assert!(believes(&cluster));
    cluster.apply(&pod(&says("believe-everybody")));
    assert!(!believes(&cluster), "a word that is not known");
    cluster.apply(&annotated("Namespace", "shop", &says("believe-waypoint"), "").replace("namespace: shop, ", ""));
    assert!(!believes(&cluster), "the pod's own word counts before its namespace's");
    cluster.apply(&pod(""));
    assert!(believes(&cluster), "its namespace's");
    cluster.apply(&pod(&says("none")));
    assert!(!believes(&cluster));
    cluster.apply(&pod(""));
    cluster.apply(&annotated("Namespace", "shop", "", "").replace("namespace: shop, ", ""));
    assert!(!believes(&cluster), "taken back");
}

#[test]
fn only_labels_that_rules_ask_for_travel() {
    let pod = |name: &str| {
        format!(
            "kind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: u, labels: {{app: reviews, version: v1}}}}\n\
             spec: {{containers: []}}\nstatus: {{phase: Running, podIP: 10.0.0.1}}\n"
        )
    };
    let labels = |cluster: &Cluster| {
        let address: lateen_wire::workload::Address =
            cluster.message(type_url::ADDRESS, "Kubernetes//Pod/shop/p").expect("the workload");
        let Some(lateen_wire::workload::address::Type::Workload(workload)) = address.r#type else {
            panic!("a workload")
        };
        let extension = workload.extensions.into_iter().next()?;
        assert_eq!(extension.name, "lateen.labels");
        let labels: wire::Labels =
            prost::Message::decode(extension.config.expect("labels").value.as_slice()).expect("labels");
        Some(labels.labels.into_iter().collect::<Vec<_>>())
    };
    let mut cluster = Cluster::with_waypoint(&[("reviews", "http", 9080)], &pod("p"));
    assert_eq!(labels(&cluster), None);
    cluster.apply(VERSIONS);
    let asked = Some(vec![("version".to_owned(), "v1".to_owned())]);
    assert_eq!(labels(&cluster), asked);
    // Routes to what the rule had may go after it.
    cluster.delete(VERSIONS);
    assert_eq!(labels(&cluster), asked);
}
