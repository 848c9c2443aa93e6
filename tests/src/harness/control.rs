//! A control plane that serves what it is told: delta ADS and the CA, in plain gRPC.
//!
//! In: resources. Out: the same to every proxy that asks. It can be ended and started again on the same port.

use std::{io, net::SocketAddr, pin::Pin};

use futures::{Stream, StreamExt as _};
use lateen_net::{
    listen::{self, ListenOptions},
    netns::Netns,
};
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_wire::{
    ca::istio_certificate_service_server::IstioCertificateServiceServer,
    core::Node,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
    security, type_url, workload as wire,
};
use lateen_xds::{
    resource::Entry,
    server::{self, Events, Peer, Publish, Table},
};
use tokio::net::TcpStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{ca::TestCa, resources};

/// The control plane of one rig; proxies on any node see the same.
#[derive(Clone)]
pub struct Control {
    /// What is served.
    pub table: Table,
    /// Who signs.
    pub ca: TestCa,
    tasks: Tasks,
}

/// One running server; ended when dropped.
pub struct Serving {
    drain: Drain,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.drain.force();
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// A control plane that knows nothing yet.
    pub fn new() -> Self {
        let table = Table::new();
        Self { table, ca: TestCa::new(), tasks: Tasks::new() }
    }

    /// Listens on loopback inside a namespace: delta ADS on `port`, the CA on the one above.
    pub fn serve(&self, netns: &Netns, port: u16) -> Serving {
        let drain = Drain::new();
        let ads = Ads { table: self.table.clone(), tasks: self.tasks.clone(), drain: drain.clone() };
        let ads =
            Server::builder().serve_with_incoming(AggregatedDiscoveryServiceServer::new(ads), incoming(netns, port));
        let ca = IstioCertificateServiceServer::new(self.ca.clone());
        let ca = Server::builder().serve_with_incoming(ca, incoming(netns, port + 1));
        let ending = drain.clone();
        self.tasks.spawn("control-plane", async move {
            // Dropping them closes every connection at once, as a crash would.
            tokio::select! {
                served = ads => served.expect("served"),
                served = ca => served.expect("served"),
                () = ending.forced() => {}
            }
        });
        Serving { drain }
    }

    /// Publishes workloads.
    pub fn workloads(&self, workloads: impl IntoIterator<Item = wire::Workload>) {
        self.table.publish(workloads.into_iter().map(|workload| {
            let name = workload.uid.clone();
            address(name, wire::address::Type::Workload(workload))
        }));
    }

    /// Publishes services.
    pub fn services(&self, services: impl IntoIterator<Item = wire::Service>) {
        self.table.publish(services.into_iter().map(|service| {
            let name = format!("{}/{}", service.namespace, service.hostname);
            address(name, wire::address::Type::Service(service))
        }));
    }

    /// Publishes policies.
    pub fn policies(&self, policies: impl IntoIterator<Item = security::Authorization>) {
        self.table.publish(policies.into_iter().map(|policy| {
            let name = resources::policy_name(&policy);
            Publish::Put(type_url::AUTHORIZATION, Entry::new(type_url::AUTHORIZATION, name, &policy))
        }));
    }

    /// Withdraws a resource.
    pub fn remove(&self, type_url: &'static str, name: &str) {
        self.table.publish([Publish::Remove(type_url, name.into())]);
    }
}

fn incoming(netns: &Netns, port: u16) -> impl Stream<Item = io::Result<TcpStream>> + use<> {
    let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
    let listener = listen::tcp(SocketAddr::from(([127, 0, 0, 1], port)), &options).expect("listen").socket;
    futures::stream::unfold(listener, |listener| async move {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    })
}

fn address(name: String, one: wire::address::Type) -> Publish {
    let message = wire::Address { r#type: Some(one) };
    Publish::Put(type_url::ADDRESS, Entry::new(type_url::ADDRESS, name, &message))
}

struct Ads {
    table: Table,
    tasks: Tasks,
    drain: Drain,
}

struct AnyNode;

impl Events for AnyNode {
    fn admit(&self, node: &Node) -> Result<Peer, Status> {
        Ok(Peer { id: node.id.clone(), groups: Vec::new() })
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, work) = server::serve(request.into_inner(), self.table.clone(), AnyNode, self.drain.clone());
        self.tasks.spawn("ads-stream", work);
        Ok(Response::new(Box::pin(responses.map(|one| one.map(|one| one.decoded().expect("the same message"))))))
    }
}
