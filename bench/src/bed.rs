//! A lab with one ztunnel program, its pods, and a server in each pod that answers.
//!
//! In: a program. Out: networks and addresses to put load on, and the proxies' processes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use lateen_lab::{
    config::{Mesh, Parts},
    world::{
        enter,
        up::{Life, Running, Start, up},
    },
};
use lateen_net::netns::Netns;
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    config::Program,
    load::Load,
    pods::{self, Role, Side},
    proc,
};

/// The servers' first port.
const PORT: u16 = 7000;
const LAB_TIMEOUT: Duration = Duration::from_secs(180);
const KNOWN_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const ADMIN_PORT: u16 = 15000;

/// A pod.
pub(crate) struct Place {
    /// Its network.
    pub netns: Netns,
    /// Its server, if it has one.
    pub server: Option<Load>,
    /// The server's address and first port.
    pub address: SocketAddr,
}

/// One lab.
pub(crate) struct Bed {
    /// What tables call its program.
    pub name: String,
    /// Its proxies' processes, by node.
    pub proxies: Vec<i32>,
    places: BTreeMap<(Side, Role), Place>,
    lab: Running,
}

impl Bed {
    /// Brings up a lab for `program` with servers from `load`.
    pub fn make(runtime: &Runtime, program: &Program, load: &Path) -> anyhow::Result<Self> {
        let parts = Parts { ztunnel: Some(program.path.clone()), ..Parts::default() };
        let start = Start {
            name: program.name.clone(),
            nodes: 2,
            port: 0,
            mesh: Mesh::With(parts),
            life: Life::WithCaller,
            timeout: LAB_TIMEOUT,
        };
        let lab = up(&start, |_| {})?;
        let addresses = runtime.block_on(pods::make(&lab.state.kubeconfig()))?;
        let processes = proc::descendants(lab.state.pid()?.as_raw())?;
        let mut places = BTreeMap::new();
        for ((side, role), address) in addresses {
            let mark = format!("{}/{}", side.namespace(), role.name());
            let marked = |process: &&proc::Process| process.variable(pods::MARK) == Some(&mark);
            let process = processes.iter().find(marked).with_context(|| format!("no process of pod {mark}"))?;
            let netns = Netns::open(format!("/proc/{}/ns/net", process.pid)).context("the pod's network")?;
            let serve = ["serve".to_owned(), PORT.to_string()];
            let server = match role {
                Role::Client => None,
                Role::Near | Role::Far => Some(Load::start(load, &netns, &serve)?),
            };
            places.insert((side, role), Place { netns, server, address: SocketAddr::new(address, PORT) });
        }
        let is_proxy =
            |process: &&proc::Process| process.variable("POD_NAME").is_some_and(|name| name.starts_with("ztunnel-"));
        let proxies: Vec<i32> = processes.iter().filter(is_proxy).map(|process| process.pid).collect();
        if proxies.len() != 2 {
            bail!("{} proxies run in the lab {:?}, not one on each node", proxies.len(), program.name);
        }
        let bed = Self { name: program.name.clone(), proxies, places, lab };
        bed.known()?;
        Ok(bed)
    }

    /// A pod.
    pub fn place(&mut self, side: Side, role: Role) -> anyhow::Result<&mut Place> {
        self.places.get_mut(&(side, role)).context("a pod of every lab")
    }

    /// Where its API is.
    pub fn kubeconfig(&self) -> PathBuf {
        self.lab.state.kubeconfig()
    }

    /// Ends the lab.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.places.clear();
        self.lab.end()
    }

    /// Waits until every proxy knows the meshed pods as such: what is measured before would be passed through.
    fn known(&self) -> anyhow::Result<()> {
        let until = Instant::now() + KNOWN_TIMEOUT;
        while self.knowing()? < self.proxies.len() {
            if Instant::now() > until {
                bail!("the proxies of the lab {:?} do not know the pods after {KNOWN_TIMEOUT:?}", self.name);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn knowing(&self) -> anyhow::Result<usize> {
        let mut knowing = 0;
        for proxy in enter::noted(&self.lab.state)? {
            if proxy.namespace == "istio-system" && proxy.pod.starts_with("ztunnel") {
                let dump = enter::ask(&self.lab.state, &proxy, ADMIN_PORT, "/config_dump")?;
                let dump: serde_json::Value = serde_json::from_slice(&dump).context("a proxy's dump")?;
                knowing += usize::from(meshed_in(&dump) == 3);
            }
        }
        Ok(knowing)
    }
}

fn meshed_in(dump: &serde_json::Value) -> usize {
    let workloads = dump["workloads"].as_array().map(Vec::as_slice).unwrap_or_default();
    let meshed = |workload: &&serde_json::Value| {
        workload["namespace"] == Side::Meshed.namespace() && workload["protocol"] == "HBONE"
    };
    workloads.iter().filter(meshed).count()
}
