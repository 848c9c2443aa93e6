//! The node agent's rooms together: an API server, a door, a ztunnel that says yes, pods as network namespaces.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use lateen_cluster::{
    client::{Access, connect},
    enrol::Rules,
};
use lateen_cni_agent::{
    annotate::Annotator,
    enrol::{Enroller, Turns, snapshot},
    finder::Finder,
    ledger::Ledger,
    pods::Cluster,
    probes::Probes,
    repair,
    rules::{PodOptions, ProbeAddresses, apply::Comparer},
    serve::{self, Door},
    watch::Worker,
    zds::{self, Ztunnels},
};
use lateen_cni_plugin::door::{ADD_PATH, AddEvent, Answer, CHECK_PATH, DEL_PATH, DelEvent, IpConfig, IpNet, ask};
use lateen_embedded_api::{ApiHandle, ApiServer, Options};
use lateen_net::{
    fdpass::SeqpacketStream,
    netns::{Netns, NetnsId},
};
use lateen_rt::{drain::Drain, ready::Readiness, tasks::Tasks};
use lateen_wire::workload::zds::{WorkloadRequest, workload_request::Payload};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

const WAIT: Duration = Duration::from_secs(20);
const POD_IP: &str = "10.1.0.2";

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, wait).await.unwrap_or_else(|_| panic!("not within {WAIT:?}: {what}"));
}

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a well-formed object")
}

/// A node with an API server, which outlive agents.
struct Node {
    _api: ApiHandle,
    client: Client,
    dir: tempfile::TempDir,
    netns: Netns,
    pod: Netns,
}

/// A running agent.
struct Agent {
    ztunnels: Ztunnels,
    drain: Drain,
    tasks: Tasks,
}

impl Node {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("bound"));
        let api = ApiServer::start(Options::default(), vec![listener]).await.expect("starts");
        let dir = tempfile::tempdir().expect("a directory");
        let kubeconfig = dir.path().join("kubeconfig");
        std::fs::write(&kubeconfig, api.kubeconfig(&url, api.admin_token())).expect("written");
        let client = connect(&Access::Kubeconfig(kubeconfig)).await.expect("a client");
        let (netns, pod) = (Netns::create().expect("made"), Netns::create().expect("made"));
        for netns in [&netns, &pod] {
            netns.loopback_up().expect("up");
        }
        output(&pod, "ip", &format!("addr add {POD_IP}/32 dev lo"));
        let named = dir.path().join("var/run/netns");
        std::fs::create_dir_all(&named).expect("made");
        let fd = format!("/proc/{}/fd/{}", std::process::id(), pod.as_fd().as_raw_fd());
        std::os::unix::fs::symlink(fd, named.join("web")).expect("linked");
        let node = Self { _api: api, client, dir, netns, pod };
        let shop: Namespace = of(json!({"metadata": {"name": "shop"}}));
        Api::all(node.client.clone()).create(&PostParams::default(), &shop).await.expect("created");
        node
    }

    fn run_dir(&self) -> &Path {
        self.dir.path()
    }

    fn zds_socket(&self) -> PathBuf {
        self.dir.path().join("ztunnel.sock")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "shop")
    }

    /// A pod on this node whose sandbox is still to be made.
    async fn create_pod(&self) -> String {
        let spec = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "echo"}]});
        let pod: Pod = of(json!({"metadata": {"name": "web"}, "spec": spec}));
        let made = self.pods().create(&PostParams::default(), &pod).await.expect("created");
        made.metadata.uid.expect("a UID")
    }

    async fn set_running(&self) {
        let status = json!({"status": {"phase": "Running", "podIP": POD_IP, "podIPs": [{"ip": POD_IP}]}});
        let patch = Patch::Merge(status);
        self.pods().patch_status("web", &PatchParams::default(), &patch).await.expect("patched");
    }

    async fn label(&self, mode: Option<&str>) {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"istio.io/dataplane-mode": mode}}}));
        let all: Api<Namespace> = Api::all(self.client.clone());
        all.patch("shop", &PatchParams::default(), &patch).await.expect("patched");
    }

    async fn annotation(&self) -> Option<String> {
        let pod = self.pods().get("web").await.expect("the pod");
        pod.metadata.annotations.and_then(|all| all.get("ambient.istio.io/redirection").cloned())
    }

    async fn start(&self) -> Agent {
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let rules = Rules::standard("istio-system");
        let cluster = Cluster::follow(self.client.clone(), "n1", rules, &tasks);
        let ledger = Arc::new(Ledger::load(self.run_dir()));
        let enroller = Arc::new(Enroller {
            ledger: ledger.clone(),
            ztunnels: Ztunnels::default(),
            probes: Probes::new(self.netns.clone(), ProbeAddresses::default()),
            annotator: Annotator::new(self.client.clone()),
            finder: Finder::new(self.netns.id(), self.dir.path()),
            defaults: PodOptions::default(),
            comparer: Comparer::default(),
            turns: Turns::default(),
        });
        cluster.complete().await;
        repair::run(&enroller, &cluster, true).await.expect("takes over");
        let ztunnels = enroller.ztunnels.clone();
        let pods: zds::Snapshot = Arc::new(move || snapshot(&ledger));
        let listener = zds::listen(&self.zds_socket()).expect("listens");
        tasks.spawn("zds", zds::serve(listener, ztunnels.clone(), pods, (tasks.clone(), drain.clone())));
        tasks.spawn("worker", Worker::new(cluster.clone(), enroller.clone()).run(tasks.clone(), drain.clone()));
        let door = Door { enroller, cluster, readiness: Readiness::new() };
        let listener = serve::listen(self.run_dir()).expect("listens");
        tasks.spawn("door", serve::serve(listener, door, (tasks.clone(), drain.clone())));
        Agent { ztunnels, drain, tasks }
    }

    /// Asks as the plugin does.
    async fn ask(&self, path: &'static str, body: impl serde::Serialize + Send + 'static) -> Answer {
        let dir = self.run_dir().to_owned();
        let asked = tokio::task::spawn_blocking(move || ask(&dir, path, &body, Duration::from_secs(5)));
        asked.await.expect("asked").expect("answered")
    }

    fn add_event(&self, uid: &str) -> AddEvent {
        let ip: IpAddr = POD_IP.parse().expect("valid");
        let address = IpNet { ip, mask: "////AA==".into() };
        AddEvent {
            netns: "/var/run/netns/web".into(),
            pod_name: "web".into(),
            pod_namespace: "shop".into(),
            ips: vec![IpConfig { interface: None, address, gateway: String::new() }],
            pod_uid: Some(uid.into()),
            container_id: Some("c1".into()),
            cni_version: Some("1.1.0".into()),
        }
    }

    fn has_rules(&self) -> bool {
        output(&self.pod, "nft", "list tables").contains("lateen-pod")
    }

    fn probed(&self) -> bool {
        output(&self.netns, "nft", "list ruleset").contains(POD_IP)
    }
}

impl Agent {
    /// As SIGTERM does.
    async fn stop(self) {
        self.drain.start();
        // Only the two followers, which have no end of their own, may be left.
        eventually("the agent's tasks end", async || self.tasks.len() <= 2).await;
    }
}

fn output(netns: &Netns, program: &str, line: &str) -> String {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    let output = netns.run(|| command.output()).expect("enter").expect("runs");
    assert!(output.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What a ztunnel was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Add(String, NetnsId),
    Keep(String),
    SnapshotSent,
    Del(String),
}

/// A ztunnel that says yes to everything, until it is dropped.
struct Ztunnel {
    told: mpsc::Receiver<Told>,
    running: tokio::task::AbortHandle,
}

impl Drop for Ztunnel {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Ztunnel {
    fn connect(node: &Node) -> Self {
        let stream = SeqpacketStream::connect(node.zds_socket()).expect("connects");
        let (tell, told) = mpsc::channel(64);
        let running = Tasks::new().spawn("ztunnel", async move {
            stream.send(&[0x08, 0x01], None).await.expect("hello");
            while let Ok(Some(message)) = stream.recv().await {
                let request = WorkloadRequest::decode(message.bytes.as_slice()).expect("a request");
                let netns = message.descriptor.map(|fd| Netns::from_fd(fd).expect("a namespace").id());
                let one = match request.payload.expect("a payload") {
                    Payload::Add(add) => Told::Add(add.uid, netns.expect("an add has a namespace")),
                    Payload::Keep(keep) => Told::Keep(keep.uid),
                    Payload::SnapshotSent(_) => Told::SnapshotSent,
                    Payload::Del(del) => Told::Del(del.uid),
                };
                if stream.send(&[0x0a, 0x00], None).await.is_err() || tell.send(one).await.is_err() {
                    return;
                }
            }
        });
        Self { told, running }
    }

    async fn next(&mut self) -> Told {
        tokio::time::timeout(WAIT, self.told.recv()).await.expect("in time").expect("connected")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_is_enrolled_by_its_label_and_taken_out_without_it() {
    let node = Node::new().await;
    let agent = node.start().await;
    let mut ztunnel = Ztunnel::connect(&node);
    assert_eq!(ztunnel.next().await, Told::SnapshotSent);
    let uid = node.create_pod().await;
    let added = node.ask(ADD_PATH, node.add_event(&uid)).await;
    assert_eq!(added.status, 200, "{}", added.text);
    node.set_running().await;
    assert!(!node.has_rules(), "a pod that is not ours was touched");

    node.label(Some("ambient")).await;
    assert_eq!(ztunnel.next().await, Told::Add(uid.clone(), node.pod.id()));
    eventually("the annotation", async || node.annotation().await.as_deref() == Some("enabled")).await;
    assert!(node.has_rules() && node.probed());
    assert_eq!(node.ask(CHECK_PATH, node.add_event(&uid)).await.status, 200);

    node.label(None).await;
    assert_eq!(ztunnel.next().await, Told::Del(uid.clone()));
    eventually("no annotation", async || node.annotation().await.is_none()).await;
    // Deleted last, since that may take the kernel long; until then they are open.
    eventually("no rules", async || !node.has_rules() && !node.probed()).await;

    // Once more, then the sandbox goes.
    node.label(Some("ambient")).await;
    assert_eq!(ztunnel.next().await, Told::Add(uid.clone(), node.pod.id()));
    eventually("the annotation", async || node.annotation().await.as_deref() == Some("enabled")).await;
    node.pods().delete("web", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    assert_eq!(ztunnel.next().await, Told::Del(uid));
    eventually("no probe rule", async || !node.probed()).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pod_waits_for_ztunnel_and_its_sandboxs_end_is_told() {
    let node = Node::new().await;
    node.label(Some("ambient")).await;
    let agent = node.start().await;
    let uid = node.create_pod().await;
    let refused = node.ask(ADD_PATH, node.add_event(&uid)).await;
    assert_eq!(refused.status, 500);
    assert!(refused.text.contains("no ztunnel connection"), "{}", refused.text);

    let mut ztunnel = Ztunnel::connect(&node);
    // The failed try is on record, so the snapshot has it; the runtime's next try adds it again.
    assert_eq!(ztunnel.next().await, Told::Add(uid.clone(), node.pod.id()));
    assert_eq!(ztunnel.next().await, Told::SnapshotSent);
    let added = node.ask(ADD_PATH, node.add_event(&uid)).await;
    assert_eq!(added.status, 200, "{}", added.text);
    assert_eq!(ztunnel.next().await, Told::Add(uid.clone(), node.pod.id()));
    assert!(node.has_rules() && node.probed());
    assert_eq!(node.annotation().await.as_deref(), Some("enabled"));

    let del = |container: &str| DelEvent {
        container_id: container.into(),
        pod_name: "web".into(),
        pod_namespace: "shop".into(),
        pod_uid: None,
    };
    assert_eq!(node.ask(DEL_PATH, del("another")).await.status, 200);
    assert!(node.probed(), "another sandbox's end took this one's rules");
    assert_eq!(node.ask(DEL_PATH, del("c1")).await.status, 200);
    assert_eq!(ztunnel.next().await, Told::Del(uid));
    assert!(!node.probed());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_without_ztunnel_is_pending_until_one_comes() {
    let node = Node::new().await;
    let agent = node.start().await;
    let uid = node.create_pod().await;
    assert_eq!(node.ask(ADD_PATH, node.add_event(&uid)).await.status, 200);
    node.set_running().await;
    node.label(Some("ambient")).await;
    eventually("pending", async || node.annotation().await.as_deref() == Some("pending")).await;
    assert!(node.has_rules(), "traffic would go out in clear");
    let _ztunnel = Ztunnel::connect(&node);
    eventually("enabled", async || node.annotation().await.as_deref() == Some("enabled")).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_agent_takes_over_and_repairs() {
    let node = Node::new().await;
    node.label(Some("ambient")).await;
    let first = node.start().await;
    let ztunnel = Ztunnel::connect(&node);
    eventually("a ztunnel", async || first.ztunnels.count() == 1).await;
    let uid = node.create_pod().await;
    assert_eq!(node.ask(ADD_PATH, node.add_event(&uid)).await.status, 200);
    node.set_running().await;
    first.stop().await;
    drop(ztunnel);
    assert!(node.has_rules(), "a stopping agent leaves pods as they are");

    output(&node.pod, "nft", "flush table inet lateen-pod");
    output(&node.netns, "nft", "delete table inet lateen-node");
    let second = node.start().await;
    assert!(output(&node.pod, "nft", "list ruleset").contains("redirect to :15001"), "rules were not repaired");
    assert!(node.probed());
    let mut ztunnel = Ztunnel::connect(&node);
    assert_eq!(ztunnel.next().await, Told::Add(uid.clone(), node.pod.id()));
    assert_eq!(ztunnel.next().await, Told::SnapshotSent);
    second.stop().await;

    // Without its ledger and with the namespace gone from the runtime's directory, ztunnel keeps what it has.
    std::fs::remove_file(node.run_dir().join("ledger.json")).expect("there");
    std::fs::remove_file(node.run_dir().join("var/run/netns/web")).expect("there");
    let third = node.start().await;
    let mut ztunnel = Ztunnel::connect(&node);
    assert_eq!(ztunnel.next().await, Told::Keep(uid));
    assert_eq!(ztunnel.next().await, Told::SnapshotSent);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_questions_get_a_clear_answer() {
    let node = Node::new().await;
    let agent = node.start().await;
    let answer = node.ask(ADD_PATH, json!({"Netns": 7})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(node.ask("/nowhere", json!({})).await.status, 404);
    let unknown = node.ask(ADD_PATH, node.add_event("no-such-uid")).await;
    assert_eq!(unknown.status, 500);
    assert!(unknown.text.contains("shop/web"), "{}", unknown.text);
    agent.stop().await;
}
