//! Both ends of the mesh around a measured proxy, in one process: what a client's and a server's ztunnel do, and no more.
//!
//! ```text
//! load ─► listen ═ tunnel ═► the proxy ═ tunnel ═► take ─► where the CONNECT says
//! ```
//! In: addresses, an identity for both ends. Out: bytes, carried until standard input ends. Absent on purpose: policy, records.

use std::{
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use lateen_hbone::{
    client::{self, Client},
    pool::{Pool, PoolLimits},
    request::{Authority, Connect, Forwarded, TraceParent},
    server,
    settings::Settings,
};
use lateen_identity::{
    cert::{PrivateKey, WorkloadCertificate},
    handshake::{self, HANDSHAKE_TIMEOUT},
};
use lateen_net::{
    accept,
    dial::{self, DialOptions},
    listen::{self, ListenOptions},
    splice::{Duplex, Meter, splice},
    unbegun::Unbegun,
};
use lateen_rt::{drain::Drain, tasks::Tasks, threads::Threads};
use lateen_types::id::SpiffeId;

/// Connections at once, at each end.
const CONNECTIONS_MAX: usize = 20_000;
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// What is carried where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Ends {
    /// Plain connections taken here go into tunnels
    #[arg(long)]
    listen: SocketAddr,
    /// through the proxy at this address,
    #[arg(long)]
    via: SocketAddr,
    /// each of which asks for this.
    #[arg(long)]
    authority: Authority,
    /// Who the proxy must be (spiffe://…)
    #[arg(long)]
    proxy: SpiffeId,
    /// Tunnels taken here go to where they ask
    #[arg(long)]
    take: Vec<SocketAddr>,
    /// The directory of chain.pem, key.pem and roots.pem, who both ends are
    #[arg(long)]
    identity: PathBuf,
}

/// What every connection needs.
struct Carrier {
    ends: Ends,
    ours: WorkloadCertificate,
    pool: Pool<SocketAddr, (), anyhow::Error>,
    tasks: Tasks,
    drain: Drain,
}

/// Carries until standard input ends.
#[allow(clippy::print_stdout, reason = "whoever measures waits for the word")]
pub(crate) fn run(ends: &Ends) -> anyhow::Result<()> {
    let ours = identity(&ends.identity)?;
    let threads = Threads::start("tunnels", 1, END_TIMEOUT).context("a thread")?;
    let lane = threads.lanes().first().clone();
    let (tasks, drain) = (Tasks::on(lane.clone()), Drain::new());
    {
        let _on_lane = lane.enter();
        let pool = Pool::new(PoolLimits::default(), &tasks, &drain);
        let carrier = Carrier { ends: ends.clone(), ours, pool, tasks: tasks.clone(), drain: drain.clone() };
        let carrier = Arc::new(carrier);
        let owner = || (tasks.clone(), drain.clone());
        let (into, out_of) = (carrier.clone(), carrier);
        let enter = move |stream, peer| into.clone().enter(stream, peer);
        tasks.spawn("enter", accept::run("enter", (listening(ends.listen)?, CONNECTIONS_MAX), owner(), enter));
        for at in &ends.take {
            let out_of = out_of.clone();
            let leave = move |stream, _| out_of.clone().leave(stream);
            tasks.spawn("leave", accept::run("leave", (listening(*at)?, CONNECTIONS_MAX), owner(), leave));
        }
    }
    println!("ready");
    // Its end is ours; nobody says anything there.
    let mut rest = Vec::new();
    std::io::stdin().take(1 << 20).read_to_end(&mut rest).context("reading standard input")?;
    drain.force();
    threads.end();
    Ok(())
}

fn listening(at: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    Ok(listen::tcp(at, &ListenOptions::default())?.socket)
}

fn identity(directory: &Path) -> anyhow::Result<WorkloadCertificate> {
    let read = |name: &str| {
        let file = directory.join(name);
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    };
    let key = PrivateKey::from_pem(&read("key.pem")?)?;
    Ok(WorkloadCertificate::from_pem_elements(&[read("chain.pem")?, read("roots.pem")?], key)?)
}

impl Carrier {
    /// A plain connection into a tunnel.
    async fn enter(self: Arc<Self>, stream: Unbegun, peer: SocketAddr) {
        let connect = Connect {
            authority: self.ends.authority.clone(),
            baggage: None,
            forwarded: Forwarded { client: peer, host: None },
            traceparent: TraceParent::random(),
            network: None,
            client: None,
        };
        match self.pool.connect(&self.ends.via, &connect, || self.dial()).await {
            Ok(opened) => self.carry(stream.begin(), opened.tunnel).await,
            Err(error) => eprintln!("lateen-load: no tunnel: {error}"),
        }
    }

    async fn dial(&self) -> anyhow::Result<(Client, ())> {
        let stream = dial::tcp(self.ends.via, &DialOptions::default()).await?;
        let expected = [self.ends.proxy.clone()].into();
        let secured = handshake::connect(stream, &self.ours, expected, HANDSHAKE_TIMEOUT).await?;
        let client = client::open(secured.stream, &Settings::default(), &self.tasks, &self.drain).await?;
        Ok((client, ()))
    }

    /// A connection that tunnels come on.
    async fn leave(self: Arc<Self>, stream: Unbegun) {
        let secured = match handshake::accept(stream.begin(), &self.ours, HANDSHAKE_TIMEOUT).await {
            Ok(secured) => secured,
            Err(error) => return eprintln!("lateen-load: no handshake: {error}"),
        };
        let take = |arrival: server::Arrival| {
            let own = self.clone();
            self.tasks.spawn("tunnel", async move { own.arrive(arrival).await });
        };
        // However it ended: whoever measures sees what is missing.
        server::serve(secured.stream, &Settings::default(), &self.drain, take).await.ok();
    }

    async fn arrive(&self, arrival: server::Arrival) {
        let Authority::Addr(to) = arrival.request.authority else { return };
        match dial::tcp(to, &DialOptions::default()).await {
            Ok(stream) => {
                if let Ok(tunnel) = arrival.accept(None) {
                    self.carry(tunnel, stream).await;
                }
            }
            Err(error) => eprintln!("lateen-load: {error}"),
        }
    }

    async fn carry(&self, one: impl Duplex, other: impl Duplex) {
        // A cut connection is the peer's business.
        splice(one, other, &Meter::default(), self.drain.forced()).await.ok();
    }
}
