//! The plugin's question to the node agent, in the words of Istio's, so that either side may be Istio's.
//!
//! In: an event. Out: the agent's status and text, over HTTP/1.1 on a Unix stream socket, under one deadline.
//! Absent on purpose: what an answer means for the pod.

use std::{
    io::{Read as _, Write as _},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, sync_channel},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::PodIp;

/// How long the agent may take for everything.
pub const DOOR_TIMEOUT: Duration = Duration::from_secs(5);
/// The file of the socket in the agent's run directory.
pub const SOCKET: &str = "pluginevent.sock";
/// A pod is to be enrolled if it is ours.
pub const ADD_PATH: &str = "/cmdadd";
/// A pod's sandbox goes; not known to Istio's agent.
pub const DEL_PATH: &str = "/cmddel";
/// Is the pod as it should be; not known to Istio's agent.
pub const CHECK_PATH: &str = "/cmdcheck";
/// Which sandboxes still exist; not known to Istio's agent.
pub const GC_PATH: &str = "/cmdgc";
/// Could an ADD succeed now; not known to Istio's agent.
pub const STATUS_PATH: &str = "/status";
/// An answer is a short sentence.
const ANSWER_MAX: u64 = 64 * 1024;

/// The body of `/cmdadd` and `/cmdcheck`. The first four fields are the reference's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddEvent {
    /// Path of the pod's network namespace as the node sees it.
    #[serde(rename = "Netns")]
    pub netns: String,
    /// The pod's name.
    #[serde(rename = "PodName")]
    pub pod_name: String,
    /// Its namespace.
    #[serde(rename = "PodNamespace")]
    pub pod_namespace: String,
    /// Its addresses.
    #[serde(rename = "IPs", default, deserialize_with = "null_is_empty")]
    pub ips: Vec<IpConfig>,
    /// Its UID, where the runtime passed it.
    #[serde(rename = "PodUID", default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// The runtime's id of the sandbox.
    #[serde(rename = "ContainerID", default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The version of CNI the runtime speaks.
    #[serde(rename = "CNIVersion", default, skip_serializing_if = "Option::is_none")]
    pub cni_version: Option<String>,
}

/// An address as Go writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index of the interface in the CNI result.
    #[serde(rename = "Interface", default)]
    pub interface: Option<u32>,
    /// Address and mask.
    #[serde(rename = "Address")]
    pub address: IpNet,
    /// The gateway; empty for none.
    #[serde(rename = "Gateway", default, deserialize_with = "null_is_empty")]
    pub gateway: String,
}

/// `net.IPNet` of Go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpNet {
    /// The address.
    #[serde(rename = "IP")]
    pub ip: IpAddr,
    /// The mask's bytes in base64.
    #[serde(rename = "Mask", default, deserialize_with = "null_is_empty")]
    pub mask: String,
}

/// The body of `/cmddel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelEvent {
    /// The runtime's id of the sandbox.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// The pod's name, where known.
    #[serde(rename = "PodName", default)]
    pub pod_name: String,
    /// Its namespace, where known.
    #[serde(rename = "PodNamespace", default)]
    pub pod_namespace: String,
    /// Its UID, where known.
    #[serde(rename = "PodUID", default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// The body of `/cmdgc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcEvent {
    /// Sandboxes that still exist; everything else may be forgotten.
    #[serde(rename = "ValidContainerIDs")]
    pub valid_container_ids: Vec<String>,
}

impl From<PodIp> for IpConfig {
    fn from(ip: PodIp) -> Self {
        let gateway = ip.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        Self { interface: ip.interface, address: IpNet { ip: ip.address, mask: mask(ip.address, ip.prefix) }, gateway }
    }
}

fn mask(address: IpAddr, prefix: u8) -> String {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(_) => BASE64_STANDARD.encode(u32::MAX.checked_shl(32 - prefix).unwrap_or(0).to_be_bytes()),
        IpAddr::V6(_) => BASE64_STANDARD.encode(u128::MAX.checked_shl(128 - prefix).unwrap_or(0).to_be_bytes()),
    }
}

/// Go writes an empty slice or address as `null`.
fn null_is_empty<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// What the agent said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its sentence.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent answers at {path}: {source}")]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What connect said.
        source: std::io::Error,
    },
    /// The agent took too long.
    #[error("the agent at {path} did not answer within {after:?}")]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke.
    #[error("talking to the agent at {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What broke.
        source: std::io::Error,
    },
    /// What came back is not HTTP.
    #[error("the agent at {path} did not answer in HTTP")]
    NotHttp {
        /// The socket.
        path: PathBuf,
    },
}

/// Posts `body` to `path` on the agent in `run_dir`, all within `timeout`.
pub fn ask(run_dir: &Path, path: &str, body: &impl Serialize, timeout: Duration) -> Result<Answer, AskError> {
    let socket = run_dir.join(SOCKET);
    let body = serde_json::to_vec(body)
        .map_err(|error| AskError::Io { path: socket.clone(), source: std::io::Error::other(error) })?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: unix\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), &body].concat();
    // On a thread of its own, because a connect to a socket with a full backlog waits as long as it likes; if the
    // deadline passes, the process ends and the thread with it.
    let (tell, told) = sync_channel(1);
    let at = socket.clone();
    std::thread::spawn(move || {
        // Nobody listens any more after the deadline; then the answer does not matter.
        let _ = tell.send(exchange(&at, &request, timeout));
    });
    match told.recv_timeout(timeout) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(AskError::Timeout { path: socket, after: timeout })
        }
    }
}

fn exchange(socket: &Path, request: &[u8], timeout: Duration) -> Result<Answer, AskError> {
    let mut stream =
        UnixStream::connect(socket).map_err(|source| AskError::NoAgent { path: socket.to_owned(), source })?;
    let mut bytes = Vec::new();
    let mut talk = || -> std::io::Result<()> {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.write_all(request)?;
        (&stream).take(ANSWER_MAX).read_to_end(&mut bytes)?;
        Ok(())
    };
    talk().map_err(|source| AskError::Io { path: socket.to_owned(), source })?;
    parse_answer(&bytes).ok_or_else(|| AskError::NotHttp { path: socket.to_owned() })
}

/// Status and body of a whole HTTP/1 response; `None` if it is not one.
pub fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok().filter(|status| (100..600).contains(status))?;
    let text = String::from_utf8_lossy(bytes.get(end + 4..)?).trim().to_owned();
    Some(Answer { status, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_is_the_references_json() {
        let ip = PodIp {
            interface: Some(2),
            address: "10.0.0.5".parse().expect("valid"),
            prefix: 24,
            gateway: "10.0.0.1".parse().ok(),
        };
        let event = AddEvent {
            netns: "/var/run/netns/x".into(),
            pod_name: "p".into(),
            pod_namespace: "n".into(),
            ips: vec![ip.into()],
            pod_uid: None,
            container_id: None,
            cni_version: None,
        };
        let expected = r#"{"Netns":"/var/run/netns/x","PodName":"p","PodNamespace":"n","IPs":[{"Interface":2,"Address":{"IP":"10.0.0.5","Mask":"////AA=="},"Gateway":"10.0.0.1"}]}"#;
        assert_eq!(serde_json::to_string(&event).expect("serializes"), expected);
        assert_eq!(serde_json::from_str::<AddEvent>(expected).expect("parses"), event);
    }

    #[test]
    fn masks_of_every_length_are_bytes() {
        let v4 = "10.0.0.1".parse().expect("valid");
        let v6 = "fd00::1".parse().expect("valid");
        assert_eq!(mask(v4, 0), BASE64_STANDARD.encode([0; 4]));
        assert_eq!(mask(v4, 32), BASE64_STANDARD.encode([255; 4]));
        assert_eq!(mask(v6, 0), BASE64_STANDARD.encode([0; 16]));
        let expected = [[255; 8], [0; 8]].concat();
        assert_eq!(mask(v6, 64), BASE64_STANDARD.encode(expected));
    }

    #[test]
    fn what_go_leaves_empty_is_read() {
        let event: AddEvent =
            serde_json::from_str(r#"{"Netns":"/x","PodName":"p","PodNamespace":"n","IPs":null}"#).expect("parses");
        assert!(event.ips.is_empty());
        let event: AddEvent = serde_json::from_str(
            r#"{"Netns":"/x","PodName":"p","PodNamespace":"n","IPs":[{"Interface":null,"Address":{"IP":"fd00::5","Mask":null},"Gateway":""}]}"#,
        )
        .expect("parses");
        assert_eq!(event.ips[0].address.ip.to_string(), "fd00::5");
    }

    #[test]
    fn answers_are_read_or_refused() {
        let answer = parse_answer(b"HTTP/1.1 500 Internal Server Error\r\nA: b\r\n\r\nno ztunnel\n").expect("HTTP");
        assert_eq!((answer.status, answer.text.as_str()), (500, "no ztunnel"));
        for bytes in [&b""[..], b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 9999 x\r\n\r\n"] {
            assert_eq!(parse_answer(bytes), None);
        }
    }
}
