//! What a gateway does not do: hosts of listeners that are closed, policies while pods change, what nobody can read.

use lateen_wire::type_url;

use super::{
    super::*,
    gates::{EDGE, SHOP, bound, gateway, http, open, secret, servers, told},
    show::Cluster,
};

fn reasons(cluster: &Cluster, name: &str) -> Vec<String> {
    cluster.parent(RouteKind::Http, name)
}

/// A client must not come around what a listener asks of it by way of a laxer one.
#[test]
fn hosts_of_a_closed_listener_are_answered_by_nobody() {
    let listeners = r"
  - {name: all, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: web-cert}]}}
  - {name: strict, port: 443, protocol: HTTPS, hostname: a.example.com, tls: {certificateRefs: [{name: web-cert}],
     options: {gateway.istio.io/tls-terminate-mode: MUTUAL, example.com/unknown: x}}}";
    let routes = [http("named", "", "[a.example.com]", "a"), http("every", ", sectionName: all", "[]", "b")];
    let mut cluster = Cluster::new(&format!("{SHOP}{}{}", gateway(listeners), routes.concat()));
    cluster.apply(&secret("web-cert", "shop"));
    let own = "shop/g/secret/shop/web-cert";
    let every = "shop.every.0: any => 1*b.shop:80";
    assert_eq!(open(&cluster, 443), [format!("* [{own} Ignored] *: {every}"), "a.example.com passed ".to_owned()]);
    assert!(told(&cluster, "strict").starts_with("not UnsupportedValue"));
    let said = &reasons(&cluster, "named")[0];
    assert!(said.starts_with("Accepted Accepted"), "{said}");
    // Alone it is said to be attached where nothing is listened on.
    let route = http("named", ", sectionName: strict", "[a.example.com]", "a");
    cluster.apply(&route);
    let said = &reasons(&cluster, "named")[0];
    assert!(said.contains("attached, but the listener strict is not listened on: tls.options"), "{said}");
}

#[test]
fn hosts_of_a_closed_server_are_answered_by_nobody() {
    let all = [
        servers(
            "strict",
            r"
  - {port: {number: 443, name: s, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: MUTUAL, serverCertificate: /a, privateKey: /b}}
  - {port: {number: 80, name: p, protocol: HTTP}, hosts: [a.example.com], bind: 10.0.0.1}",
        ),
        servers(
            "lax",
            r"
  - {port: {number: 443, name: s, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: web-cert}}
  - {port: {number: 443, name: t, protocol: HTTPS}, hosts: [A.example.com], tls: {mode: SIMPLE, credentialName: web-cert}}
  - {port: {number: 80, name: p, protocol: HTTP}, hosts: ['*']}",
        ),
        bound("v", "  hosts: ['*']\n  gateways: [lax]\n  http: [{route: [{destination: {host: a}}]}]"),
    ];
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{}", all.concat()));
    cluster.apply(&secret("web-cert", "shop"));
    let own = "shop/g/secret/shop/web-cert";
    let every = "any => 1*a.shop:80";
    assert_eq!(open(&cluster, 443), [format!("* [{own} Ignored] *: {every}"), "a.example.com passed ".to_owned()]);
    assert_eq!(open(&cluster, 80), [format!("*: {every}"), "a.example.com: ".to_owned()]);
    let said = &cluster.said(Kind::Servers, "lax")[1];
    assert!(said.contains("spec.servers[1]: an older server has the host a.example.com at port 443"), "{said}");
}

#[test]
fn a_host_for_two_namespaces_is_one_host() {
    let server = r"
  - {port: {number: 443, name: s, protocol: HTTPS}, hosts: ['shop/*.Example.com', 'web/*.example.com'], tls: {mode: SIMPLE, credentialName: c}}";
    let route =
        bound("v", "  hosts: [a.example.com]\n  gateways: [edge]\n  http: [{route: [{destination: {host: a}}]}]");
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{}{route}", servers("edge", server)));
    cluster.apply(&secret("c", "shop"));
    let inside = "*.example.com: ; a.example.com: any => 1*a.shop:80";
    assert_eq!(open(&cluster, 443), [format!("*.example.com [shop/g/secret/shop/c Ignored] {inside}")]);
    assert!(cluster.said(Kind::Servers, "edge")[1].starts_with("lateen.io/ResolvedRefs ResolvedRefs"));
}

fn pod(name: &str, label: &str, phase: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: {name}, labels: {{istio: {label}, \
         gateway.networking.k8s.io/gateway-name: g}}}}\nspec: {{nodeName: node-1, containers: []}}\nstatus: {{phase: \
         {phase}}}\n---\n"
    )
}

/// While pods with other labels take the places of old ones, both serve.
#[test]
fn a_rollout_takes_no_policy_and_no_server_away() {
    let policy = "kind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {action: DENY, selector: \
                  {matchLabels: {istio: edge}}, rules: [{}]}\n---\n";
    let server = servers("edge", "  - {port: {number: 90, name: h, protocol: HTTP}, hosts: ['*']}");
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{policy}{server}"));
    let holds = |cluster: &Cluster| {
        let proxy = cluster.proxy("shop/g");
        (proxy.policies.len(), proxy.listeners.iter().any(|one| one.port == 90))
    };
    assert_eq!(holds(&cluster), (1, true));
    cluster.apply(&pod("g-2", "next", "Running"));
    assert_eq!(holds(&cluster), (1, true), "the old pod still serves");
    cluster.apply(&pod("g-1", "edge", "Succeeded"));
    assert_eq!(holds(&cluster), (0, false), "only what has ended carried the label");
}

#[test]
fn settings_that_cannot_be_read_close_a_gateway_and_nothing_else() {
    let annotated = |class: &str, name: &str, protocol: &str, port: u16, text: &str| {
        format!(
            "kind: Gateway\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {{name: {name}, namespace: shop, annotations: \
             {{proxy.istio.io/config: '{text}'}}}}\nspec: {{gatewayClassName: {class}, listeners: [{{name: h, port: {port}, \
             protocol: {protocol}}}]}}\n---\n"
        )
    };
    let server = servers("edge", "  - {port: {number: 90, name: h, protocol: HTTP}, hosts: ['*']}");
    let bad = annotated("istio", "g", "HTTP", 80, "gatewayTopology: {numTrustedProxies: many}");
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{server}{}", http("r", "", "[]", "a")));
    cluster.apply(&bad);
    assert!(cluster.proxy("shop/g").listeners.is_empty());
    assert!(told(&cluster, "h").starts_with("not InvalidParameters"));
    let why = "annotation proxy.istio.io/config";
    assert!(reasons(&cluster, "r")[0].contains(why), "{:?}", reasons(&cluster, "r"));
    assert!(cluster.said(Kind::Servers, "edge")[1].contains(why));
    let good = annotated("istio", "g", "HTTP", 80, "connectionSettings: {profile: EDGE}");
    cluster.apply(&good);
    assert_eq!(cluster.proxy("shop/g").listeners.len(), 2);
    let options = cluster.proxy("shop/g").options.expect("options");
    assert_eq!(options.stream_idle_timeout.map(|length| length.seconds), Some(300));
    assert_eq!((options.merge_slashes, options.underscores()), (true, lateen_wire::proxy::Underscores::Reject));
    // A waypoint has nothing in front.
    cluster.apply(&annotated("istio-waypoint", "w", "HBONE", 15008, "gatewayTopology: {numTrustedProxies: many}"));
    assert!(cluster.names(type_url::PROXY).contains(&"shop/w"));
}

#[test]
fn a_pattern_nobody_can_compile_takes_its_route_only() {
    let bad = "kind: HTTPRoute\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: bad, namespace: shop}\nspec:\n  \
               parentRefs: [{name: g}]\n  rules: [{matches: [{path: {type: RegularExpression, value: '(/a'}}], backendRefs: \
               [{name: a, port: 80}]}]\n---\n";
    let service = bound(
        "v",
        "  hosts: ['*']\n  gateways: [edge]\n  http:\n  - {match: [{headers: {x: {regex: '('}}}], route: [{destination: {host: b}}]}\n  - route: [{destination: {host: a}}]",
    );
    let server = servers("edge", "  - {port: {number: 90, name: h, protocol: HTTP}, hosts: ['*']}");
    let good = http("good", "", "[]", "b");
    let cluster = Cluster::new(&format!("{SHOP}{EDGE}{server}{service}{bad}{good}"));
    assert_eq!(open(&cluster, 8080), ["*: shop.good.0: any => 1*b.shop:80"]);
    let said = &reasons(&cluster, "bad")[0];
    assert!(said.starts_with("Accepted UnsupportedValue: spec.rules[0]: the regular expression \"(/a\""), "{said}");
    assert_eq!(open(&cluster, 90), ["*: any => 1*a.shop:80"]);
    assert!(cluster.said(Kind::VirtualService, "v").iter().any(|word| word.contains("the route is left out")));
    assert!(cluster.said(Kind::Servers, "edge")[1].contains("VirtualService shop/v"));
}

/// What backends are shown, by the Gateway's own word.
#[test]
fn backends_are_shown_the_gateways_certificate() {
    let policy = "kind: BackendTLSPolicy\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: p, namespace: shop}\nspec: \
                  {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.example.com, \
                  wellKnownCACertificates: System}}\n---\n";
    let shown = |reference: &str| {
        let tls = format!(
            "  - {{name: h, port: 80, protocol: HTTP}}\n  tls: {{backend: {{clientCertificateRef: {reference}}}}}"
        );
        gateway(&tls)
    };
    let mut cluster = Cluster::new(&format!("{SHOP}{}{policy}{}", shown("{name: client}"), http("r", "", "[]", "a")));
    let sent = |cluster: &Cluster| {
        let name = "shop/g/shop/a.shop.svc.cluster.local";
        let found: lateen_wire::proxy::Destination =
            cluster.message(type_url::DESTINATION, name).expect("a destination");
        let one = found.clusters[0].clone();
        (one.policy.and_then(|policy| policy.tls).map(|tls| tls.credential).unwrap_or_default(), one.unusable)
    };
    let said = |cluster: &Cluster| cluster.said_by(Reporter::Listeners, Kind::Gateway, "g").join("; ");
    let name = "shop/g/secret/shop/client";
    assert_eq!(sent(&cluster), (name.to_owned(), String::new()), "it is waited for");
    assert!(cluster.names(type_url::CREDENTIAL).is_empty());
    cluster.apply(&secret("client", "shop"));
    assert_eq!(cluster.names(type_url::CREDENTIAL), [name]);
    assert!(said(&cluster).starts_with("ResolvedRefs ResolvedRefs"));
    cluster.delete(&secret("client", "shop"));
    let (credential, unusable) = sent(&cluster);
    assert!(
        credential.is_empty() && unusable.contains("there is no Secret shop/client"),
        "never without it: {unusable}"
    );
    for (reference, reason) in [
        ("{name: client}", "InvalidClientCertificateRef"),
        ("{kind: ConfigMap, name: client}", "InvalidClientCertificateRef"),
        ("{group: x.org, kind: Secret, name: client}", "InvalidClientCertificateRef"),
        ("{name: client, namespace: web}", "RefNotPermitted"),
    ] {
        cluster.apply(&shown(reference));
        assert!(said(&cluster).starts_with(&format!("ResolvedRefs {reason}")), "{}", said(&cluster));
        assert!(!sent(&cluster).1.is_empty());
    }
    cluster.apply(&gateway("  - {name: h, port: 80, protocol: HTTP}"));
    assert!(said(&cluster).is_empty() && sent(&cluster) == (String::new(), String::new()));
}

#[test]
fn a_gateway_passes_the_waypoint_where_the_service_says_so() {
    let service = |labels: &str| {
        format!(
            "kind: Service\nmetadata: {{name: a, namespace: shop, labels: {{{labels}}}}}\nspec: {{clusterIP: 10.96.0.1, selector: \
             {{app: a}}, ports: [{{name: http, port: 80}}]}}\n---\n"
        )
    };
    let listener = gateway("  - {name: h, port: 80, protocol: HTTP}");
    let mut cluster =
        Cluster::new(&format!("{}{}{listener}{}", super::show::WAYPOINT, service(""), http("r", "", "[]", "a")));
    let resolution = |cluster: &Cluster| {
        let name = "shop/g/shop/a.shop.svc.cluster.local";
        let found: lateen_wire::proxy::Destination =
            cluster.message(type_url::DESTINATION, name).expect("a destination");
        found.clusters[0].resolution()
    };
    use lateen_wire::proxy::Resolution;
    assert_eq!(resolution(&cluster), Resolution::Endpoints);
    cluster.apply(&service("istio.io/ingress-use-waypoint: 'true'"));
    assert_eq!(resolution(&cluster), Resolution::OfWaypoint);
    let own: lateen_wire::proxy::Cluster = cluster.clusters("a")[0].clone();
    assert_eq!(own.resolution(), Resolution::Endpoints, "the waypoint itself chooses");
    cluster.apply(&service("istio.io/ingress-use-waypoint: 'true', istio.io/use-waypoint: none"));
    assert_eq!(resolution(&cluster), Resolution::Endpoints, "there is none to pass");
}

#[test]
fn selectors_may_be_confined_to_their_namespace() {
    let server = servers("edge", "  - {port: {number: 90, name: h, protocol: HTTP}, hosts: ['*']}");
    let elsewhere = server.replace("namespace: shop", "namespace: web");
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{elsewhere}"));
    let ports = |cluster: &Cluster| cluster.proxy("shop/g").listeners.len();
    assert_eq!(ports(&cluster), 2);
    let confined = Mesh { confines_servers: true, ..cluster.graph.mesh().clone() };
    let updates = Vec::new();
    let delta = cluster.graph.apply(&confined, updates);
    let object = Object { kind: Kind::Servers, key: Key::new("web", "edge") };
    let said = delta.conditions.iter().find(|told| told.object == object).expect("news");
    assert!(said.words[0].reason == "NoGateway" && said.words[0].message.contains("of its namespace"));
}
