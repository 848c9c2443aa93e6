//! Gateways: what they listen on, what they are given of Secrets, what authors of listeners and routes are told.

use lateen_wire::{
    proxy::{self as wire, listener::Kind as Open, terminate, tls_host},
    type_url,
};

use super::{
    super::*,
    show::{Cluster, show},
};
use crate::derive::word::Truth;

pub(super) const SHOP: &str = r"
kind: Namespace
metadata: {name: shop}
---
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: a}, ports: [{name: http, port: 80}]}
---
kind: Service
metadata: {name: b, namespace: shop}
spec: {clusterIP: 10.96.0.2, selector: {app: b}, ports: [{name: http, port: 80}]}
---
";

pub(super) fn gateway(listeners: &str) -> String {
    format!(
        "kind: Gateway\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {{name: g, namespace: shop}}\nspec:\n  \
         gatewayClassName: istio\n  listeners:\n{listeners}\n---\n"
    )
}

fn route(kind: &str, (name, parent): (&str, &str), hosts: &str, to: &str) -> String {
    format!(
        "kind: {kind}\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         parentRefs: [{{name: g{parent}}}]\n  hostnames: {hosts}\n  rules: [{{backendRefs: [{{name: {to}, port: 80}}]}}]\n---\n"
    )
}

pub(super) fn http(name: &str, parent: &str, hosts: &str, to: &str) -> String {
    route("HTTPRoute", (name, parent), hosts, to)
}

/// Each host of a gateway's port with its routes, TLS before what lies inside.
pub(super) fn open(cluster: &Cluster, port: u32) -> Vec<String> {
    let proxy = cluster.proxy("shop/g");
    assert_eq!(proxy.role(), wire::Role::Gateway);
    let listener = proxy.listeners.into_iter().find(|one| one.port == port).expect("a listener");
    match listener.kind.expect("something") {
        Open::Http(hosts) => hosts.hosts.iter().map(host).collect(),
        Open::Tcp(routes) => routes.routes.iter().map(tcp).collect(),
        Open::Tls(hosts) => hosts.hosts.iter().map(|host| format!("{} {}", host.host, tls(host))).collect(),
    }
}

fn host(host: &wire::VirtualHost) -> String {
    let routes: Vec<String> = host.routes.iter().map(show).collect();
    let redirect = if host.https_redirect { " to https" } else { "" };
    format!("{}{redirect}: {}", host.host, routes.join(" | "))
}

fn tcp(route: &wire::TcpRoute) -> String {
    let to = route.destinations.iter().filter_map(crate::derive::served::of_share);
    to.map(|to| format!("{}:{}", to.hostname.split('.').next().unwrap_or_default(), to.port)).collect()
}

fn tls(host: &wire::TlsHost) -> String {
    match host.then.as_ref().expect("something") {
        tls_host::Then::Passthrough(routes) => {
            format!("passed {}", routes.routes.iter().map(tcp).collect::<Vec<_>>().join(" | "))
        }
        tls_host::Then::Terminate(ended) => {
            let inside = match ended.then.as_ref().expect("something") {
                terminate::Then::Http(hosts) => hosts.hosts.iter().map(self::host).collect::<Vec<_>>().join("; "),
                terminate::Then::Tcp(routes) => routes.routes.iter().map(tcp).collect::<Vec<_>>().join(" | "),
            };
            let ca = if ended.client_ca.is_empty() { String::new() } else { format!(" by {}", ended.client_ca) };
            format!("[{}{ca} {:?}] {inside}", ended.credentials.join(","), ended.client_certificate())
        }
    }
}

/// `Accepted ResolvedRefs Programmed`, the kinds and the count of a listener.
pub(super) fn told(cluster: &Cluster, name: &str) -> String {
    let object = Object { kind: Kind::Gateway, key: Key::new("shop", "g") };
    let told = cluster.told.get(&(object, Reporter::Listeners)).expect("something was told");
    let one = told.listeners.iter().find(|one| one.name == name).expect("the listener");
    let word = |kind: &str| {
        let word = one.words.iter().find(|word| word.kind == kind).expect("the condition");
        let sign = if word.truth == Truth::True { "" } else { "not " };
        format!("{sign}{}", word.reason)
    };
    let kinds: Vec<&str> = one.kinds.iter().map(|kind| kind.as_str()).collect();
    let words = ["Accepted", "ResolvedRefs", "Programmed"].map(word).join(", ");
    format!("{words}; {}; {}", kinds.join("+"), one.attached)
}

pub(super) fn secret(name: &str, namespace: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).expect("a certificate");
    let indented = |text: String| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "kind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData:\n  \
         tls.crt: |\n{}  tls.key: |\n{}",
        indented(made.cert.pem()),
        indented(made.signing_key.serialize_pem())
    )
}

#[test]
fn a_host_belongs_to_the_most_specific_listener() {
    let listeners = r"
  - {name: all, port: 80, protocol: HTTP}
  - {name: wild, port: 80, protocol: HTTP, hostname: '*.example.com'}
  - {name: one, port: 80, protocol: HTTP, hostname: a.example.com}
  - {name: other, port: 8080, protocol: HTTP}";
    let routes = [
        http("everywhere", "", "[]", "a"),
        http("named", ", sectionName: all", "[a.example.com, b.example.com, c.org]", "b"),
        http("wild", ", sectionName: wild", "['*.example.com', '*.sub.example.com', x.org]", "b"),
        http("port", ", port: 8080", "[z.org]", "b"),
    ];
    let cluster = Cluster::new(&format!("{SHOP}{}{}", gateway(listeners), routes.concat()));
    let a = |name: &str| format!("shop.{name}.0: any => 1*a.shop:80");
    let b = |name: &str| format!("shop.{name}.0: any => 1*b.shop:80");
    let expected = [
        format!("*: {}", a("everywhere")),
        format!("c.org: {}", b("named")),
        format!("*.example.com: {} | {}", a("everywhere"), b("wild")),
        format!("*.sub.example.com: {}", b("wild")),
        format!("a.example.com: {}", a("everywhere")),
    ];
    assert_eq!(open(&cluster, 80), expected);
    assert_eq!(open(&cluster, 8080), [format!("*: {}", a("everywhere")), format!("z.org: {}", b("port"))]);
    assert_eq!(told(&cluster, "all"), "Accepted, ResolvedRefs, Programmed; HTTPRoute+GRPCRoute; 2");
    assert_eq!(told(&cluster, "other"), "Accepted, ResolvedRefs, Programmed; HTTPRoute+GRPCRoute; 2");
    let names = ["shop/g/shop/a.shop.svc.cluster.local", "shop/g/shop/b.shop.svc.cluster.local"];
    assert_eq!(cluster.names(type_url::DESTINATION), names);
}

#[test]
fn a_route_is_told_why_no_listener_takes_it() {
    let listeners = r"
  - {name: h, port: 80, protocol: HTTP, hostname: a.example.com}
  - {name: t, port: 90, protocol: TCP}";
    let objects = [
        http("good", "", "[]", "a"),
        http("section", ", sectionName: x", "[]", "a"),
        http("port", ", sectionName: h, port: 81", "[]", "a"),
        http("kind", ", sectionName: t", "[]", "a"),
        http("host", "", "[b.example.com]", "a"),
        http("away", "", "[]", "a")
            .replace("namespace: shop", "namespace: web")
            .replace("name: g", "name: g, namespace: shop"),
        http("gone", "", "[]", "nowhere"),
    ];
    let mut cluster = Cluster::new(&format!("{SHOP}{}{}", gateway(listeners), objects.concat()));
    let reason = |cluster: &Cluster, space: &str, name: &str| {
        let said = cluster.parent_in(space, RouteKind::Http, name);
        said.iter()
            .map(|word| word.split([' ', ':']).nth(1).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(reason(&cluster, "shop", "good"), "Accepted ResolvedRefs");
    assert_eq!(reason(&cluster, "shop", "section"), "NoMatchingParent ResolvedRefs");
    assert_eq!(reason(&cluster, "shop", "port"), "NoMatchingParent ResolvedRefs");
    assert_eq!(reason(&cluster, "shop", "kind"), "NotAllowedByListeners ResolvedRefs");
    assert_eq!(reason(&cluster, "shop", "host"), "NoMatchingListenerHostname ResolvedRefs");
    assert_eq!(reason(&cluster, "web", "away"), "NotAllowedByListeners BackendNotFound");
    assert_eq!(reason(&cluster, "shop", "gone"), "Accepted BackendNotFound");
    assert_eq!(told(&cluster, "h"), "Accepted, ResolvedRefs, Programmed; HTTPRoute+GRPCRoute; 2");

    // A namespace's label lets its routes in, and another keeps them out again.
    let selecting = listeners.replace(
        "hostname: a.example.com}",
        "hostname: a.example.com, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {edge: 'yes'}}}}}",
    );
    cluster.apply(&gateway(&selecting));
    assert_eq!(reason(&cluster, "shop", "good"), "NotAllowedByListeners ResolvedRefs");
    let labelled = "kind: Namespace\nmetadata: {name: web, labels: {edge: 'yes'}}\n";
    cluster.apply(labelled);
    assert_eq!(reason(&cluster, "web", "away"), "Accepted BackendNotFound");
    cluster.apply(&labelled.replace("'yes'", "'no'"));
    assert_eq!(reason(&cluster, "web", "away"), "NotAllowedByListeners BackendNotFound");
}

#[test]
fn listeners_that_cannot_be_told_apart_are_none() {
    let listeners = r"
  - {name: a, port: 80, protocol: HTTP, hostname: x.org}
  - {name: b, port: 80, protocol: HTTP, hostname: X.org}
  - {name: c, port: 80, protocol: HTTP}
  - {name: d, port: 90, protocol: TCP}
  - {name: e, port: 90, protocol: HTTP}
  - {name: f, port: 91, protocol: UDP}
  - {name: g, port: 15021, protocol: HTTP}
  - {name: k, port: 92, protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: TCPRoute}]}}";
    let cluster = Cluster::new(&format!("{SHOP}{}", gateway(listeners)));
    let of = |name: &str| told(&cluster, name);
    assert_eq!(of("a"), "not HostnameConflict, ResolvedRefs, not Invalid; HTTPRoute+GRPCRoute; 0");
    assert_eq!(of("b"), of("a"));
    assert!(of("c").starts_with("Accepted, ") && of("d").starts_with("not ProtocolConflict"));
    assert!(of("e").starts_with("not ProtocolConflict") && of("g").starts_with("not PortUnavailable"));
    assert_eq!(of("f"), "not UnsupportedProtocol, ResolvedRefs, not Invalid; ; 0");
    assert_eq!(of("k"), "Accepted, not InvalidRouteKinds, Programmed; HTTPRoute; 0");
    let ports: Vec<u32> = cluster.proxy("shop/g").listeners.iter().map(|one| one.port).collect();
    assert_eq!(ports, [80, 92]);
    assert_eq!(open(&cluster, 80), ["*: ", "x.org: "], "nobody else answers for what is theirs");
}

const HTTPS: &str = r"
  - name: s
    port: 443
    protocol: HTTPS
    hostname: a.example.com
    tls: {certificateRefs: [{name: web-cert}]}";

#[test]
fn a_certificate_reaches_the_one_gateway_that_names_it() {
    let route = http("r", "", "[]", "a");
    let mut cluster = Cluster::new(&format!("{SHOP}{}{route}", gateway(HTTPS)));
    assert_eq!(told(&cluster, "s"), "Accepted, not Pending, not Pending; HTTPRoute+GRPCRoute; 1");
    let web = Source::Secret(Key::new("shop", "web-cert"));
    assert_eq!(cluster.asked, BTreeSet::from([web]));
    // Nobody asked for the other one, so it is not even kept.
    cluster.apply(&secret("other", "shop"));
    assert_eq!(cluster.graph.world.credentials.len(), 0);
    cluster.apply(&secret("web-cert", "shop"));
    let name = "shop/g/secret/shop/web-cert";
    assert_eq!(cluster.names(type_url::CREDENTIAL), [name]);
    assert_eq!(
        open(&cluster, 443),
        [format!("a.example.com [{name} Ignored] a.example.com: shop.r.0: any => 1*a.shop:80")]
    );
    assert_eq!(told(&cluster, "s"), "Accepted, ResolvedRefs, Programmed; HTTPRoute+GRPCRoute; 1");
    let sent: wire::Credential = cluster.message(type_url::CREDENTIAL, name).expect("a credential");
    assert!(sent.pairs[0].key_pem.contains("PRIVATE KEY"));
    assert_eq!(cluster.group_of(type_url::CREDENTIAL, name), "gateway/shop/g");
    let before = sent;
    cluster.apply(&secret("web-cert", "shop"));
    assert_ne!(cluster.message::<wire::Credential>(type_url::CREDENTIAL, name), Some(before), "a new one");

    // What cannot be used takes nothing away, and is told; what is removed is gone, and comes back only whole.
    let broken =
        "kind: Secret\nmetadata: {name: web-cert, namespace: shop}\nstringData: {tls.crt: 'x', tls.key: 'z'}\n";
    let in_use = cluster.message::<wire::Credential>(type_url::CREDENTIAL, name);
    cluster.apply(broken);
    assert_eq!(told(&cluster, "s"), "Accepted, not InvalidCertificateRef, Programmed; HTTPRoute+GRPCRoute; 1");
    assert_eq!(cluster.message::<wire::Credential>(type_url::CREDENTIAL, name), in_use);
    cluster.delete(broken);
    assert!(told(&cluster, "s").contains("not InvalidCertificateRef"));
    cluster.apply(broken);
    assert_eq!(told(&cluster, "s"), "Accepted, not InvalidCertificateRef, not Invalid; HTTPRoute+GRPCRoute; 1");
    assert!(cluster.names(type_url::CREDENTIAL).is_empty() && cluster.proxy("shop/g").listeners.is_empty());
    cluster.delete(&gateway(HTTPS));
    assert!(cluster.asked.is_empty(), "what nobody names is followed no more");
}

#[test]
fn a_certificate_of_another_namespace_needs_a_grant() {
    let away = HTTPS.replace("{name: web-cert}", "{name: web-cert, namespace: web}");
    let mut cluster = Cluster::new(&format!("{SHOP}{}", gateway(&away)));
    assert!(told(&cluster, "s").starts_with("Accepted, not RefNotPermitted, not Invalid"));
    assert!(cluster.asked.is_empty(), "what may not be named is not read");
    let grant = r"
kind: ReferenceGrant
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: g, namespace: web}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: '', kind: Secret, name: web-cert}]
";
    cluster.apply(&grant.replace("name: web-cert", "name: another"));
    assert!(told(&cluster, "s").contains("RefNotPermitted"));
    cluster.apply(grant);
    cluster.apply(&secret("web-cert", "web"));
    assert!(told(&cluster, "s").starts_with("Accepted, ResolvedRefs, Programmed"));
    assert_eq!(cluster.names(type_url::CREDENTIAL), ["shop/g/secret/web/web-cert"]);
    cluster.delete(grant);
    assert!(told(&cluster, "s").contains("RefNotPermitted") && cluster.names(type_url::CREDENTIAL).is_empty());
}

/// A Secret's certificate as authority, in a ConfigMap or Secret.
fn authority(kind: &str, name: &str, namespace: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["ca.example.com".to_owned()]).expect("a certificate");
    let text = made.cert.pem().lines().map(|line| format!("    {line}\n")).collect::<String>();
    let part = if kind == "Secret" { "stringData" } else { "data" };
    format!("kind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n{part}:\n  ca.crt: |\n{text}")
}

#[test]
fn connections_are_opened_passed_on_and_carried() {
    let listeners = r"
  - {name: pass, port: 443, protocol: TLS, hostname: '*.example.com', tls: {mode: Passthrough}}
  - {name: end, port: 443, protocol: TLS, hostname: a.example.com, tls: {certificateRefs: [{name: web-cert}]}}
  - {name: tcp, port: 9000, protocol: TCP}";
    let tcp = |name: &str, parent: &str, to: &str| route("TCPRoute", (name, parent), "[]", to);
    let routes = [
        route("TLSRoute", ("passed", ", sectionName: pass"), "[a.example.com, b.example.com]", "a"),
        route("TLSRoute", ("ended", ", sectionName: end"), "['*.example.com']", "b"),
        tcp("first", ", port: 9000", "a"),
        tcp("second", ", sectionName: tcp", "b"),
        tcp("wrong", ", sectionName: pass", "b"),
    ];
    let mut cluster = Cluster::new(&format!("{SHOP}{}{}", gateway(listeners), routes.concat()));
    cluster.apply(&secret("web-cert", "shop"));
    let name = "shop/g/secret/shop/web-cert";
    assert_eq!(open(&cluster, 443), ["b.example.com passed a:80", &format!("a.example.com [{name} Ignored] b:80")]);
    assert_eq!(open(&cluster, 9000), ["a:80", "b:80"]);
    assert_eq!(told(&cluster, "pass"), "Accepted, ResolvedRefs, Programmed; TLSRoute; 1");
    assert_eq!(told(&cluster, "end"), "Accepted, ResolvedRefs, Programmed; TLSRoute+TCPRoute; 1");
    assert_eq!(told(&cluster, "tcp"), "Accepted, ResolvedRefs, Programmed; TCPRoute; 2");
    let said = cluster.parent(RouteKind::Tcp, "wrong");
    assert!(said[0].starts_with("Accepted NotAllowedByListeners"), "{said:?}");
}

#[test]
fn clients_are_verified_as_the_gateway_says() {
    let listeners = r"
  - {name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: web-cert}]}}
  - {name: t, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: web-cert}]}}
  - {name: u, port: 9443, protocol: HTTPS, tls: {certificateRefs: [{name: web-cert}]}}
  - name: v
    port: 443
    protocol: HTTPS
    hostname: v.example.com
    tls: {certificateRefs: [{name: web-cert}], options: {gateway.istio.io/tls-terminate-mode: OPTIONAL_MUTUAL}}
  - {name: h, port: 80, protocol: HTTP}
  tls:
    frontend:
      default: {validation: {caCertificateRefs: [{kind: ConfigMap, group: '', name: anchors}]}}
      perPort:
      - port: 8443
        tls: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{kind: ConfigMap, group: '', name: anchors}]}}
      - port: 9443
        tls: {validation: {caCertificateRefs: [{kind: Service, group: '', name: a}]}}";
    let mut cluster = Cluster::new(&format!("{SHOP}{}", gateway(listeners)));
    cluster.apply(&secret("web-cert", "shop"));
    let missing = "kind: ConfigMap\nmetadata: {name: anchors, namespace: shop}\n";
    cluster.delete(missing);
    let closed = "not NoValidCACertificate, not InvalidCACertificateRef, not Invalid; HTTPRoute+GRPCRoute; 0";
    assert_eq!((told(&cluster, "s").as_str(), told(&cluster, "t").as_str()), (closed, closed));
    assert!(told(&cluster, "u").starts_with("not NoValidCACertificate, not InvalidCACertificateKind, not Invalid"));
    assert!(told(&cluster, "h").starts_with("Accepted, ResolvedRefs, Programmed"), "HTTP is not concerned");
    assert!(told(&cluster, "v").starts_with("not UnsupportedValue"), "two say how clients are verified");
    assert_eq!(cluster.proxy("shop/g").listeners.len(), 1);
    cluster.apply(&authority("ConfigMap", "anchors", "shop"));
    let (own, ca) = ("shop/g/secret/shop/web-cert", "shop/g/authorities/configmap/shop/anchors");
    let closed = "v.example.com passed ".to_owned();
    assert_eq!(open(&cluster, 443), [format!("* [{own} by {ca} Required] *: "), closed], "nobody answers for v");
    assert_eq!(open(&cluster, 8443), [format!("* [{own} by {ca} OptionalUnverified] *: ")]);
    assert_eq!(cluster.names(type_url::CREDENTIAL), [ca, own]);
    let sent: wire::Credential = cluster.message(type_url::CREDENTIAL, ca).expect("a credential");
    assert!(sent.pairs.is_empty() && sent.ca_pem.contains("CERTIFICATE"));
    let object = Object { kind: Kind::Gateway, key: Key::new("shop", "g") };
    let words = &cluster.told[&(object, Reporter::Listeners)].words;
    assert_eq!((words[0].kind, words[0].truth), ("InsecureFrontendValidationMode", Truth::True));
}

/// A gateway whose pods an older kind of Gateway selects.
pub(super) const EDGE: &str = r"
kind: Gateway
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: g, namespace: shop}
spec: {gatewayClassName: istio, listeners: [{name: own, port: 8080, protocol: HTTP}]}
---
kind: Pod
metadata: {name: g-1, namespace: shop, uid: u, labels: {istio: edge, gateway.networking.k8s.io/gateway-name: g}}
spec: {nodeName: node-1, containers: []}
---
";

pub(super) fn servers(name: &str, servers: &str) -> String {
    format!(
        "kind: Gateway\napiVersion: networking.istio.io/v1\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         selector: {{istio: edge}}\n  servers:\n{servers}\n---\n"
    )
}

pub(super) fn bound(name: &str, spec: &str) -> String {
    format!("kind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n{spec}\n---\n")
}

#[test]
fn an_older_gateway_opens_what_its_virtual_services_are_for() {
    let all = servers(
        "edge",
        r"
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com', './only.org'], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: MUTUAL, credentialName: web-cert}}
  - {port: {number: 9443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}
  - {port: {number: 9001, name: file, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, serverCertificate: /a, privateKey: /b}}",
    );
    let services = [
        bound(
            "late",
            "  hosts: [a.example.com]\n  gateways: [edge]\n  http:\n  - {match: [{uri: {prefix: /x}}], route: [{destination: {host: b}}]}\n  - route: [{destination: {host: b}}]",
        ),
        bound(
            "wide",
            "  hosts: ['*']\n  gateways: [shop/edge]\n  http: [{match: [{uri: {exact: /w}}], route: [{destination: {host: a}}]}]\n  tcp: [{match: [{port: 9000}], route: [{destination: {host: a}}]}]\n  tls: [{match: [{port: 9443, sniHosts: [s.org]}], route: [{destination: {host: b}}]}]",
        ),
        bound("mesh", "  hosts: [a]\n  http: [{route: [{destination: {host: b}}]}]"),
    ];
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{all}{}", services.concat()));
    cluster.apply(&secret("web-cert", "shop"));
    cluster.apply(&authority("Secret", "web-cert-cacert", "shop"));
    let expected = [
        "*.example.com to https: =/w => 1*a.shop:80",
        "a.example.com to https: /x* => 1*b.shop:80 | any => 1*b.shop:80",
        "only.org to https: =/w => 1*a.shop:80",
    ];
    assert_eq!(open(&cluster, 80), expected);
    let (own, ca) = ("shop/g/secret/shop/web-cert", "shop/g/authorities/secret/shop/web-cert-cacert");
    let routes = "/x* => 1*b.shop:80 | =/w => 1*a.shop:80 | any => 1*b.shop:80";
    assert_eq!(open(&cluster, 443), [format!("a.example.com [{own} by {ca} Required] a.example.com: {routes}")]);
    assert_eq!(open(&cluster, 9443), ["s.org passed b:80"]);
    assert_eq!(open(&cluster, 9000), ["a:80"]);
    assert_eq!(open(&cluster, 8080), ["*: "]);
    assert!(cluster.proxy("shop/g").listeners.iter().all(|one| one.port != 9001), "files are nobody's");
    let said = cluster.said(Kind::Servers, "edge");
    assert_eq!(said[0], "lateen.io/Accepted Accepted: the gateways shop/g listen by it");
    assert!(said[1].starts_with("lateen.io/ResolvedRefs InvalidServer: spec.servers[4]: tls names files"), "{said:?}");
    assert!(said[2].starts_with("lateen.io/UnsupportedFields"), "{said:?}");
    let said = cluster.said(Kind::VirtualService, "late");
    assert_eq!(said[0], "lateen.io/Accepted Accepted: the gateways shop/g listen by it");
    cluster.delete("kind: Pod\nmetadata: {name: g-1, namespace: shop}\nspec: {containers: []}\n");
    assert_eq!(cluster.proxy("shop/g").listeners.len(), 1);
    assert!(cluster.said(Kind::Servers, "edge")[0].contains("NoGateway"));
    assert!(cluster.said(Kind::VirtualService, "late")[0].contains("NoGateway"));
}

#[test]
fn a_server_is_not_opened_with_less_than_was_asked_for() {
    let refused = |server: &str, words: &str| {
        let all = servers("edge", &format!("  - {server}"));
        let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{all}"));
        cluster.apply(&secret("web-cert", "shop"));
        cluster.apply(&authority("Secret", "web-cert-cacert", "shop"));
        let said = cluster.said(Kind::Servers, "edge");
        assert!(said[1].contains(words), "{server}: {said:?}");
        assert_eq!(cluster.proxy("shop/g").listeners.len(), 1, "{server}: only the Gateway's own is open");
    };
    let plain = "tls: {mode: MUTUAL, credentialName: web-cert}}";
    for (protocol, words) in [("HTTP", "HTTP is spoken without TLS; remove tls"), ("TCP", "TCP is spoken without TLS")]
    {
        refused(&format!("{{port: {{number: 81, name: a, protocol: {protocol}}}, hosts: ['*'], {plain}"), words);
    }
    let https = |tls: &str| {
        format!(
            "{{port: {{number: 443, name: a, protocol: HTTPS}}, hosts: ['*'], tls: {{credentialName: web-cert, {tls}}}}}"
        )
    };
    refused(
        &https("mode: SIMPLE, subjectAltNames: [a]"),
        "tls.subjectAltNames: mode SIMPLE asks clients for no certificate",
    );
    refused(&https("mode: SIMPLE, maxProtocolVersion: TLSV1_1"), "tls.maxProtocolVersion: TLSV1_1 is not spoken here");
    refused(&https("mode: ISTIO_MUTUAL, maxProtocolVersion: TLSV1_2"), "tls.maxProtocolVersion: the mesh's own");
    let all = servers(
        "edge",
        &format!("  - {}", https("mode: SIMPLE, cipherSuites: [ECDHE-RSA-AES128-SHA, ECDHE-RSA-AES128-GCM-SHA256]")),
    );
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{all}"));
    cluster.apply(&secret("web-cert", "shop"));
    assert_eq!(cluster.proxy("shop/g").listeners.len(), 2, "what is spoken is");
    assert!(
        cluster.said(Kind::Servers, "edge")[1].contains("tls.cipherSuites: ECDHE-RSA-AES128-SHA are not spoken here")
    );
}

#[test]
fn several_older_gateways_meet_at_one_host() {
    let server = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}";
    let tcp = "  - {port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}";
    let service = |name: &str, at: &str, http: &str| {
        bound(name, &format!("  hosts: [a.example.com]\n  gateways: [{at}]\n  http: [{http}]"))
    };
    let objects = [
        servers("first", server),
        servers("second", server),
        servers("third", tcp),
        service("all", "first", "{route: [{destination: {host: a}}]}"),
        service("part", "second", "{match: [{uri: {prefix: /y}}], route: [{destination: {host: b}}]}"),
    ];
    let cluster = Cluster::new(&format!("{SHOP}{EDGE}{}", objects.concat()));
    // What takes everything comes last; another protocol at the port does not.
    assert_eq!(open(&cluster, 80), ["a.example.com: /y* => 1*b.shop:80 | any => 1*a.shop:80"]);
    assert_eq!(cluster.proxy("shop/g").listeners.len(), 2);
    let said = cluster.said(Kind::Servers, "third");
    assert!(said[1].contains("spec.servers[0]: port 80 is taken by an older server"), "{said:?}");
    assert!(cluster.said(Kind::Servers, "second")[1].starts_with("lateen.io/ResolvedRefs ResolvedRefs"));
}

#[test]
fn policies_hold_at_gateways_by_target_and_by_selector() {
    let policies = r"
kind: AuthorizationPolicy
metadata: {name: selecting, namespace: shop}
spec: {selector: {matchLabels: {istio: edge}}, rules: [{to: [{operation: {methods: [GET]}}]}]}
---
kind: AuthorizationPolicy
metadata: {name: whole, namespace: istio-system}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}
---
kind: AuthorizationPolicy
metadata: {name: other, namespace: shop}
spec: {selector: {matchLabels: {istio: inner}}}
---
kind: AuthorizationPolicy
metadata: {name: named, namespace: shop}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]}
";
    let mut cluster = Cluster::new(&format!("{SHOP}{EDGE}{policies}"));
    let names = ["shop/g/istio-system/whole", "shop/g/shop/named", "shop/g/shop/selecting"];
    assert_eq!(cluster.names(type_url::POLICY), names);
    assert_eq!(cluster.proxy("shop/g").policies, names);
    cluster.apply(
        "kind: AuthorizationPolicy\nmetadata: {name: selecting, namespace: shop}\nspec: {selector: {matchLabels: {istio: x}}}\n",
    );
    assert_eq!(cluster.proxy("shop/g").policies, names[..2]);
}

#[test]
fn backends_are_sent_to_by_tls_where_a_policy_says_so() {
    let policy = |name: &str, section: &str, spec: &str| {
        format!(
            "kind: BackendTLSPolicy\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  targetRefs: [{{group: '', kind: Service, name: a{section}}}]\n  validation: {spec}\n---\n"
        )
    };
    let anchors = "{hostname: a.example.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: anchors}]}";
    let listeners = "  - {name: h, port: 80, protocol: HTTP}";
    let objects =
        [gateway(listeners), http("r", "", "[]", "a"), policy("first", "", anchors), policy("second", "", anchors)];
    let mut cluster = Cluster::new(&format!("{SHOP}{}", objects.concat()));
    let cluster_of = |cluster: &Cluster| -> wire::Cluster {
        let name = "shop/g/shop/a.shop.svc.cluster.local";
        let found: wire::Destination = cluster.message(type_url::DESTINATION, name).expect("a destination");
        found.clusters[0].clone()
    };
    let said = |cluster: &Cluster, name: &str| -> Vec<&'static str> {
        let object = Object { kind: Kind::BackendTlsPolicy, key: Key::new("shop", name) };
        let told = &cluster.told[&(object, Reporter::Ancestors)];
        assert_eq!((told.parents[0].reference.name.as_str(), told.parents.len()), ("g", 1));
        told.parents[0].words.iter().map(|word| word.reason).collect()
    };
    cluster.delete("kind: ConfigMap\nmetadata: {name: anchors, namespace: shop}\n");
    assert!(cluster_of(&cluster).unusable.contains("there is no ConfigMap shop/anchors"), "never in plain");
    assert_eq!(said(&cluster, "first"), ["NoValidCACertificate", "InvalidCACertificateRef"]);
    cluster.apply(&authority("ConfigMap", "anchors", "shop"));
    let tls = cluster_of(&cluster).policy.expect("a policy").tls.expect("TLS");
    let ca = "shop/g/authorities/configmap/shop/anchors";
    assert_eq!((tls.server_name.as_str(), tls.ca.as_str(), tls.credential.as_str()), ("a.example.com", ca, ""));
    assert_eq!(cluster.names(type_url::CREDENTIAL), [ca]);
    assert_eq!(said(&cluster, "first"), ["Accepted", "ResolvedRefs"]);
    assert_eq!(said(&cluster, "second"), ["Conflicted", "ResolvedRefs"]);
    let system =
        "{hostname: b.example.com, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: 'spiffe://x'}]}";
    cluster.apply(&policy("port", ", sectionName: http", system));
    let tls = cluster_of(&cluster).policy.expect("a policy").tls.expect("TLS");
    assert_eq!((tls.server_name.as_str(), tls.ca.as_str()), ("b.example.com", ""));
    assert_eq!(tls.subject_alt_names, ["spiffe://x"]);
    assert_eq!(said(&cluster, "port"), ["Accepted", "ResolvedRefs"]);
    assert!(cluster.names(type_url::CREDENTIAL).is_empty());
}

#[test]
fn a_destination_rule_names_a_secret_of_the_proxys_namespace() {
    let rule = |mode: &str| {
        format!(
            "kind: DestinationRule\nmetadata: {{name: a, namespace: shop}}\nspec: {{host: a, trafficPolicy: {{tls: {{mode: \
             {mode}, credentialName: client, sni: s.example.com}}}}}}\n"
        )
    };
    let listeners = "  - {name: h, port: 80, protocol: HTTP}";
    let mut cluster =
        Cluster::new(&format!("{SHOP}{}{}{}", gateway(listeners), http("r", "", "[]", "a"), rule("MUTUAL")));
    cluster.apply(&secret("client", "shop"));
    cluster.apply(&authority("Secret", "client-cacert", "shop"));
    let names = ["shop/g/authorities/secret/shop/client-cacert", "shop/g/secret/shop/client"];
    assert_eq!(cluster.names(type_url::CREDENTIAL), names);
    let name = "shop/g/shop/a.shop.svc.cluster.local";
    let found: wire::Destination = cluster.message(type_url::DESTINATION, name).expect("a destination");
    let tls = found.clusters[0].policy.clone().expect("a policy").tls.expect("TLS");
    assert_eq!(
        (tls.ca.as_str(), tls.credential.as_str(), tls.server_name.as_str()),
        (names[0], names[1], "s.example.com")
    );
    cluster.apply(&rule("SIMPLE"));
    assert_eq!(cluster.names(type_url::CREDENTIAL), names[..1]);
    let ours = secret("client", "shop");
    let ca = authority("Secret", "client", "shop").split_once("stringData:\n").expect("texts").1.to_owned();
    cluster.apply(&format!("{ours}{ca}"));
    assert_eq!(cluster.names(type_url::CREDENTIAL), ["shop/g/authorities/secret/shop/client"]);
}
