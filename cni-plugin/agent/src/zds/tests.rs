use lateen_wire::workload::zds::{WorkloadRequest, workload_request::Payload};
use prost::Message as _;

use super::*;

const HELLO: &[u8] = &[0x08, 0x01];
const ACK: &[u8] = &[0x0a, 0x00];
const WAIT: Duration = Duration::from_secs(5);

struct Agent {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    ztunnels: Ztunnels,
    drain: Drain,
}

fn agent(pods: Vec<Workload>) -> Agent {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ztunnel.sock");
    let (ztunnels, drain) = (Ztunnels::default(), Drain::new());
    let listener = listen(&path).expect("listens");
    let tasks = Tasks::new();
    let serving = serve(listener, ztunnels.clone(), Arc::new(move || pods.clone()), (tasks.clone(), drain.clone()));
    tasks.spawn("serve", serving);
    Agent { _dir: dir, path, ztunnels, drain }
}

fn workload(uid: &str, netns: Option<Netns>) -> Workload {
    let word = |text: &str| text.to_owned();
    Workload { uid: uid.into(), name: word("p"), namespace: word("n"), service_account: word("s"), netns }
}

/// A ztunnel that answers only when the test says so.
struct Scripted {
    stream: SeqpacketStream,
}

impl Scripted {
    async fn connect(agent: &Agent) -> Self {
        let stream = SeqpacketStream::connect(&agent.path).expect("connects");
        stream.send(HELLO, None).await.expect("hello");
        Self { stream }
    }

    async fn next(&self) -> (Payload, Option<Netns>) {
        let received = within("a message", WAIT, self.stream.recv()).await.expect("in time").expect("received");
        let message = received.expect("open");
        let request = WorkloadRequest::decode(message.bytes.as_slice()).expect("a request");
        let netns = message.descriptor.map(|fd| Netns::from_fd(fd).expect("a namespace"));
        (request.payload.expect("a payload"), netns)
    }

    async fn ack(&self) {
        self.stream.send(ACK, None).await.expect("ack");
    }

    async fn take(&self) -> (Payload, Option<Netns>) {
        let got = self.next().await;
        self.ack().await;
        got
    }

    /// Past an empty snapshot.
    async fn ready(agent: &Agent) -> Self {
        let ztunnel = Self::connect(agent).await;
        assert!(matches!(ztunnel.take().await.0, Payload::SnapshotSent(_)));
        ztunnel
    }

    async fn closed(&self) -> bool {
        matches!(within("the end", WAIT, self.stream.recv()).await, Ok(Ok(None) | Err(_)))
    }
}

#[tokio::test]
async fn the_snapshot_adds_what_is_held_and_keeps_what_is_not() {
    let netns = Netns::create().expect("a namespace");
    let agent = agent(vec![workload("u1", Some(netns.clone())), workload("u2", None)]);
    let ztunnel = Scripted::connect(&agent).await;
    let (Payload::Add(add), Some(passed)) = ztunnel.take().await else { panic!("an add with its namespace") };
    assert_eq!((add.uid.as_str(), passed.id()), ("u1", netns.id()));
    assert_eq!(add.workload_info.expect("info").service_account, "s");
    let (Payload::Keep(keep), None) = ztunnel.take().await else { panic!("a keep without descriptor") };
    assert_eq!(keep.uid, "u2");
    assert!(matches!(ztunnel.take().await, (Payload::SnapshotSent(_), None)));
    agent.drain.start();
    assert!(ztunnel.closed().await);
}

#[tokio::test]
async fn messages_wait_for_their_ack_and_carry_its_word() {
    let agent = agent(Vec::new());
    let ztunnel = Scripted::ready(&agent).await;
    let netns = Netns::create().expect("a namespace");
    let (added, ()) = tokio::join!(agent.ztunnels.add(workload("u1", Some(netns.clone()))), async {
        let (Payload::Add(add), Some(_)) = ztunnel.next().await else { panic!("an add") };
        assert_eq!(add.uid, "u1");
        ztunnel.stream.send(b"\x0a\x06\x0a\x04boom", None).await.expect("nack");
    });
    assert!(matches!(added, Err(ZdsError::Refused(reason)) if reason == "boom"));
    let uid = PodUid::from("u1");
    let (deleted, ()) = tokio::join!(agent.ztunnels.del(&uid), async {
        let (Payload::Del(del), None) = ztunnel.take().await else { panic!("a del") };
        assert_eq!(del.uid, "u1");
    });
    deleted.expect("acked");
}

#[tokio::test]
async fn adds_go_to_the_newest_and_deletes_to_all() {
    let agent = agent(Vec::new());
    assert!(matches!(agent.ztunnels.add(workload("u", None)).await, Err(ZdsError::NoConnection)));
    agent.ztunnels.del(&"u".into()).await.expect("nobody to tell");
    let old = Scripted::ready(&agent).await;
    let new = Scripted::ready(&agent).await;
    let netns = Netns::create().expect("a namespace");
    let (added, got) = tokio::join!(agent.ztunnels.add(workload("u1", Some(netns.clone()))), new.take());
    added.expect("the newest took it");
    assert!(matches!(got.0, Payload::Add(_)));
    let uid = PodUid::from("u1");
    let (deleted, from_old, from_new) = tokio::join!(agent.ztunnels.del(&uid), old.take(), new.take());
    deleted.expect("both did");
    assert!(matches!((from_old.0, from_new.0), (Payload::Del(_), Payload::Del(_))));
    drop(new);
    within("the newest is gone", WAIT, async {
        while agent.ztunnels.count() != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("noticed");
    let (added, got) = tokio::join!(agent.ztunnels.add(workload("u2", Some(netns))), old.take());
    added.expect("the one before is the newest again");
    assert!(matches!(got.0, Payload::Add(_)));
}

#[tokio::test]
async fn a_pod_added_during_the_snapshot_is_not_lost() {
    let agent = agent(vec![workload("u1", None)]);
    let ztunnel = Scripted::connect(&agent).await;
    assert!(matches!(ztunnel.next().await.0, Payload::Keep(_)));
    let netns = Netns::create().expect("a namespace");
    let (added, ()) = tokio::join!(agent.ztunnels.add(workload("u2", Some(netns))), async {
        ztunnel.ack().await;
        assert!(matches!(ztunnel.take().await.0, Payload::SnapshotSent(_)));
        assert!(matches!(ztunnel.take().await.0, Payload::Add(add) if add.uid == "u2"));
    });
    added.expect("after the snapshot");
}

#[tokio::test]
async fn a_ztunnel_that_breaks_the_rules_is_dropped() {
    let agent = agent(Vec::new());
    for hello in [&[0x08, 0x02][..], &[], &[0xff], b"GET / HTTP/1.1"] {
        let stream = SeqpacketStream::connect(&agent.path).expect("connects");
        if !hello.is_empty() {
            stream.send(hello, None).await.expect("sent");
            assert!(Scripted { stream }.closed().await, "{hello:?}");
        }
    }
    let unasked = Scripted::ready(&agent).await;
    unasked.ack().await;
    assert!(unasked.closed().await);
    assert_eq!(agent.ztunnels.count(), 0);
}
