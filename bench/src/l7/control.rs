//! A control plane for one proxy: delta ADS that serves what it is told once, and a CA that signs what it is asked to.
//!
//! In: resources. Out: a port in the measured network; certificates for the ends of tunnels. It runs on a thread of its own
//! and is silent while anything is measured. Absent on purpose: changes, proof of who asks.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use lateen_net::{
    listen::{self, ListenOptions},
    netns::Netns,
};
use lateen_rt::{drain::Drain, tasks::Tasks, threads::Threads};
use lateen_wire::{
    ca::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
    core::Node,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
};
use lateen_xds::server::{self, Events, Peer, Publish, Table};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::net::TcpStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

const END_TIMEOUT: Duration = Duration::from_secs(1);
const VALID: Duration = Duration::from_secs(86_400);

/// All control planes of one run.
pub(crate) struct Control {
    threads: Threads,
    tasks: Tasks,
    drain: Drain,
    ca: Ca,
}

impl Control {
    /// None yet, with a fresh root.
    pub fn new() -> anyhow::Result<Self> {
        let threads = Threads::start("control", 1, END_TIMEOUT).context("a thread")?;
        let tasks = Tasks::on(threads.lanes().first().clone());
        Ok(Self { threads, tasks, drain: Drain::new(), ca: Ca::new()? })
    }

    /// Tells whoever asks on `port` of `netns` these resources, and signs on the port above.
    pub fn serve(&self, netns: &Netns, port: u16, resources: Vec<Publish>) -> anyhow::Result<()> {
        let table = Table::new();
        table.publish(resources);
        let ads = Ads { table, tasks: self.tasks.clone(), drain: self.drain.clone() };
        let _on_lane = self.threads.lanes().first().enter();
        let ads = AggregatedDiscoveryServiceServer::new(ads);
        let ads = Server::builder().serve_with_incoming(ads, incoming(netns, port)?);
        let ca = IstioCertificateServiceServer::new(self.ca.clone());
        let ca = Server::builder().serve_with_incoming(ca, incoming(netns, port + 1)?);
        let drain = self.drain.clone();
        self.tasks.spawn("control-plane", async move {
            let ended = tokio::select! {
                ended = ads => ended,
                ended = ca => ended,
                () = drain.forced() => return,
            };
            eprintln!("lateen-bench: a control plane ended: {ended:?}");
        });
        Ok(())
    }

    /// Writes who `identity` is into a directory: `chain.pem`, `key.pem`, `roots.pem`.
    pub fn identity(&self, identity: &str, directory: &Path) -> anyhow::Result<()> {
        let (key, mut params) = (KeyPair::generate()?, CertificateParams::default());
        params.subject_alt_names = vec![SanType::URI(identity.try_into().context("a URI")?)];
        live(&mut params);
        let chain = params.signed_by(&key, &*self.ca.0)?.pem();
        for (name, text) in [("chain.pem", chain), ("key.pem", key.serialize_pem()), ("roots.pem", self.ca.0.pem())] {
            fs::write(directory.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        Ok(())
    }

    /// Ends all of them.
    pub fn end(self) {
        self.drain.force();
        self.threads.end();
    }
}

fn incoming(netns: &Netns, port: u16) -> anyhow::Result<impl Stream<Item = io::Result<TcpStream>> + use<>> {
    let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = listen::tcp(at, &options).context("a control plane's port")?.socket;
    Ok(futures::stream::unfold(listener, |listener| async move {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    }))
}

fn live(params: &mut CertificateParams) {
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - Duration::from_secs(60)).into(), (now + VALID).into());
}

#[derive(Clone)]
struct Ca(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Ca {
    fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(Arc::new(CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("a root")?)))
    }

    fn sign(&self, csr: &str) -> Result<Vec<String>, rcgen::Error> {
        let mut request = CertificateSigningRequestParams::from_pem(csr)?;
        live(&mut request.params);
        Ok(vec![request.signed_by(&*self.0)?.pem(), self.0.pem()])
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Ca {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let signed = self.sign(&request.get_ref().csr);
        let cert_chain = signed.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

struct Ads {
    table: Table,
    tasks: Tasks,
    drain: Drain,
}

struct AnyNode;

impl Events for AnyNode {
    fn admit(&self, node: &Node) -> Result<Peer, Status> {
        Ok(Peer { id: node.id.clone(), groups: vec![super::ours::group()] })
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type DeltaAggregatedResourcesStream = Responses;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (responses, work) = server::serve(request.into_inner(), self.table.clone(), AnyNode, self.drain.clone());
        self.tasks.spawn("ads-stream", work);
        let unreadable = |error: prost::DecodeError| Status::internal(error.to_string());
        let decoded = responses.map(move |one| one.and_then(|one| one.decoded().map_err(unreadable)));
        Ok(Response::new(Box::pin(decoded)))
    }
}
