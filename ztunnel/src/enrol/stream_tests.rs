//! The conversation against a scripted agent, with real sockets and namespaces and recorded proxies.

use std::{os::fd::AsFd as _, sync::Arc};

use lateen_net::fdpass::SeqpacketListener;
use lateen_rt::{ready::Readiness, tasks::Tasks};
use parking_lot::Mutex;

use super::*;

/// Proxies that only write down what was asked.
#[derive(Default)]
struct Recorded {
    seen: Mutex<Vec<String>>,
    refuse: Mutex<bool>,
}

impl Proxies for Arc<Recorded> {
    async fn start(&self, pod: &Pod<Room>) -> Result<(), String> {
        if *self.refuse.lock() {
            return Err("port taken".into());
        }
        self.seen.lock().push(format!("start {}", pod.uid));
        Ok(())
    }
    async fn stop(&self, uid: &PodUid) {
        self.seen.lock().push(format!("stop {uid}"));
    }
    fn waits(&self, pod: &Pod<Room>) {
        self.seen.lock().push(format!("waits {}", pod.uid));
    }
    fn forget(&self, _: &PodUid) {}
}

struct Agent {
    listener: SeqpacketListener,
    stream: Option<SeqpacketStream>,
    proxies: Arc<Recorded>,
    readiness: Readiness,
    drain: Drain,
    tasks: Tasks,
    _directory: tempfile::TempDir,
}

impl Agent {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("zds.sock");
        let listener = SeqpacketListener::bind(&path).expect("bind");
        let (proxies, readiness, drain, tasks) =
            (Arc::<Recorded>::default(), Readiness::new(), Drain::new(), Tasks::new());
        let (served, ending, condition) =
            (proxies.clone(), drain.clone(), readiness.condition("workload proxy manager"));
        tasks.spawn("enrol", async move { run(path, &served, &condition, &ending).await });
        let mut agent = Self { listener, stream: None, proxies, readiness, drain, tasks, _directory: directory };
        agent.accept().await;
        agent
    }

    async fn accept(&mut self) {
        let accepted = tokio::time::timeout(Duration::from_secs(5), self.listener.accept()).await;
        let stream = accepted.expect("redialled").expect("accept");
        assert_eq!(self.next(&stream).await.expect("hello"), message::hello());
        self.stream = Some(stream);
    }

    async fn next(&self, stream: &SeqpacketStream) -> Option<Vec<u8>> {
        let packet = tokio::time::timeout(Duration::from_secs(5), stream.recv()).await.expect("in time");
        packet.expect("readable").map(|packet| packet.bytes)
    }

    /// Sends hex bytes and returns the answer's error text.
    async fn ask(&self, request: &str, netns: Option<&Netns>) -> String {
        let bytes: Vec<u8> = (0..request.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&request[at..at + 2], 16).expect("hex"))
            .collect();
        let stream = self.stream.as_ref().expect("connected");
        stream.send(&bytes, netns.map(|netns| netns.as_fd())).await.expect("send");
        let answer = self.next(stream).await.expect("an answer");
        String::from_utf8_lossy(&answer[2..]).into_owned()
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.proxies.seen.lock())
    }

    fn is_ready(&self) -> bool {
        self.readiness.pending().is_empty()
    }

    async fn end(self) {
        self.drain.force();
        self.tasks.join(Duration::from_secs(5)).await.expect("no task is left");
    }
}

const ADD_U1: &str = "0a0f0a02753112090a017012016e1a0173";
const SNAPSHOT_SENT: &str = "1a00";
const DEL_U1: &str = "120412027531";
const KEEP_U1: &str = "2a040a027531";

#[tokio::test]
async fn pods_are_started_kept_and_stopped() {
    let (mut agent, netns, other) =
        (Agent::start().await, Netns::create().expect("create"), Netns::create().expect("create"));
    assert!(!agent.is_ready());
    assert_eq!(agent.ask(ADD_U1, Some(&netns)).await, "");
    assert_eq!(agent.ask(SNAPSHOT_SENT, None).await, "");
    assert!(agent.is_ready());
    assert_eq!(agent.ask(ADD_U1, Some(&netns)).await, "");
    assert_eq!(agent.seen(), ["start u1"], "the same pod is not started again");
    assert_eq!(agent.ask(ADD_U1, Some(&other)).await, "");
    assert_eq!(agent.seen(), ["stop u1", "start u1"], "another namespace replaces it");

    agent.stream = None;
    agent.accept().await;
    assert!(!agent.is_ready() && agent.seen().is_empty(), "a lost agent stops nothing");
    assert_eq!(agent.ask(KEEP_U1, None).await, "");
    assert_eq!(agent.ask(SNAPSHOT_SENT, None).await, "");
    assert!(agent.is_ready() && agent.seen().is_empty());

    agent.stream = None;
    agent.accept().await;
    assert_eq!(agent.ask(SNAPSHOT_SENT, None).await, "");
    assert_eq!(agent.seen(), ["stop u1"], "what the new snapshot does not name is stopped");
    assert_eq!(agent.ask(DEL_U1, None).await, "", "an unknown pod is deleted without complaint");
    agent.end().await;
}

#[tokio::test]
async fn whatever_breaks_the_protocol_is_refused_and_the_conversation_begins_again() {
    let (mut agent, netns) = (Agent::start().await, Netns::create().expect("create"));
    for (request, with_netns, words) in [
        (ADD_U1, false, "carries no descriptor"),
        (DEL_U1, true, "only Add may carry"),
        ("0a040a027531", true, "workload_info"),
        ("12040a027531", false, "uid is empty"),
        ("ffff", false, "not a WorkloadRequest"),
    ] {
        let error = agent.ask(request, with_netns.then_some(&netns)).await;
        assert!(error.contains(words), "{error:?} does not say {words:?}");
        let stream = agent.stream.take().expect("connected");
        assert!(agent.next(&stream).await.is_none(), "the connection is ended");
        agent.accept().await;
    }
    assert_eq!(agent.ask(SNAPSHOT_SENT, None).await, "");
    assert!(agent.ask(KEEP_U1, None).await.contains("Keep after SnapshotSent"));
    agent.accept().await;
    assert!(agent.seen().is_empty());
    agent.end().await;
}

#[tokio::test]
async fn a_descriptor_that_is_no_namespace_is_refused() {
    let agent = Agent::start().await;
    let file = tempfile::tempfile().expect("a file");
    let stream = agent.stream.as_ref().expect("connected");
    let add: Vec<u8> = vec![0x0a, 0x0f, 0x0a, 2, b'u', b'1', 0x12, 9, 0x0a, 1, b'p', 0x12, 1, b'n', 0x1a, 1, b's'];
    stream.send(&add, Some(file.as_fd())).await.expect("send");
    assert!(agent.next(stream).await.expect("an answer").len() > 2, "a reason is given");
    assert_eq!(agent.ask(SNAPSHOT_SENT, None).await, "", "the conversation goes on");
    assert!(agent.seen().is_empty());
    agent.end().await;
}

#[tokio::test]
async fn a_failed_start_is_told_and_readiness_follows_the_next_success() {
    let (agent, netns) = (Agent::start().await, Netns::create().expect("create"));
    agent.ask(SNAPSHOT_SENT, None).await;
    assert!(agent.is_ready());
    *agent.proxies.refuse.lock() = true;
    assert!(agent.ask(ADD_U1, Some(&netns)).await.contains("port taken"));
    assert!(agent.is_ready(), "a failure alone changes nothing");
    agent.ask("12041202757a", None).await;
    assert!(!agent.is_ready());
    *agent.proxies.refuse.lock() = false;
    let ready = async {
        while !agent.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ready).await.expect("tried again by itself");
    assert_eq!(agent.seen(), ["waits u1", "start u1"]);
    agent.end().await;
}

#[test]
fn an_agent_that_is_away_is_named_once_and_looked_for_ever_less_often() {
    let away = || End::Dial(std::io::ErrorKind::NotFound.into());
    let mut redial = Redial::new();
    // The first conversation ended after a snapshot, so the agent's pods are known all the while.
    let first = redial.after(&End::Closed, true);
    assert_eq!((first.wait, first.is_news), (REDIAL_START, true));
    let looks: Vec<Next> = (0..10).map(|_| redial.after(&away(), true)).collect();
    assert_eq!(looks.iter().filter(|next| next.is_news).count(), 1);
    assert!(looks.windows(2).all(|two| two[0].wait <= two[1].wait), "{looks:?}");
    assert_eq!(looks.last().map(|next| next.wait), Some(ABSENT_MAX));
    assert_eq!(redial.after(&End::Closed, true), Next { wait: REDIAL_START, is_news: true }, "it was there again");
    assert!(redial.after(&away(), true).is_news);
}
