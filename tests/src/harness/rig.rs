//! Two nodes with a ztunnel each, and pods on them.
//!
//! ```text
//!  node-1: ztunnel, pods a (10.77.0.11) and b (10.77.0.12)      plain pod c (10.77.0.13, no rules)
//!  node-2: ztunnel, pod d (10.77.0.21)                          VIPs 10.96.0.0/16 and fd00:96::/64
//! ```

use lateen_cni_agent::rules::{self, DnsCapture, PodOptions};
use lateen_net::netns::Netns;
use lateen_rt::tasks::Tasks;
use lateen_wire::workload as wire;

use super::{
    agent::Agent,
    control::{Control, Serving},
    eventually,
    fabric::Fabric,
    node::{Start, Ztunnel},
    resources::{behind, plain, pod, service},
};

/// Port of the control plane on each node's loopback.
pub const CONTROL_PORT: u16 = 15012;
/// A service with `b` and `d` behind it, 80 → 8080.
pub const WEB: &str = "web.default.svc.cluster.local";

/// How pods of one node reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameNode {
    /// Without a tunnel, as is the default.
    Direct,
    /// By tunnel.
    Hbone,
}

impl SameNode {
    /// Both, one after the other.
    pub const BOTH: [Self; 2] = [Self::Direct, Self::Hbone];

    fn value(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Hbone => "hbone",
        }
    }
}

/// One node.
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Where its ztunnel runs.
    pub netns: Netns,
    /// Its agent.
    pub agent: Agent,
    /// Its ztunnel.
    pub ztunnel: Ztunnel,
    serving: Option<Serving>,
    directory: tempfile::TempDir,
    pods: Vec<(&'static str, Netns)>,
}

/// Everything.
pub struct Rig {
    /// What the proxies are told.
    pub control: Control,
    /// The nodes.
    pub nodes: [Node; 2],
    /// Pods, in the mesh but for `c`.
    pub a: Netns,
    /// On node 1 with `a`.
    pub b: Netns,
    /// Outside the mesh.
    pub c: Netns,
    /// On node 2.
    pub d: Netns,
    /// Of servers and the like.
    pub tasks: Tasks,
    /// Last, so that the bridge outlives what hangs on it.
    _fabric: Fabric,
}

/// The workloads of the picture above.
pub fn workloads() -> Vec<wire::Workload> {
    vec![
        pod("a", "node-1", &["10.77.0.11", "fd00:77::11"]),
        behind(pod("b", "node-1", &["10.77.0.12", "fd00:77::12"]), WEB),
        plain(pod("c", "node-1", &["10.77.0.13", "fd00:77::13"])),
        behind(pod("d", "node-2", &["10.77.0.21", "fd00:77::21"]), WEB),
    ]
}

impl Rig {
    /// A rig that works: everything enrolled and ready.
    pub async fn start() -> Self {
        let rig = Self::start_with(&[]).await;
        for node in &rig.nodes {
            node.settle().await;
        }
        rig
    }

    /// A rig that works, with pods of one node reaching each other so.
    pub async fn start_in(same_node: SameNode) -> Self {
        let rig = Self::start_with(&[("SAME_NODE", same_node.value())]).await;
        for node in &rig.nodes {
            node.settle().await;
        }
        rig
    }

    /// The same as [`Rig::start`], with these further variables for each ztunnel, and enrolled but perhaps not settled.
    pub async fn start_with(extra: &[(&str, &str)]) -> Self {
        let (fabric, control, tasks) = (Fabric::new(), Control::new(), Tasks::new());
        control.workloads(workloads());
        control.services([service(WEB, &["10.96.0.10", "fd00:96::10"], &[(80, 8080)])]);
        let attach = |number: u8| fabric.attach(&[&format!("10.77.0.{number}/24"), &format!("fd00:77::{number}/64")]);
        let (a, b, c, d) = (attach(11), attach(12), attach(13), attach(21));
        for pod in [&a, &b, &d] {
            redirect(pod).await;
        }
        let near = vec![("a", a.clone()), ("b", b.clone())];
        let far = vec![("d", d.clone())];
        let first = Node::start("node-1", attach(101), (&control, extra), near).await;
        let second = Node::start("node-2", attach(102), (&control, extra), far).await;
        Self { control, nodes: [first, second], a, b, c, d, tasks, _fabric: fabric }
    }
}

async fn redirect(pod: &Netns) {
    let options = PodOptions { dns: DnsCapture::Off, ..PodOptions::default() };
    rules::apply::apply(pod, &rules::plan::plan(&options)).await.expect("the rules apply");
}

impl Node {
    async fn start(
        name: &'static str,
        netns: Netns,
        (control, extra): (&Control, &[(&str, &str)]),
        pods: Vec<(&'static str, Netns)>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("zds.sock");
        let serving = Some(control.serve(&netns, CONTROL_PORT));
        let mut agent = Agent::new(&path);
        let start = Start { node: name, control_port: CONTROL_PORT, agent: &path, extra };
        let ztunnel = Ztunnel::start(&netns, &start);
        agent.accept().await;
        let node = Self { name, netns, agent, ztunnel, serving, directory, pods };
        node.enrol().await;
        node
    }

    /// Names every pod of the node to the ztunnel that is connected.
    pub async fn enrol(&self) {
        for (name, netns) in &self.pods {
            assert_eq!(self.agent.add(name, netns).await, "", "pod {name} is served");
        }
        assert_eq!(self.agent.snapshot_sent().await, "");
    }

    /// Waits until its ztunnel is ready.
    pub async fn settle(&self) {
        eventually("readiness", || async { self.ztunnel.is_ready().await.then_some(()) }).await;
    }

    /// Starts another ztunnel beside the present one and returns the old one.
    pub async fn replace_ztunnel(&mut self) -> Ztunnel {
        let path = self.directory.path().join("zds.sock");
        let start = Start {
            node: self.name,
            control_port: CONTROL_PORT,
            agent: &path,
            extra: &[
            // The old one has the usual ports of the node.
        ],
        };
        let new = Ztunnel::start(&self.netns, &start);
        let old = std::mem::replace(&mut self.ztunnel, new);
        self.agent.accept().await;
        self.enrol().await;
        old
    }

    /// The control plane vanishes for this node.
    pub fn lose_control(&mut self) {
        self.serving = None;
    }

    /// And is back.
    pub fn regain_control(&mut self, control: &Control) {
        self.serving = Some(control.serve(&self.netns, CONTROL_PORT));
    }
}
