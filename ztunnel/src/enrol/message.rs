//! One packet of the agent (pure).
//!
//! In: bytes, and whether a descriptor came with them. Out: a [`Request`], or what is wrong with it; and our answers as
//! bytes. Absent on purpose: sockets, what a request leads to.

use lateen_state::workload::PodKey;
use lateen_types::name::PodUid;
use lateen_wire::workload::zds::{
    Ack, Version, WorkloadInfo, WorkloadRequest, WorkloadResponse, ZdsHello, workload_request::Payload,
    workload_response,
};
use prost::Message as _;

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Serve this pod; its network namespace came along.
    Add {
        /// The key.
        uid: PodUid,
        /// Who it is.
        pod: PodKey,
    },
    /// Go on serving this pod if we do; the agent does not know its namespace any more.
    Keep(PodUid),
    /// Stop serving this pod.
    Del(PodUid),
    /// All pods of the node were named.
    SnapshotSent,
}

/// What is wrong with a packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Not the protocol's message.
    #[error("not a WorkloadRequest")]
    Bytes,
    /// None of the requests we know.
    #[error("no known request is set")]
    Empty,
    /// An Add without the namespace.
    #[error("Add carries no descriptor; it needs the pod's network namespace")]
    NoDescriptor,
    /// Another request with a descriptor.
    #[error("only Add may carry a descriptor")]
    StrayDescriptor,
    /// An Add that does not say who the pod is.
    #[error("Add carries no workload_info")]
    NoInfo,
    /// A request without its key.
    #[error("uid is empty")]
    NoUid,
}

/// Reads one packet.
pub fn request(bytes: &[u8], with_descriptor: bool) -> Result<Request, BadMessage> {
    let message = WorkloadRequest::decode(bytes).map_err(|_| BadMessage::Bytes)?;
    let payload = message.payload.ok_or(BadMessage::Empty)?;
    match (&payload, with_descriptor) {
        (Payload::Add(_), false) => return Err(BadMessage::NoDescriptor),
        (Payload::Add(_), true) => {}
        (_, true) => return Err(BadMessage::StrayDescriptor),
        (_, false) => {}
    }
    match payload {
        Payload::Add(add) => {
            let pod = pod(add.workload_info.ok_or(BadMessage::NoInfo)?);
            Ok(Request::Add { uid: uid(&add.uid)?, pod })
        }
        Payload::Keep(keep) => Ok(Request::Keep(uid(&keep.uid)?)),
        // An empty uid here is what a sender with the wrong field number produces; the reference then deletes nothing
        // and acknowledges. We say so.
        Payload::Del(del) => Ok(Request::Del(uid(&del.uid)?)),
        Payload::SnapshotSent(_) => Ok(Request::SnapshotSent),
    }
}

fn uid(text: &str) -> Result<PodUid, BadMessage> {
    if text.is_empty() { Err(BadMessage::NoUid) } else { Ok(text.into()) }
}

fn pod(info: WorkloadInfo) -> PodKey {
    PodKey { name: info.name.into(), namespace: info.namespace.into(), service_account: info.service_account.into() }
}

/// The first and only packet we send unasked.
pub fn hello() -> Vec<u8> {
    ZdsHello { version: Version::V1.into() }.encode_to_vec()
}

/// The answer to one request; `None` is success.
pub fn ack(error: Option<&str>) -> Vec<u8> {
    let error = error.map(cut).unwrap_or_default().to_owned();
    WorkloadResponse { payload: Some(workload_response::Payload::Ack(Ack { error })) }.encode_to_vec()
}

/// The agent reads at most 1024 bytes; the reason must fit with its framing.
fn cut(reason: &str) -> &str {
    const REASON_MAX: usize = 900;
    match reason.char_indices().find(|(at, c)| at + c.len_utf8() > REASON_MAX) {
        Some((end, _)) => &reason[..end],
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_reference() {
        assert_eq!(hello(), hex("0801"));
        assert_eq!(ack(None), hex("0a00"));
        assert_eq!(ack(Some("boom")), hex("0a060a04626f6f6d"));
        assert_eq!(request(&hex("1a00"), false), Ok(Request::SnapshotSent));
        assert_eq!(request(&hex("120412027531"), false), Ok(Request::Del("u1".into())));
        assert_eq!(request(&hex("2a040a027531"), false), Ok(Request::Keep("u1".into())));
        let pod = PodKey { name: "p".into(), namespace: "n".into(), service_account: "s".into() };
        let add = hex("0a0f0a02753112090a017012016e1a0173");
        assert_eq!(request(&add, true), Ok(Request::Add { uid: "u1".into(), pod }));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |bytes: &str, descriptor, expected| assert_eq!(request(&hex(bytes), descriptor), Err(expected));
        check("ff", false, BadMessage::Bytes);
        check("", false, BadMessage::Empty);
        check("0a0f0a02753112090a017012016e1a0173", false, BadMessage::NoDescriptor);
        check("120412027531", true, BadMessage::StrayDescriptor);
        check("0a040a027531", true, BadMessage::NoInfo);
        // Del with the uid in field 1, as an older agent would send it.
        check("12040a027531", false, BadMessage::NoUid);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters_and_fits() {
        for reason in ["é".repeat(2000), "x".repeat(2000)] {
            assert!(ack(Some(&reason)).len() <= 1024);
        }
    }
}
