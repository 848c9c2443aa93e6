//! One measured proxy as a process of its own, in the measured network and on the measured processor.
//!
//! In: a program, a scene, a number that its ports follow from. Out: where it takes requests, once it answers them. It ends
//! when this is dropped, and with us, however we end.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use anyhow::{Context as _, bail};
use lateen_net::netns::Netns;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::resource::{Resource, getrlimit},
    unistd::Pid,
};
use tokio::time::Instant;

use super::{
    control::Control,
    envoy::{self, Ports},
    ours,
    scene::{HOST, Scene, Way},
};
use crate::{
    config::{PEER, Program},
    load::Load,
};

/// The server's port that speaks HTTP (`Door::Http` of the load), where its first port is [`SERVER`].
const HTTP: u16 = SERVER + 4;
/// The server's first port.
pub(crate) const SERVER: u16 = 7000;
/// The first proxy's first port; each has [`PORTS`].
const FIRST: u16 = 20_000;
const PORTS: u16 = 10;
const READY_TIMEOUT: Duration = Duration::from_secs(20);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where ztunnels take tunnels.
const TUNNEL_PORT: u16 = 15008;
/// Who clients and endpoints are.
pub(crate) const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/echo";
const PROXY_IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/front";

/// What all proxies of a run share.
pub(crate) struct Place<'a> {
    /// The network.
    pub netns: Netns,
    /// Our control planes.
    pub control: &'a Control,
    /// For configurations, identities and paths.
    pub directory: &'a Path,
    /// The load program.
    pub load: &'a Path,
    /// For what programs log.
    pub logs: Option<&'a Path>,
}

/// A running proxy.
pub(crate) struct Running {
    /// Its process.
    pub pid: i32,
    /// Where it takes requests; with tunnels, where the client's end of them does.
    pub address: SocketAddr,
    child: Child,
    /// Both ends of its tunnels.
    _tunnels: Option<Load>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Which processor something runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The measured one.
    Proxy,
    /// The other one, for everything around it.
    Load,
}

impl On {
    /// Does `start` so that what it starts stays on this processor; on a machine with one, nothing is different.
    pub fn run<T>(self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        // Asked once: whoever stays on one processor is told that there is one.
        static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
        if *CORES < 2 {
            return start();
        }
        let ours = |cpu: usize| {
            let mut set = CpuSet::new();
            set.set(cpu).context("a processor's number")?;
            sched_setaffinity(Pid::from_raw(0), &set).context("choosing a processor")
        };
        ours(if self == Self::Proxy { 1 } else { 0 })?;
        let started = start();
        // Whoever measures runs beside the load.
        ours(0)?;
        started
    }
}

impl Place<'_> {
    /// Starts `program` in `scene` and waits until it answers.
    pub fn start(&self, (program, scene): (&Program, &Scene), number: u16) -> anyhow::Result<Running> {
        let first = FIRST + PORTS * number;
        let endpoints = [1, 2].map(|host| {
            let [_, net] = number.to_be_bytes();
            SocketAddr::from((Ipv4Addr::new(127, 77, net, host), HTTP))
        });
        let is_envoy = program.name == PEER;
        let mut command = if is_envoy {
            self.envoy(program, scene, (first, endpoints.to_vec()))?
        } else {
            self.ours(program, scene, (first, &endpoints))?
        };
        if let Some(logs) = self.logs {
            let file = logs.join(format!("{}-{first}.log", program.name));
            let file = fs::File::create(&file).with_context(|| format!("making {}", file.display()))?;
            command.stderr(file.try_clone().context("a log")?).stdout(file);
        }
        let child = On::Proxy.run(|| {
            let started = self.netns.spawn(&mut command).context("entering the network")?;
            started.with_context(|| format!("starting {} (by prlimit and setpriv)", program.name))
        })?;
        let pid = i32::try_from(child.id()).context("a process id")?;
        let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, first));
        let mut running = Running { pid, address, child, _tunnels: None };
        let ready = if is_envoy { (first + 4, "/ready") } else { (first + 3, "/healthz/ready") };
        running.until(self, (SocketAddr::from((Ipv4Addr::LOCALHOST, ready.0)), ready.1))?;
        if scene.way == Way::Tunnels {
            address.set_port(first + 7);
            running._tunnels = Some(self.tunnels(first, address, &endpoints)?);
            running.address = address;
        }
        running.until(self, (running.address, &scene.paths()[0]))?;
        Ok(running)
    }

    fn envoy(
        &self,
        program: &Program,
        scene: &Scene,
        (listen, endpoints): (u16, Vec<SocketAddr>),
    ) -> anyhow::Result<Command> {
        let bootstrap = envoy::bootstrap(scene, &Ports { listen, admin: listen + 4, endpoints });
        let file = self.directory.join(format!("envoy-{listen}.json"));
        fs::write(&file, serde_json::to_vec(&bootstrap)?).context("writing Envoy's configuration")?;
        let mut command = guarded(&program.path)?;
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(&file);
        Ok(command)
    }

    fn ours(
        &self,
        program: &Program,
        scene: &Scene,
        (first, endpoints): (u16, &[SocketAddr]),
    ) -> anyhow::Result<Command> {
        self.control.serve(&self.netns, first + 5, ours::resources(scene, first, endpoints))?;
        let at = |port: u16| format!("http://127.0.0.1:{}", first + port);
        let mut command = guarded(&program.path)?;
        command.env("XDS_ADDRESS", at(5)).env("CA_ADDRESS", at(6)).env("RUST_LOG", "warn");
        command.env("POD_NAME", "front-1").env("POD_NAMESPACE", ours::NAMESPACE);
        command.env("SERVICE_ACCOUNT", "front").env("GATEWAY_NAME", ours::GATEWAY);
        command.env("LISTEN_IP", "127.0.0.1").env("WORKER_THREADS", "1");
        for (name, port) in [("HBONE", 1), ("STATS", 2), ("READY", 3), ("ADMIN", 4)] {
            command.env(format!("{name}_PORT"), (first + port).to_string());
        }
        Ok(command)
    }

    /// Both ends of the mesh around a proxy.
    fn tunnels(&self, first: u16, listen: SocketAddr, endpoints: &[SocketAddr]) -> anyhow::Result<Load> {
        let mut words: Vec<String> = ["tunnels", "--listen"].map(str::to_owned).into();
        words.extend([listen.to_string(), "--via".to_owned(), format!("127.0.0.1:{}", first + 1)]);
        words.extend(["--authority".to_owned(), ours::SERVICE.to_string()]);
        words.extend(["--proxy".to_owned(), PROXY_IDENTITY.to_owned()]);
        words.extend(["--identity".to_owned(), self.directory.display().to_string()]);
        for endpoint in endpoints {
            words.extend(["--take".to_owned(), SocketAddr::new(endpoint.ip(), TUNNEL_PORT).to_string()]);
        }
        On::Load.run(|| Load::start(self.load, &self.netns, &words))
    }
}

/// A command that ends with us and may open as many files as it needs. (The thread that starts it is the main one, which
/// lives as long as we.)
fn guarded(program: &Path) -> anyhow::Result<Command> {
    // A descriptor for each connection that is held.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of descriptors")?;
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={hard}")).args(["setpriv", "--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

impl Running {
    /// Asks until the answer is 200.
    fn until(&mut self, place: &Place<'_>, (address, path): (SocketAddr, &str)) -> anyhow::Result<()> {
        let until = Instant::now() + READY_TIMEOUT;
        loop {
            // Not there yet and no are the same.
            let answer = place.netns.run(|| ask(address, path)).context("entering the network")?;
            if matches!(&answer, Ok(answer) if answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            if let Some(end) = self.child.try_wait().context("looking after a proxy")? {
                bail!("the proxy ended: {end}");
            }
            if Instant::now() > until {
                bail!("http://{address}{path} is not answered with 200 after {READY_TIMEOUT:?}, but {answer:?}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The first bytes of an answer.
fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ASK_TIMEOUT)?;
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}
