//! A scripted node agent: the server's side of the enrolment protocol.

use std::{os::fd::AsFd as _, path::Path, time::Duration};

use lateen_net::{
    fdpass::{SeqpacketListener, SeqpacketStream},
    netns::Netns,
};
use lateen_wire::workload::zds::{
    AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, WorkloadInfo, WorkloadRequest, WorkloadResponse,
    workload_request::Payload, workload_response,
};
use prost::Message as _;

/// The agent of one node.
pub struct Agent {
    listener: SeqpacketListener,
    stream: Option<SeqpacketStream>,
}

impl Agent {
    /// Listens at `path`.
    pub fn new(path: &Path) -> Self {
        Self { listener: SeqpacketListener::bind(path).expect("bind"), stream: None }
    }

    /// Waits for a ztunnel and its hello.
    pub async fn accept(&mut self) {
        let accepted = tokio::time::timeout(Duration::from_secs(60), self.listener.accept()).await;
        let stream = accepted.expect("a ztunnel connects within 60 s").expect("accept");
        assert_eq!(receive(&stream).await, [8, 1], "hello, version 1");
        self.stream = Some(stream);
    }

    /// Drops the connection, as an agent that restarts does.
    pub fn hang_up(&mut self) {
        self.stream = None;
    }

    /// Enrols a pod of namespace `default` under the account of its name; the answer's error text.
    pub async fn add(&self, name: &str, netns: &Netns) -> String {
        let info = WorkloadInfo { name: name.into(), namespace: "default".into(), service_account: name.into() };
        let add = AddWorkload { uid: format!("uid-{name}"), workload_info: Some(info) };
        self.ask(Payload::Add(add), Some(netns)).await
    }

    /// Names a pod without its namespace.
    pub async fn keep(&self, name: &str) -> String {
        self.ask(Payload::Keep(KeepWorkload { uid: format!("uid-{name}") }), None).await
    }

    /// Ends a pod.
    pub async fn del(&self, name: &str) -> String {
        self.ask(Payload::Del(DelWorkload { uid: format!("uid-{name}") }), None).await
    }

    /// Ends the snapshot.
    pub async fn snapshot_sent(&self) -> String {
        self.ask(Payload::SnapshotSent(SnapshotSent {}), None).await
    }

    async fn ask(&self, payload: Payload, netns: Option<&Netns>) -> String {
        let stream = self.stream.as_ref().expect("connected");
        let bytes = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        stream.send(&bytes, netns.map(|netns| netns.as_fd())).await.expect("send");
        let answer = WorkloadResponse::decode(&*receive(stream).await).expect("a response");
        match answer.payload.expect("an ack") {
            workload_response::Payload::Ack(ack) => ack.error,
        }
    }
}

async fn receive(stream: &SeqpacketStream) -> Vec<u8> {
    let received = tokio::time::timeout(Duration::from_secs(20), stream.recv()).await.expect("an answer within 20 s");
    received.expect("readable").expect("not closed").bytes
}
