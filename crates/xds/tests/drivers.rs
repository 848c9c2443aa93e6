//! Both drivers over a real gRPC connection.
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use lateen_rt::{drain::Drain, inbox::Inbox, tasks::Tasks};
use lateen_wire::{
    core::Node,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
    type_url::{ADDRESS, AUTHORIZATION},
};
use lateen_xds::{
    client::{self, Client, Handler, Mode, Rejected, Subscription, Told},
    resource::Entry,
    server::{Events, Peer, Publish, Table, serve},
    session::server::Acknowledged,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};

#[derive(Clone)]
struct Plane {
    table: Table,
    tasks: Tasks,
    /// Ends the streams that are open; replaced to let new ones live.
    streams: Arc<Mutex<Drain>>,
    acknowledged: watch::Sender<Vec<Acknowledged>>,
}

struct Watching(watch::Sender<Vec<Acknowledged>>);

impl Events for Watching {
    fn admit(&self, node: &Node) -> Result<Peer, Status> {
        if node.id == "stranger" {
            return Err(Status::permission_denied("unknown node"));
        }
        Ok(Peer { id: node.id.clone(), groups: vec![] })
    }
    fn acknowledged(&self, _: &Peer, what: &Acknowledged) {
        self.0.send_modify(|all| all.push(what.clone()));
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let drain = self.streams.lock().expect("not poisoned").clone();
        let events = Watching(self.acknowledged.clone());
        let (responses, work) = serve(request.into_inner(), self.table.clone(), events, drain);
        self.tasks.spawn("xds stream", work);
        Ok(Response::new(Box::pin(responses.map(|one| one.map(|one| one.decoded().expect("the same message"))))))
    }
}

impl Plane {
    async fn start(drain: &Drain) -> (Self, SocketAddr) {
        let plane = Self {
            table: Table::new(),
            tasks: Tasks::new(),
            streams: Arc::new(Mutex::new(drain.child())),
            acknowledged: watch::Sender::new(Vec::new()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let service = AggregatedDiscoveryServiceServer::new(plane.clone());
        let (tasks, ends) = (plane.tasks.clone(), drain.clone());
        plane.tasks.spawn("server", async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.expect("accepts").0,
                    () = ends.draining() => return,
                };
                let service = TowerToHyperService::new(service.clone());
                let ends = ends.clone();
                tasks.spawn("connection", async move {
                    let serving =
                        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        ended = serving => ended.expect("served"),
                        () = ends.draining() => {}
                    }
                });
            }
        });
        (plane, addr)
    }

    /// Cuts the open streams; new ones are served.
    fn cut(&self, drain: &Drain) {
        std::mem::replace(&mut *self.streams.lock().expect("not poisoned"), drain.child()).start();
    }
}

/// Keeps what it is given; refuses contents that say so.
#[derive(Default)]
struct Store {
    held: watch::Sender<BTreeMap<String, Vec<u8>>>,
    order: Mutex<Vec<String>>,
}

impl Handler for Store {
    fn apply(&self, type_url: &str, resources: Vec<Told>, removed: Vec<String>) -> Result<(), Vec<Rejected>> {
        self.order.lock().expect("not poisoned").push(type_url.to_owned());
        let mut rejected = Vec::new();
        self.held.send_modify(|held| {
            for one in resources.into_iter().map(|told| told.resource) {
                let value = one.resource.expect("present").value;
                if value.ends_with(b"bad") {
                    rejected.push(Rejected { name: one.name, reason: "bad".into() });
                } else {
                    held.insert(one.name, value);
                }
            }
            removed.iter().for_each(|name| _ = held.remove(name));
        });
        if rejected.is_empty() { Ok(()) } else { Err(rejected) }
    }
}

struct Proxy {
    store: Arc<Store>,
    synced: watch::Receiver<bool>,
    demands: Inbox<String>,
}

fn proxy(addr: SocketAddr, address: Mode, tasks: &Tasks, drain: &Drain) -> Proxy {
    let (synced, hears) = watch::channel(false);
    let store = Arc::new(Store::default());
    let demands = Inbox::new();
    let client = Client {
        node: Node { id: "ztunnel~1.1.1.1~zt.ns~ns.svc.cluster.local".into(), ..Node::default() },
        subscriptions: vec![
            Subscription { type_url: ADDRESS, mode: address },
            Subscription { type_url: AUTHORIZATION, mode: Mode::Wildcard },
        ],
        demands: demands.clone(),
        synced,
        drain: drain.clone(),
    };
    let connect =
        move || async move { Endpoint::from_shared(format!("http://{addr}")).expect("a uri").connect().await };
    let handler = store.clone();
    tasks.spawn("xds client", async move { client::run(connect, client, handler).await });
    Proxy { store, synced: hears, demands }
}

async fn until<T>(receiver: &mut watch::Receiver<T>, holds: impl FnMut(&T) -> bool) {
    let waiting = receiver.wait_for(holds);
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time").map(|_| ()).expect("still open");
}

fn put(type_url: &'static str, name: &str, text: &str) -> Publish {
    Publish::Put(type_url, Entry::new(type_url, name, &text.to_owned()).with_aliases(vec![format!("/{name}")]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_follows_the_table_over_reconnects() {
    let drain = Drain::new();
    let (plane, addr) = Plane::start(&drain).await;
    plane.table.publish([put(ADDRESS, "a", "1"), put(ADDRESS, "b", "1"), put(AUTHORIZATION, "p", "1")]);
    let mut proxy = proxy(addr, Mode::Wildcard, &plane.tasks, &drain);
    until(&mut proxy.synced, |synced| *synced).await;
    let mut held = proxy.store.held.subscribe();
    assert_eq!(held.borrow().keys().cloned().collect::<Vec<_>>(), ["a", "b", "p"], "applied before it is synced");
    assert_eq!(*proxy.store.order.lock().expect("not poisoned"), [AUTHORIZATION, ADDRESS], "policies first");

    plane.table.publish([Publish::Remove(ADDRESS, "a".into()), put(ADDRESS, "c", "1")]);
    until(&mut held, |held| held.contains_key("c") && !held.contains_key("a")).await;

    plane.cut(&drain);
    plane.table.publish([Publish::Remove(ADDRESS, "b".into()), put(ADDRESS, "d", "1")]);
    until(&mut held, |held| held.contains_key("d") && !held.contains_key("b")).await;

    plane.table.publish([put(ADDRESS, "e", "bad"), put(ADDRESS, "f", "1")]);
    let mut acknowledged = plane.acknowledged.subscribe();
    until(&mut acknowledged, |all| all.iter().any(|one| one.rejected.as_deref() == Some("e: bad"))).await;
    assert!(held.borrow().contains_key("f"), "the good one of the response is applied");
    drain.start();
    plane.tasks.join(Duration::from_secs(20)).await.expect("both ends end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_fetched_when_it_is_asked_for() {
    let drain = Drain::new();
    let (plane, addr) = Plane::start(&drain).await;
    plane.table.publish([put(ADDRESS, "a", "1"), put(ADDRESS, "b", "1")]);
    let mut proxy = proxy(addr, Mode::OnDemand, &plane.tasks, &drain);
    until(&mut proxy.synced, |synced| *synced).await;
    assert!(proxy.store.held.borrow().is_empty());
    proxy.demands.push("/a".to_owned());
    let mut held = proxy.store.held.subscribe();
    until(&mut held, |held| held.contains_key("a")).await;
    assert!(!held.borrow().contains_key("b"));
    drain.start();
    plane.tasks.join(Duration::from_secs(20)).await.expect("both ends end");
}
