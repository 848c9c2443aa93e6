//! The conversation with one ztunnel.
//!
//! ```text
//! hello ─► add|keep … each with its ack ─► snapshot sent, ack ─► add|del … each with its ack
//! ```
//! One message is under way at a time; each side has 5 s. A broken rule ends the conversation, and ztunnel dials again.

use std::time::Duration;

use lateen_net::fdpass::{MessageError, SeqpacketStream};
use lateen_rt::deadline::{Elapsed, within};
use lateen_wire::workload::zds::{
    AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, Version, WorkloadInfo, WorkloadRequest, WorkloadResponse,
    ZdsHello, workload_request::Payload, workload_response,
};
use prost::Message as _;

use super::{Order, Snapshot, Workload, ZdsError, Ztunnels};

const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    #[error("ztunnel sent what is not {expected}: {source}")]
    Decode { expected: &'static str, source: prost::DecodeError },
    #[error("ztunnel speaks version {0} of the protocol; we speak 1")]
    Version(i32),
    #[error("ztunnel sent a descriptor; it has none to send")]
    Descriptor,
    #[error("ztunnel spoke unasked")]
    Unasked,
    #[error("ztunnel's answer holds no ack")]
    NoAck,
    #[error("ztunnel closed the connection")]
    Closed,
    #[error("there are too many ztunnels already")]
    TooMany,
}

/// Talks until the connection ends.
pub(super) async fn run(stream: SeqpacketStream, ztunnels: Ztunnels, snapshot: Snapshot) {
    if let Err(error) = hello(&stream).await {
        tracing::warn!(%error, "a ztunnel did not say hello");
        return;
    }
    let mut place = None;
    let ended = talk(&stream, &ztunnels, &snapshot, &mut place).await;
    drop(place);
    match ended {
        Ok(()) | Err(SessionError::Closed) => tracing::info!("a ztunnel has left"),
        Err(error) => tracing::warn!(%error, "the conversation with a ztunnel ended"),
    }
}

/// Leaves the list of ztunnels when dropped, also when the task is.
struct Place {
    ztunnels: Ztunnels,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ztunnels.leave(self.id);
    }
}

async fn hello(stream: &SeqpacketStream) -> Result<(), SessionError> {
    let bytes = receive(stream, "waiting for ztunnel's hello").await?;
    let hello =
        ZdsHello::decode(bytes.as_slice()).map_err(|source| SessionError::Decode { expected: "a hello", source })?;
    if hello.version == Version::V1 as i32 { Ok(()) } else { Err(SessionError::Version(hello.version)) }
}

async fn talk(
    stream: &SeqpacketStream,
    ztunnels: &Ztunnels,
    snapshot: &Snapshot,
    place: &mut Option<Place>,
) -> Result<(), SessionError> {
    // First the queue, then the snapshot: a pod added between the two is told twice rather than never.
    let (id, mut orders) = ztunnels.join().ok_or(SessionError::TooMany)?;
    *place = Some(Place { ztunnels: ztunnels.clone(), id });
    let workloads = snapshot();
    tracing::info!(pods = workloads.len(), "a ztunnel connected; sending the snapshot");
    for workload in &workloads {
        if let Some(error) = add_or_keep(stream, workload).await? {
            tracing::warn!(pod = %workload.uid, error, "ztunnel did not take a pod of the snapshot; it tries again");
        }
    }
    exchange(stream, Payload::SnapshotSent(SnapshotSent {}), None).await?;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            said = stream.recv() => {
                return Err(if said?.is_some() { SessionError::Unasked } else { SessionError::Closed });
            }
        };
        match order {
            // The sender lives as long as our place.
            None => return Ok(()),
            Some(Order::Add(workload, tell)) => {
                // Nobody waits any more after a timeout; the answer then does not matter.
                let _ = tell.send(answer(add_or_keep(stream, &workload).await?));
            }
            Some(Order::Del(uid, tell)) => {
                let del = Payload::Del(DelWorkload { uid: uid.as_str().to_owned() });
                let _ = tell.send(answer(exchange(stream, del, None).await?));
            }
        }
    }
}

fn answer(error: Option<String>) -> Result<(), ZdsError> {
    error.map_or(Ok(()), |text| Err(ZdsError::Refused(text)))
}

async fn add_or_keep(stream: &SeqpacketStream, workload: &Workload) -> Result<Option<String>, SessionError> {
    let uid = workload.uid.as_str().to_owned();
    let Some(netns) = &workload.netns else {
        return exchange(stream, Payload::Keep(KeepWorkload { uid }), None).await;
    };
    let workload_info = Some(WorkloadInfo {
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        service_account: workload.service_account.clone(),
    });
    exchange(stream, Payload::Add(AddWorkload { uid, workload_info }), Some(netns)).await
}

/// One message and its ack. Out: ztunnel's complaint, if it has one.
async fn exchange(
    stream: &SeqpacketStream,
    payload: Payload,
    netns: Option<&lateen_net::netns::Netns>,
) -> Result<Option<String>, SessionError> {
    use std::os::fd::AsFd as _;
    let bytes = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
    let sent = stream.send(&bytes, netns.map(|netns| netns.as_fd()));
    within("writing to ztunnel", MESSAGE_TIMEOUT, sent).await??;
    let answer = receive(stream, "waiting for ztunnel's ack").await?;
    let response = WorkloadResponse::decode(answer.as_slice())
        .map_err(|source| SessionError::Decode { expected: "an ack", source })?;
    let Some(workload_response::Payload::Ack(ack)) = response.payload else { return Err(SessionError::NoAck) };
    Ok(Some(ack.error).filter(|error| !error.is_empty()))
}

async fn receive(stream: &SeqpacketStream, what: &'static str) -> Result<Vec<u8>, SessionError> {
    let message = within(what, MESSAGE_TIMEOUT, stream.recv()).await??.ok_or(SessionError::Closed)?;
    if message.descriptor.is_some() {
        return Err(SessionError::Descriptor);
    }
    Ok(message.bytes)
}
