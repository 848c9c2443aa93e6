//! A big mesh told to one ztunnel process over real delta ADS, and what that costs it.
//!
//! In: a program that speaks ZDS and xDS, how big the mesh is. Out: [`Measured`]. The program runs in a namespace of its
//! own with no pod; nothing carries traffic. Absent on purpose: comparing programs, writing reports.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use lateen_controller::serve::listen::{CONNECTIONS_MAX, secured};
use lateen_identity::crypto::provider;
use lateen_net::{
    listen::{self, ListenOptions},
    netns::Netns,
};
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_wire::{
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
    security, type_url, workload as wire,
};
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::agent::Agent;

/// How big the mesh is, and who is told.
#[derive(Debug, Clone)]
pub struct Mesh {
    /// The ztunnel.
    pub program: PathBuf,
    /// Pods.
    pub workloads: usize,
    /// Services, each with an equal share of the pods behind it.
    pub services: usize,
    /// Policies, one namespace's each.
    pub policies: usize,
    /// Single changes after the first picture, one at a time.
    pub updates: usize,
    /// Resources in one response; a control plane that does not split sends all in one.
    pub response: usize,
    /// How long memory may take to be given back before it counts as settled.
    pub settle: Duration,
}

/// What it cost.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// From the program's start until its readiness endpoint says so; the control plane and the agent answer at once.
    pub ready: Duration,
    /// Resident before anything was told, in bytes.
    pub idle: u64,
    /// Resident when settled.
    pub settled: u64,
    /// Resident at most, until settled.
    pub peak: u64,
    /// From the first subscription to the last acknowledgement.
    pub load: Duration,
    /// CPU time of that.
    pub load_cpu: Duration,
    /// CPU time of one single change.
    pub update_cpu: Duration,
    /// Resident after all single changes.
    pub after_updates: u64,
}

const CONTROL_PORT: u16 = 15012;
const READY_PORT: u16 = 15021;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(1);
/// The file with the control plane's root, beside the agent's socket.
const ROOTS: &str = "roots.pem";
const NODE: &str = "node-of-the-measured";
/// For a whole picture to be acknowledged, by a program that was not optimised.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts the program, tells it the mesh, then the single changes; ends it.
pub async fn measure(mesh: &Mesh) -> Measured {
    let tasks = Tasks::new();
    let netns = Netns::create().expect("a namespace; this needs root");
    netns.loopback_up().expect("lo");
    let (acks, mut acknowledged) = mpsc::channel(16);
    let (say, said) = mpsc::channel(16);
    let plane = Plane { acks, said: Arc::new(Mutex::new(said)), policies: policies(mesh) };
    let directory = tempfile::tempdir().expect("a directory");
    let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
    let listener = listen::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, CONTROL_PORT)), &options).expect("listen").socket;
    // Not every ztunnel speaks to a control plane without TLS.
    let connections = secured(listener, (tls(directory.path()), CONNECTIONS_MAX), &tasks, Drain::new());
    let plane = Server::builder().serve_with_incoming(AggregatedDiscoveryServiceServer::new(plane), connections);
    tasks.spawn("control-plane", async move { plane.await.expect("served") });
    let socket = directory.path().join("zds.sock");
    let mut agent = Agent::new(&socket);
    let started = Instant::now();
    let running = Running::start(&mesh.program, &netns, &socket);
    agent.accept().await;
    // An empty answer to the first subscription: the program is up, and knows nothing.
    next(&mut acknowledged).await;
    let snapshot = agent.snapshot_sent().await;
    assert_eq!(snapshot, "", "the snapshot is taken");
    ready(&netns).await;
    let ready = started.elapsed();
    let idle = running.memory("VmRSS");

    let picture = picture(mesh);
    let (began, cpu) = (Instant::now(), running.cpu());
    for response in picture {
        say.send(response).await.expect("the control plane runs");
        next(&mut acknowledged).await;
    }
    let (load, load_cpu) = (began.elapsed(), running.cpu().saturating_sub(cpu));
    tokio::time::sleep(mesh.settle).await;
    let (settled, peak) = (running.memory("VmRSS"), running.memory("VmHWM"));

    let cpu = running.cpu();
    for round in 0..mesh.updates {
        // Spread over the mesh; each time something that all indexes must look at.
        let number = round * 7919 % mesh.workloads;
        let changed = wire::Workload { canonical_revision: format!("r{round}"), ..workload(mesh, number) };
        say.send(response(type_url::ADDRESS, vec![resource(changed)])).await.expect("the control plane runs");
        next(&mut acknowledged).await;
    }
    let update_cpu = running.cpu().saturating_sub(cpu) / u32::try_from(mesh.updates.max(1)).expect("few");
    Measured { ready, idle, settled, peak, load, load_cpu, update_cpu, after_updates: running.memory("VmRSS") }
}

/// A serving certificate for the loopback address; its root is left in `directory`.
fn tls(directory: &Path) -> Arc<ServerConfig> {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = CertifiedIssuer::self_signed(root, key()).expect("a root");
    std::fs::write(directory.join(ROOTS), root.pem()).expect("written");
    let (leaf_key, leaf) = (key(), CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()]).expect("an address"));
    let chain = vec![leaf.signed_by(&leaf_key, &root).expect("a leaf").der().clone()];
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_no_client_auth();
    let mut config =
        builder.with_single_cert(chain, PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into())).expect("usable");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Asks until the answer is yes.
async fn ready(netns: &Netns) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, READY_PORT));
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nHost: ztunnel\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer[..] == b"HTTP/1.1 200")
    };
    let until = Instant::now() + LOAD_TIMEOUT;
    // Not there yet and no are the same.
    while !netns.run(asked).expect("enter").unwrap_or(false) {
        assert!(Instant::now() < until, "ready in time");
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn next(acknowledged: &mut mpsc::Receiver<()>) {
    let waiting = tokio::time::timeout(LOAD_TIMEOUT, acknowledged.recv());
    waiting.await.expect("an acknowledgement in time").expect("the control plane runs");
}

/// The whole mesh, in responses of the size asked for. Made as they are wanted: the maker's memory is not the issue, but
/// it shares the machine with what is measured.
fn picture(mesh: &Mesh) -> impl Iterator<Item = DeltaDiscoveryResponse> + use<'_> {
    let total = mesh.services + mesh.workloads;
    (0..total.div_ceil(mesh.response)).map(move |part| {
        let numbers = part * mesh.response..total.min((part + 1) * mesh.response);
        let one = |number: usize| match number.checked_sub(mesh.services) {
            Some(number) => resource(workload(mesh, number)),
            None => named(service_name(number), &address(wire::address::Type::Service(service(number)))),
        };
        response(type_url::ADDRESS, numbers.map(one).collect())
    })
}

fn policies(mesh: &Mesh) -> DeltaDiscoveryResponse {
    let one = |number: usize| {
        let matching = super::resources::from_principal(&format!("cluster.local/ns/team-{number}/sa/front"));
        let policy = security::Authorization {
            namespace: format!("team-{number}"),
            ..super::resources::policy("front-only", security::Action::Allow, matching)
        };
        named(super::resources::policy_name(&policy), &any(type_url::AUTHORIZATION, &policy))
    };
    response(type_url::AUTHORIZATION, (0..mesh.policies).map(one).collect())
}

fn workload(mesh: &Mesh, number: usize) -> wire::Workload {
    let app = number % mesh.services;
    let (name, namespace) = (format!("app-{app}-7d9f8b6c5d-{number:05x}"), format!("team-{}", app % 200));
    let octets = u32::try_from(number).expect("fits").to_be_bytes();
    let ports = wire::PortList { ports: vec![wire::Port { service_port: 80, target_port: 8080, app_protocol: 0 }] };
    wire::Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}"),
        name,
        namespace,
        addresses: vec![vec![10, octets[1], octets[2], octets[3]]],
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        service_account: format!("app-{app}"),
        node: format!("ip-10-1-{}-{}.eu-west-1.compute.internal", number / 100 / 256, number / 100 % 256),
        canonical_name: format!("app-{app}"),
        canonical_revision: "v1".into(),
        workload_type: wire::WorkloadType::Deployment.into(),
        workload_name: format!("app-{app}"),
        cluster_id: "Kubernetes".into(),
        services: [(service_name(app), ports)].into(),
        locality: Some(wire::Locality {
            region: "eu-west-1".into(),
            zone: format!("eu-west-1{}", ["a", "b", "c"][number % 3]),
            subzone: String::new(),
        }),
        ..Default::default()
    }
}

fn service_name(number: usize) -> String {
    format!("team-{}/app-{number}.team-{0}.svc.cluster.local", number % 200)
}

fn service(number: usize) -> wire::Service {
    let namespace = format!("team-{}", number % 200);
    let octets = u32::try_from(number).expect("fits").to_be_bytes();
    wire::Service {
        name: format!("app-{number}"),
        hostname: format!("app-{number}.{namespace}.svc.cluster.local"),
        namespace,
        addresses: vec![wire::NetworkAddress {
            network: String::new(),
            address: vec![172, octets[1], octets[2], octets[3]],
            length: None,
        }],
        ports: vec![wire::Port { service_port: 80, target_port: 8080, app_protocol: 0 }],
        ..Default::default()
    }
}

fn resource(workload: wire::Workload) -> Resource {
    let aliases = workload.addresses.iter().map(|ip| {
        let ip = <[u8; 4]>::try_from(ip.as_slice()).expect("IPv4");
        format!("/{}", std::net::Ipv4Addr::from(ip))
    });
    let aliases = aliases.collect();
    let name = workload.uid.clone();
    Resource { aliases, ..named(name, &address(wire::address::Type::Workload(workload))) }
}

fn address(one: wire::address::Type) -> prost_types::Any {
    any(type_url::ADDRESS, &wire::Address { r#type: Some(one) })
}

fn any(type_url: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

fn named(name: String, any: &prost_types::Any) -> Resource {
    // Istio's control plane sends no versions for these types.
    Resource { name, resource: Some(any.clone()), ..Default::default() }
}

fn response(type_url: &str, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse { type_url: type_url.to_owned(), resources, nonce: "n".into(), ..Default::default() }
}

/// Says what it is told to say, and tells when that was acknowledged.
struct Plane {
    acks: mpsc::Sender<()>,
    said: Arc<Mutex<mpsc::Receiver<DeltaDiscoveryResponse>>>,
    policies: DeltaDiscoveryResponse,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (answer, answers) = mpsc::channel(16);
        let (acks, said, policies) = (self.acks.clone(), self.said.clone(), self.policies.clone());
        let mut requests = request.into_inner();
        // Ends with the stream that drives it.
        let talk = async_stream(answers, async move {
            let mut said = said.lock().await;
            loop {
                tokio::select! {
                    Some(response) = said.recv() => answer.send(response).await.ok()?,
                    request = requests.message() => {
                        let request = request.ok().flatten()?;
                        let is_address = request.type_url == type_url::ADDRESS;
                        assert!(request.error_detail.is_none(), "rejected: {:?}", request.error_detail);
                        match (request.response_nonce.is_empty(), is_address) {
                            (true, true) => answer.send(response(type_url::ADDRESS, Vec::new())).await.ok()?,
                            (true, false) if request.type_url == type_url::AUTHORIZATION => {
                                answer.send(policies.clone()).await.ok()?;
                            }
                            (true, false) => answer.send(response(&request.type_url, Vec::new())).await.ok()?,
                            (false, true) => acks.send(()).await.ok()?,
                            (false, false) => {}
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(talk)))
    }
}

/// The items of `answers` while `work` is driven; `work` never ends by itself but when nobody listens.
fn async_stream(
    answers: mpsc::Receiver<DeltaDiscoveryResponse>,
    work: impl Future<Output = Option<()>> + Send + 'static,
) -> impl Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send {
    let work = futures::stream::once(work).filter_map(|_| std::future::ready(None));
    futures::stream::select(ReceiverStream::new(answers).map(Ok), work)
}

/// The measured process.
struct Running(Child);

impl Running {
    fn start(program: &Path, netns: &Netns, agent: &Path) -> Self {
        let mut command = Command::new(program);
        let control = format!("https://127.0.0.1:{CONTROL_PORT}");
        let roots = agent.with_file_name(ROOTS);
        command
            .env_clear()
            .env("RUST_LOG", "warn")
            .env("NODE_NAME", NODE)
            .env("XDS_ADDRESS", &control)
            .env("CA_ADDRESS", &control)
            .env("XDS_ROOT_CA", &roots)
            .env("CA_ROOT_CA", &roots)
            .env("AUTH_TOKEN", "a token")
            .env("INPOD_ENABLED", "true")
            .env("INPOD_UDS", agent)
            .env("ISTIO_META_DNS_CAPTURE", "false")
            .env("ZTUNNEL_WORKER_THREADS", "2")
            .stdout(Stdio::null());
        Self(netns.spawn(&mut command).expect("enter").expect("the program starts"))
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).expect("it runs")
    }

    fn memory(&self, line: &str) -> u64 {
        let status = self.read("status");
        let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        let kilobytes = value.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.expect("in kB") * 1024
    }

    /// Of all threads that live; those of a blocking pool outlast a measurement.
    fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("it runs");
        let times = threads.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        if self.0.kill().is_ok() {
            self.0.wait().expect("wait");
        }
    }
}
