//! What the controller sends, as a waypoint reads it: the documents' YAML through both, joined by bytes.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use kube::core::DynamicObject;
use lateen_cluster::store::{Key, Reading};
use lateen_controller::{
    derive::{Mesh, Shown, proxy::Defaults, visible::Sight},
    facts::{DestinationRule, Gateway, Namespace, ReferenceGrant, Route, RouteKind, Service, VirtualService},
    graph::{Graph, Update},
};
use lateen_types::name::NamespacedHostname;
use lateen_waypoint::book::{
    Book, BookStore, Kind, View,
    compile::resource,
    route::{Action, Target},
};
use lateen_xds::server::Publish;
use serde_json::Value;

const CLUSTER: &str = r"
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint}}
---
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: reviews}, ports: [{name: http, port: 9080}, {name: db, port: 3306}]}
---
kind: Service
metadata: {name: ratings, namespace: shop}
spec: {clusterIP: 10.96.0.2, selector: {app: ratings}, ports: [{name: http, port: 9080}]}
---
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {}}, warmup: {duration: 10s}}
    connectionPool: {tcp: {maxConnections: 1, tcpKeepalive: {}}, http: {http1MaxPendingRequests: 1}}
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}
    retryBudget: {}
    proxyProtocol: {}
    tunnel: {protocol: CONNECT, targetHost: a.example, targetPort: 443}
    portLevelSettings: [{port: {number: 3306}, tls: {mode: SIMPLE, sni: a.example}}]
  subsets:
  - {name: v1, labels: {version: v1}}
  - name: v2
    labels: {version: v2}
    trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {distribute: [{from: r/*, to: {r/*: 100}}]}}}
---
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match:
    - {uri: {regex: '/x.*'}, withoutHeaders: {a: {}}, queryParams: {k: {prefix: v}}, scheme: {exact: http}}
    - {uri: {exact: /X}, ignoreUriCase: true, headers: {':authority': {prefix: r}}}
    rewrite: {uriRegexRewrite: {match: /x, rewrite: /y}, authority: other}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 10}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}
    retries: {attempts: 2, retryOn: '5xx,503,unavailable', perTryTimeout: 1s, backoff: 10ms}
    corsPolicy: {allowOrigins: [{exact: '*'}, {regex: '.*'}], maxAge: 1h, allowMethods: [GET]}
    mirror: {host: ratings}
    headers: {request: {set: {x-a: '%REQ(x-b)%'}, remove: [x-c]}, response: {add: {x-d: '1'}}}
    route: [{destination: {host: nowhere}, weight: 1}, {destination: {host: ratings}, weight: 3}]
  - match: [{uri: {prefix: /r}}]
    redirect: {authority: elsewhere.example, derivePort: FROM_REQUEST_PORT, prefixRewrite: /s, redirectCode: 308}
  - match: [{uri: {prefix: /d}}]
    directResponse: {status: 418, body: {string: tea}}
  - route: [{destination: {host: reviews, subset: v1}}]
  tcp:
  - match: [{port: 3306, destinationSubnets: [10.0.0.1, 10.1.0.0/16]}]
    route: [{destination: {host: reviews, port: {number: 3306}, subset: v1}, weight: 80}, {destination: {host: ratings}, weight: 20}]
---
kind: HTTPRoute
metadata: {name: ratings, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: ratings}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /v}, method: GET, headers: [{name: A, type: RegularExpression, value: 'b+'}]}]
    filters:
    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X, value: '1%'}]}}
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /w}}}
    - {type: CORS, cors: {allowOrigins: ['https://*.example.com']}}
    retry: {codes: [500], attempts: 1}
    backendRefs: [{name: reviews, port: 9080, weight: 2}, {name: absent, port: 1}]
  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, path: {type: ReplaceFullPath, replaceFullPath: /}}}]
";

fn value<V>(reading: Reading<V>) -> Option<Arc<V>> {
    match reading {
        Reading::Value(value) => Some(Arc::new(value)),
        Reading::Nothing => panic!("the object was skipped"),
        Reading::Unreadable(reason) => panic!("the object is unreadable: {reason}"),
    }
}

fn update(text: &str) -> Update {
    let mut object: Value = serde_saphyr::from_str(text).expect("YAML");
    object["apiVersion"] = Value::String("v1".to_owned());
    let typed = object.clone();
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    let key = Key::of(&object);
    match typed["kind"].as_str().unwrap_or_default() {
        "Namespace" => {
            Update::Namespace(key, value(Namespace::read(serde_json::from_value(typed).expect("a namespace"))))
        }
        "Service" => Update::Service(key, value(Service::read(serde_json::from_value(typed).expect("a service")))),
        "Gateway" => Update::Gateway(key, value(Gateway::read(&object))),
        "DestinationRule" => Update::Rule(key, value(DestinationRule::read(&object))),
        "VirtualService" => Update::VirtualService(key, value(VirtualService::read(&object))),
        "HTTPRoute" => Update::Route(RouteKind::Http, key, value(Route::read(RouteKind::Http, &object))),
        "ReferenceGrant" => Update::Grant(key, value(ReferenceGrant::read(&object))),
        other => panic!("no such kind here: {other}"),
    }
}

/// The book of the only waypoint, made of everything it is sent; all of it must be readable.
fn book() -> Arc<Book> {
    let mesh = Mesh {
        cluster: "Kubernetes".to_owned(),
        domain: "cluster.local".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
        dry_run: false,
        sight: Sight::default(),
        shown: Shown::default(),
        sessions: Key::new("istio-system", "lateen-sessions"),
        confines_servers: false,
        proxies: Defaults::default(),
    };
    let delta = Graph::new(mesh.clone()).apply(&mesh, CLUSTER.split("\n---\n").map(update).collect());
    let (store, mut changes) = (BookStore::default(), Vec::new());
    for change in delta.changes {
        let Publish::Put(type_url, entry) = change else { panic!("nothing was there before") };
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.type_url() == type_url) else { continue };
        let read = resource(kind, &entry.name, &entry.content());
        changes.push(read.unwrap_or_else(|error| panic!("{kind:?} {}: {error}", entry.name)));
    }
    store.apply(changes);
    store.load()
}

/// Where a request to `reviews` goes first: `service:port/subset` as access logs have it, or the status of its answer.
fn sent_to(book: &Book, path: &str, user: Option<&'static str>) -> String {
    let key = NamespacedHostname { namespace: "shop".into(), hostname: "reviews.shop.svc.cluster.local".into() };
    let headers: HeaderMap = user
        .map(|user| (http::header::HeaderName::from_static("end-user"), HeaderValue::from_static(user)))
        .into_iter()
        .collect();
    let authority = "reviews:9080";
    let view = View { method: "GET", path, query: None, authority, scheme: "http", headers: &headers };
    let port = book.service(&key).and_then(|service| service.port(9080)).expect("the port is served");
    match &port.http.select(&view).expect("a route").action {
        Action::Forward(forward) => match &forward.destinations()[0].to {
            Target::Upstream(upstream) => {
                book.usable(upstream).expect("the cluster is there");
                upstream.to_string()
            }
            Target::Invalid(status) => status.to_string(),
            Target::Redirect(_) => "redirect".to_owned(),
        },
        Action::Redirect(_) => "redirect".to_owned(),
        Action::Direct(_) => "answer".to_owned(),
    }
}

#[test]
fn a_waypoint_can_read_all_it_is_sent_and_does_what_was_written() {
    let book = book();
    let reviews = |subset: &str| format!("outbound|9080|{subset}|reviews.shop.svc.cluster.local");
    assert_eq!(sent_to(&book, "/", Some("jason")), reviews("v2"));
    assert_eq!(sent_to(&book, "/", Some("mary")), reviews("v1"));
    assert_eq!(sent_to(&book, "/", None), reviews("v1"));
    assert_eq!(sent_to(&book, "/x", None), "503", "the first share leads nowhere");
    assert_eq!(sent_to(&book, "/rest", None), "redirect");
    assert_eq!(sent_to(&book, "/dessert", None), "answer");
    assert_eq!(book.proxy().expect("the proxy").services.len(), 2);
}
