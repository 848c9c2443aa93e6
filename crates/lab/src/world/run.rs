//! The lab's main process: the API, the fabric, the controllers, DNS and the nodes.
//!
//! In: the configuration; the API's socket as standard input. Out: a running cluster, until SIGTERM or until a node ends.
//! Absent on purpose: what these parts do; here they are only started in order.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, stream::FuturesUnordered};
use kube::Client;
use lateen_cluster::client::{Access, connect};
use lateen_embedded_api::{ApiHandle, ApiServer, Options};
use lateen_net::netns::Netns;
use lateen_rt::tasks::Tasks;
use tokio::{
    net::{TcpListener, UdpSocket},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{
    init::SHARED,
    mesh::{self, Programs},
    podlogs::PodLogs,
    state::StateDir,
    up,
};
use crate::{
    config::{LabConfig, Mesh},
    controllers, dns,
    fabric::{
        self,
        addresses::{CLUSTER_DNS, CLUSTER_DOMAIN, KUBERNETES, Node, lab_addresses},
        usable,
    },
    node::{self, NodeConfig},
    verbs,
};

/// Where the API listens on the fabric, beside the address of the service `kubernetes`.
const API_PORT: u16 = 6443;
/// How often readiness is looked at while starting.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs the cluster until it is asked to end.
pub(crate) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let lab = LabConfig::read(config)?;
    let state = StateDir::at(&Path::new(SHARED).join("state"));
    node::log();
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let end = runtime.block_on(cluster(&lab, &state));
    if let Err(error) = &end {
        state.say(&format!("{}{}", up::FAILED, format!("{error:#}").replace('\n', " ")))?;
    }
    end.map(|()| ExitCode::SUCCESS)
}

async fn cluster(lab: &LabConfig, state: &StateDir) -> anyhow::Result<()> {
    let mut end = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let programs = match &lab.mesh {
        Mesh::None => Programs { images: mesh::offered(&lab.program), plugin: None },
        Mesh::With(parts) => mesh::programs(parts, &lab.program)?,
    };
    let tasks = Tasks::new();
    let netns = fabric::build(lab.nodes, &tasks).await.context("making the fabric")?;
    state.say(&format!("fabric: {} nodes on a bridge", lab.nodes))?;
    let api = start_api().await?;
    state.write(&state.kubeconfig(), api.kubeconfig(&format!("https://{}", lab.api), api.admin_token()).as_bytes())?;
    let inside = Path::new(SHARED).join("kubeconfig");
    // Not the service's address: its translation begins while the nodes' connections already live, and would cut them.
    let url = format!("https://{}", SocketAddr::new(on_fabric()?, API_PORT));
    state.write(&inside, api.kubeconfig(&url, api.admin_token()).as_bytes())?;
    let client = connect(&Access::Kubeconfig(inside.clone())).await?;
    state.say(&format!("Kubernetes API: https://{}", lab.api))?;
    controllers::run(client.clone(), &tasks);
    dns::serve(&client, dns_sockets().await?, CLUSTER_DOMAIN.to_owned(), &tasks);
    let mut nodes = FuturesUnordered::new();
    for (netns, number) in netns.iter().zip(1..) {
        let mut child = start_node(netns, config(number, lab, &inside, &programs))?;
        nodes.push(async move { (number, child.wait().await) });
    }
    let work = async {
        bring_up(lab, &client, state).await?;
        state.say(up::READY)?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        failed = work => failed,
        _ = end.recv() => Ok(()),
        Some((number, ended)) = nodes.next() => bail!("{} ended unexpectedly: {ended:?}", Node { number }.name()),
    }
}

/// The API on the host's loopback (the socket we were given) and on the fabric.
async fn start_api() -> anyhow::Result<ApiHandle> {
    let given = std::io::stdin().as_fd().try_clone_to_owned().context("taking the API's socket")?;
    let given = std::net::TcpListener::from(given);
    given.set_nonblocking(true).context("the API's socket")?;
    let mut listeners = vec![TcpListener::from_std(given).context("the API's socket")?];
    let fabric = lab_addresses().into_iter().map(|net| SocketAddr::new(net.addr(), API_PORT));
    let service =
        KUBERNETES.into_iter().filter(|address| usable(*address)).map(|address| SocketAddr::new(address, 443));
    for address in fabric.clone().chain(service) {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.with_context(|| format!("listening on {address} for the API"))?);
    }
    let options = Options { advertise: fabric.clone().next(), nodes: Some(Arc::new(PodLogs)), ..Options::default() };
    ApiServer::start(options, listeners).await.context("starting the API server")
}

/// The lab's first address on the fabric.
fn on_fabric() -> anyhow::Result<IpAddr> {
    Ok(lab_addresses().first().context("the fabric has no address")?.addr())
}

async fn dns_sockets() -> anyhow::Result<dns::Sockets> {
    let mut sockets = dns::Sockets::default();
    for address in CLUSTER_DNS.into_iter().filter(|address: &IpAddr| usable(*address)) {
        let address = SocketAddr::new(address, 53);
        sockets.udp.push(UdpSocket::bind(address).await.with_context(|| format!("listening on {address}"))?);
        sockets.tcp.push(TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?);
    }
    Ok(sockets)
}

fn config(number: u8, lab: &LabConfig, kubeconfig: &Path, programs: &Programs) -> NodeConfig {
    NodeConfig {
        number,
        kubeconfig: kubeconfig.to_owned(),
        program: mesh::hosted(&lab.program),
        images: programs.images.clone(),
        mesh_plugin: programs.plugin.clone(),
    }
}

fn start_node(netns: &Netns, config: NodeConfig) -> anyhow::Result<Child> {
    let number = config.number;
    let file = PathBuf::from(SHARED).join(format!("node-{number}.json"));
    let text = serde_json::to_vec_pretty(&config).context("writing the node's configuration")?;
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    let mut command = Command::new("/proc/self/exe");
    // An ordinary user's PATH often lacks the sbin directories, where nft is.
    command.arg(verbs::MACHINE).arg(&file).stdin(Stdio::null()).env("PATH", node::PATH);
    netns.run(|| command.spawn())?.with_context(|| format!("starting node {number}"))
}

/// Waits for the nodes, then installs the mesh and waits for it. The starter holds the deadline.
async fn bring_up(lab: &LabConfig, client: &Client, state: &StateDir) -> anyhow::Result<()> {
    let names: Vec<String> = (1..=lab.nodes).map(|number| Node { number }.name()).collect();
    until_none("nodes", state, || mesh::missing_nodes(client, &names)).await?;
    state.say(&format!("nodes ready: {}", names.join(", ")))?;
    let Mesh::With(parts) = &lab.mesh else { return Ok(()) };
    mesh::apply(client, parts).await.context("installing the mesh")?;
    state.say("mesh: applied")?;
    let nodes = usize::from(lab.nodes);
    until_none("mesh", state, || mesh::missing_parts(client, nodes)).await?;
    state.say("mesh: ready")
}

/// Looks until nothing is missing, saying what is whenever that changes.
async fn until_none<F>(what: &str, state: &StateDir, mut missing: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Vec<String>>>,
{
    let mut said = Vec::new();
    loop {
        let now = missing().await?;
        if now.is_empty() {
            return Ok(());
        }
        if now != said {
            state.say(&format!("{what}: waiting for {}", now.join(", ")))?;
            said = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
