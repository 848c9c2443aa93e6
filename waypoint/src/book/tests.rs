use std::sync::Arc;

use lateen_types::name::NamespacedHostname;
use lateen_wire::proxy as wire;

use super::{
    Action, Book, BookStore, Change, Forward, Kind, Refusal, ServiceBook, Target, Upstream, Weighted, compile,
};

/// The service all tests are about.
pub(crate) const HOST: &str = "web.shop.svc.cluster.local";
const NAME: &str = "shop/waypoint/shop/web.shop.svc.cluster.local";

/// A change made of a message.
pub(crate) fn change(kind: Kind, message: &impl prost::Message) -> Change {
    compile::resource(kind, &NAME.into(), &message.encode_to_vec()).expect("a good resource")
}

/// The error a message makes.
fn error(kind: Kind, message: &impl prost::Message) -> String {
    compile::resource(kind, &NAME.into(), &message.encode_to_vec()).expect_err("a bad resource").to_string()
}

pub(crate) fn wire_service(http: Vec<wire::HttpRoute>) -> wire::Service {
    let port = wire::Port { port: 80, protocol: wire::Protocol::Http.into(), http, ..wire::Port::default() };
    wire::Service { namespace: "shop".into(), hostname: HOST.into(), ports: vec![port], ..wire::Service::default() }
}

/// A service whose port 80 has these routes.
pub(crate) fn service(http: Vec<wire::HttpRoute>) -> Arc<ServiceBook> {
    match change(Kind::Service, &wire_service(http)) {
        Change::Service(service) => service,
        other => panic!("{other:?} is no service"),
    }
}

pub(crate) fn wire_upstream(subset: &str) -> wire::Upstream {
    wire::Upstream { namespace: "shop".into(), hostname: HOST.into(), port: 80, subset: subset.into() }
}

pub(crate) fn upstream(subset: &str) -> Upstream {
    Upstream { service: key(), port: 80, subset: subset.into() }
}

fn key() -> NamespacedHostname {
    format!("shop/{HOST}").parse().expect("a key")
}

/// A destination, by its subset.
pub(crate) fn to(subset: &str, weight: u32) -> wire::Weighted {
    let to = wire::weighted::To::Upstream(wire_upstream(subset));
    wire::Weighted { weight, to: Some(to), ..wire::Weighted::default() }
}

pub(crate) fn wire_forward(destinations: Vec<wire::Weighted>) -> wire::HttpRoute {
    let forward = wire::Forward { destinations, ..wire::Forward::default() };
    wire::HttpRoute { action: Some(wire::http_route::Action::Forward(forward)), ..wire::HttpRoute::default() }
}

/// What the only route of a service forwards to.
pub(crate) fn only_forward(service: &ServiceBook) -> &Forward {
    let route = service.port(80).expect("port 80").http.routes().next().expect("a route");
    match &route.action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?} does not forward"),
    }
}

fn wire_proxy(services: &[&str]) -> wire::Proxy {
    wire::Proxy {
        namespace: "shop".into(),
        name: "waypoint".into(),
        role: wire::Role::Waypoint.into(),
        services: services.iter().map(|&name| name.into()).collect(),
        serves_services: true,
        ..wire::Proxy::default()
    }
}

fn destination(subsets: &[&str], unusable: &str) -> wire::Destination {
    let cluster = |subset: &&str| wire::Cluster {
        port: 80,
        subset: (*subset).into(),
        unusable: unusable.into(),
        ..wire::Cluster::default()
    };
    let clusters = subsets.iter().map(cluster).collect();
    wire::Destination { namespace: "shop".into(), hostname: HOST.into(), clusters }
}

fn removed(kind: Kind) -> Change {
    Change::Removed { kind, name: NAME.into() }
}

fn subset_of(chosen: Option<&Weighted>) -> &str {
    match chosen.map(|one| &one.to) {
        Some(Target::Upstream(upstream)) => &upstream.subset,
        other => panic!("{other:?} is no upstream"),
    }
}

#[test]
fn what_the_proxy_does_not_list_is_not_served() {
    let store = BookStore::default();
    store.apply([change(Kind::Service, &wire_service(vec![]))]);
    assert!(store.load().service(&key()).is_none(), "no proxy yet");
    store.apply([change(Kind::Proxy, &wire_proxy(&["shop/waypoint/shop/other.example.com"]))]);
    assert!(store.load().service(&key()).is_none(), "not listed");
    store.apply([change(Kind::Proxy, &wire_proxy(&[NAME]))]);
    assert!(store.load().service(&key()).is_some());
    store.apply([removed(Kind::Service)]);
    assert!(store.load().service(&key()).is_none(), "listed, but gone");
}

/// The proxies of its clients hear that on their own.
#[test]
fn a_service_that_is_served_elsewhere_is_served_here_for_a_while() {
    let store = BookStore::default();
    let heard = store.parted();
    let bind = || {
        let destination = change(Kind::Destination, &destination(&[""], ""));
        store.apply([
            destination,
            change(Kind::Service, &wire_service(vec![])),
            change(Kind::Proxy, &wire_proxy(&[NAME])),
        ]);
    };
    let unbind = || {
        store.apply([change(Kind::Proxy, &wire_proxy(&[]))]);
        store.apply([removed(Kind::Service)]);
        store.apply([removed(Kind::Destination)]);
    };
    // Served at all, ours, parting, taking new connections, sending.
    let state = || {
        let book = store.load();
        let named = book.named(&key().hostname).count() == 1;
        assert_eq!(named, book.takes(&key()));
        [
            book.service(&key()).is_some(),
            book.is_ours(&key()),
            book.is_parting(&key()),
            named,
            book.usable(&upstream("")).is_ok(),
        ]
    };
    let look = |times: u32| (0..times).for_each(|_| store.look());
    bind();
    assert_eq!(state(), [true, true, false, true, true]);
    assert!(!heard.has_changed().expect("the store is there"));
    unbind();
    assert!(heard.has_changed().expect("the store is there"));
    assert_eq!(state(), [true, false, true, true, true]);
    look(super::names::PARTING_LOOKS - 1);
    assert_eq!(state(), [true, false, true, false, true], "who is here is served, and nobody else");
    bind();
    assert_eq!(state(), [true, true, false, true, true], "back again");
    unbind();
    look(super::names::PARTING_LOOKS);
    assert!(!state()[0], "forgotten");
    look(super::names::LEAVING_LOOKS);
    assert_eq!(state(), [false; 5]);
}

#[test]
fn a_batch_is_seen_at_once_and_a_book_in_use_does_not_change() {
    let store = BookStore::default();
    let (before, mut heard) = (store.load(), store.subscribe());
    store.apply([change(Kind::Proxy, &wire_proxy(&[NAME])), change(Kind::Service, &wire_service(vec![]))]);
    assert!(before.proxy().is_none() && store.load().service(&key()).is_some());
    assert!(heard.has_changed().expect("the store is there"));
    let held = store.load();
    let service = Arc::as_ptr(held.service(&key()).expect("served"));
    heard.mark_unchanged();
    store.apply([change(Kind::Destination, &destination(&[""], ""))]);
    assert_eq!(Arc::as_ptr(store.load().service(&key()).expect("served")), service, "what did not change is shared");
    assert!(held.cluster(&upstream("")).is_none() && store.load().cluster(&upstream("")).is_some());
}

#[test]
fn a_missing_or_unusable_destination_is_refused_with_its_reason() {
    let store = BookStore::default();
    let refusal = || store.load().usable(&upstream("v1")).err();
    assert_eq!(refusal(), Some(Refusal::DestinationMissing(upstream("v1"))));
    store.apply([change(Kind::Destination, &destination(&["", "v1"], "its CA is missing"))]);
    let reason = refusal().expect("refused").to_string();
    assert!(reason.contains("outbound|80|v1|web.shop") && reason.ends_with("its CA is missing"), "{reason}");
    store.apply([change(Kind::Destination, &destination(&["", "v1"], ""))]);
    assert_eq!(refusal(), None);
    store.apply([change(Kind::Destination, &destination(&[""], ""))]);
    later(&store);
    assert_eq!(refusal(), Some(Refusal::DestinationMissing(upstream("v1"))), "a subset that went");
    assert!(store.load().usable(&upstream("")).is_ok());
    store.apply([removed(Kind::Destination)]);
    later(&store);
    assert_eq!(store.load().clusters().count(), 0);
    let missing = Book::default().credential(&"shop/tls".into()).err();
    assert_eq!(missing, Some(Refusal::CredentialMissing("shop/tls".into())));
}

/// As long as what is no more stays.
fn later(store: &BookStore) {
    (0..super::names::LEAVING_LOOKS).for_each(|_| store.look());
}

#[test]
fn routes_that_lead_elsewhere_now_have_the_time_to_arrive() {
    let (store, old) = (BookStore::default(), upstream("v1"));
    store.apply([change(Kind::Destination, &destination(&["v1"], ""))]);
    // The subset is called something else now; the route that says so comes after it.
    store.apply([change(Kind::Destination, &destination(&["v2"], ""))]);
    store.look();
    assert!(store.load().usable(&old).is_ok() && store.load().usable(&upstream("v2")).is_ok());
    // What comes back is not forgotten by what left before.
    store.apply([change(Kind::Destination, &destination(&["v1", "v2"], ""))]);
    later(&store);
    assert!(store.load().usable(&old).is_ok());
    store.apply([removed(Kind::Destination)]);
    assert!(store.load().usable(&old).is_ok());
    later(&store);
    assert!(store.load().usable(&old).is_err() && !store.load().has_leaving());
}

#[test]
fn a_bad_field_is_named() {
    let bad_regex = wire::HttpMatch {
        path: Some(wire::PathMatch { kind: Some(wire::path_match::Kind::Regex("/a(".into())), ignore_case: false }),
        ..wire::HttpMatch::default()
    };
    let route = wire::HttpRoute { r#match: Some(bad_regex), ..wire_forward(vec![to("", 1)]) };
    let text = error(Kind::Service, &wire_service(vec![wire_forward(vec![]), route]));
    assert!(text.starts_with("ports[0].http[1].match.path.regex: ") && text.contains("unclosed group"), "{text}");
    let text = error(Kind::Service, &wire_service(vec![wire::HttpRoute::default()]));
    assert_eq!(text, "ports[0].http[0].action: must be set");
    let mut service = wire_service(vec![]);
    service.ports[0].port = 70_000;
    assert_eq!(error(Kind::Service, &service), "ports[0].port: 70000 is not a port (1 to 65535)");
    service.hostname.clear();
    assert!(error(Kind::Service, &service).starts_with("hostname: "));
    assert_eq!(error(Kind::Proxy, &wire::Proxy::default()).split(':').next(), Some("role"));
    assert!(error(Kind::Proxy, &wire_proxy(&["shop/waypoint"])).starts_with("services[0]: \"shop/waypoint\" is not"));
    let bytes = compile::resource(Kind::Service, &NAME.into(), &[0xff]).expect_err("no message").to_string();
    assert!(bytes.starts_with("not a protobuf message"), "{bytes}");
}

#[test]
fn a_credential_is_checked_and_never_printed() {
    let pair = |chain_pem: &str, key_pem: &str| wire::Credential {
        pairs: vec![wire::KeyPair { chain_pem: chain_pem.into(), key_pem: key_pem.into() }],
        ..wire::Credential::default()
    };
    let text = error(Kind::Credential, &pair("a key by mistake", "hunter2"));
    assert!(text.starts_with("pairs[0]: ") && !text.contains("mistake") && !text.contains("hunter2"), "{text}");
    let short = wire::Credential { secret: b"hunter2".to_vec(), ..wire::Credential::default() };
    let text = error(Kind::Credential, &short);
    assert!(text.starts_with("secret: 7 is not") && !text.contains("hunter2"), "{text}");
    let good = wire::Credential { secret: vec![7; 32], ..wire::Credential::default() };
    let made = change(Kind::Credential, &good);
    assert!(format!("{made:?}").contains("credential: Credential }"), "{made:?}");
    let store = BookStore::default();
    store.apply([made]);
    assert!(store.load().credential(&NAME.into()).expect("there").sealer.is_some());
    store.apply([removed(Kind::Credential)]);
    assert!(store.load().credential(&NAME.into()).is_err());
}

#[test]
fn a_port_without_routes_leads_to_the_service_itself() {
    let service = service(vec![]);
    let forward = only_forward(&service);
    assert_eq!(subset_of(forward.choose(0)), "");
    assert_eq!((forward.empty_status, forward.retry.as_ref().map(|retry| retry.attempts)), (503, Some(2)));
    let tcp = service.port(80).expect("port 80").tcp.select(None, [10, 0, 0, 1].into()).expect("a route");
    assert_eq!(subset_of(tcp.choose(9)), "");
    assert!(service.port(81).is_none());
}

#[test]
fn clients_of_a_namespace_have_routes_of_their_own_and_no_others() {
    let named = |name: &str| wire::HttpRoute { name: name.into(), ..wire_forward(vec![to("", 1)]) };
    let of = |namespace: &str, http| wire::ClientRoutes { client_namespace: namespace.into(), http };
    let bad = wire::StringMatch { kind: Some(wire::string_match::Kind::Regex("(".into())), ignore_case: false };
    let bad = wire::HttpMatch { method: Some(bad), ..wire::HttpMatch::default() };
    let bad = wire::HttpRoute { r#match: Some(bad), ..named("bad") };
    let mut message = wire_service(vec![named("all")]);
    message.ports[0].http_of_clients = vec![of("web", vec![named("web")]), of("odd", vec![bad])];
    let Change::Service(service) = change(Kind::Service, &message) else { panic!("a service") };
    let port = service.port(80).expect("port 80");
    let names = |namespace| port.routes_of(namespace).routes().map(|route| route.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(Some("web")), ["web"]);
    assert_eq!((names(Some("shop")), names(None)), (vec!["all".to_owned()], vec!["all".to_owned()]));
    assert!(names(Some("odd")).is_empty(), "what cannot be used is closed, for these clients alone");
    message.ports[0].http_of_clients = vec![of("", vec![named("nobody")])];
    assert!(error(Kind::Service, &message).contains("http_of_clients[0].client_namespace"));
}

/// Vector 8 of l7-routing.
#[test]
fn vector_8_weights_are_shares() {
    let shares = |weights: &[u32]| {
        let destinations = weights.iter().enumerate().map(|(at, weight)| to(&format!("v{at}"), *weight)).collect();
        let service = service(vec![wire_forward(destinations)]);
        let forward = only_forward(&service);
        let counted = |name: String| (0..1_000).filter(|dice| subset_of(forward.choose(*dice)) == name).count();
        (0..weights.len()).map(|at| counted(format!("v{at}"))).collect::<Vec<_>>()
    };
    assert_eq!(shares(&[1, 3]), [250, 750]);
    assert_eq!(shares(&[0, 5]), [0, 1_000]);
    assert_eq!(shares(&[0]), [1_000], "the weight of an only destination says nothing");
    assert_eq!(shares(&[75, 0, 25]), [750, 0, 250]);
    assert_eq!(shares(&[u32::MAX, u32::MAX])[0], 1_000, "no overflow: these dice are all small");
    let none = service(vec![wire_forward(vec![])]);
    assert!(only_forward(&none).choose(5).is_none());
}

/// Vector 11 of l7-routing, the proxy's part of it.
#[test]
fn vector_11_the_share_of_a_missing_backend_is_answered() {
    let missing =
        wire::Weighted { weight: 1, to: Some(wire::weighted::To::InvalidStatus(500)), ..wire::Weighted::default() };
    let service = service(vec![wire_forward(vec![to("", 1), missing])]);
    let answered =
        |dice: &u64| matches!(only_forward(&service).choose(*dice).map(|one| &one.to), Some(Target::Invalid(500)));
    assert_eq!((0..1_000).filter(answered).count(), 500);
}

/// Vector 19 of l7-routing, and its neighbours.
#[test]
fn vector_19_the_routes_host_outranks_the_destinations() {
    let set = |name: &str, value: &str| {
        let header = wire::Header { name: name.into(), value: value.into(), literal: false };
        Some(wire::HeaderEdits { set: vec![header], ..wire::HeaderEdits::default() })
    };
    let host = |route: Option<wire::HeaderEdits>, of_destination: Option<wire::HeaderEdits>, rewrite: &str| {
        let destination = wire::Weighted { request_headers: of_destination, ..to("", 1) };
        let mut from = wire_forward(vec![destination]);
        from.request_headers = route;
        if let Some(wire::http_route::Action::Forward(forward)) = &mut from.action {
            forward.rewrite = Some(wire::Rewrite { authority: rewrite.into(), ..wire::Rewrite::default() });
        }
        let service = service(vec![from]);
        let route = service.port(80).expect("port 80").http.routes().next().expect("a route").clone();
        assert!(route.request_headers.is_none(), "the host is no header");
        let forward = only_forward(&service);
        let rewrite = forward.rewrite_for(forward.choose(0).expect("one"));
        let authority = rewrite.and_then(|rewrite| rewrite.authority.clone());
        authority.map(|value| value.to_str().expect("text").to_owned())
    };
    assert_eq!(host(set(":authority", "a"), set("Host", "b"), "").as_deref(), Some("a"));
    assert_eq!(host(None, set("host", "b"), "").as_deref(), Some("b"));
    assert_eq!(host(set("Host", "a"), set("host", "b"), "r").as_deref(), Some("r"));
    assert_eq!(host(set(":path", "a"), None, ""), None, "other parts of the request line are left alone");
}

/// What thousands of routes have costs memory thousands of times.
#[test]
fn the_types_of_many_routes_are_small() {
    assert!(size_of::<super::HttpRoute>() <= 72, "HttpRoute {}", size_of::<super::HttpRoute>());
    assert!(size_of::<Weighted>() <= 56, "Weighted {}", size_of::<Weighted>());
    assert!(size_of::<Forward>() <= 96, "Forward {}", size_of::<Forward>());
    assert!(size_of::<crate::route::Condition>() <= 96, "Condition {}", size_of::<crate::route::Condition>());
}

#[test]
fn tcp_routes_are_chosen_by_name_and_address() {
    let route = |name: &str, server_names: &[&str], subnets: &[&str]| wire::TcpRoute {
        name: name.into(),
        server_names: server_names.iter().map(|&name| name.into()).collect(),
        destination_subnets: subnets.iter().map(|&subnet| subnet.into()).collect(),
        destinations: vec![to("", 1)],
    };
    let mut from = wire_service(vec![]);
    from.ports[0].tls = vec![
        route("exact", &["a.example.com"], &[]),
        route("near", &["*.example.com"], &["10.1.0.0/16"]),
        route("wide", &["*.com"], &[]),
    ];
    let Change::Service(service) = change(Kind::Service, &from) else { panic!("a service") };
    let select = |name: Option<&str>, ip: [u8; 4]| {
        let port = service.port(80).expect("port 80");
        port.tls.select(name, ip.into()).map(|route| route.name.to_string())
    };
    assert_eq!(select(Some("A.Example.com"), [10, 2, 0, 1]).as_deref(), Some("exact"));
    assert_eq!(select(Some("b.example.com"), [10, 1, 0, 1]).as_deref(), Some("near"));
    assert_eq!(select(Some("b.example.com"), [10, 2, 0, 1]).as_deref(), Some("wide"));
    assert_eq!(select(Some("example.org"), [10, 1, 0, 1]), None);
    assert_eq!(select(None, [10, 1, 0, 1]), None);
    assert!(service.port(80).expect("port 80").tls.need_server_name());
}
