//! What crossed between the nodes of the test cluster.
//!
//! In: tcpdump on the wire's namespace, as a file. Out: bytes by destination port, and whether a text can be read in them.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use super::driver::{Cluster, Ours};

/// A running capture of TCP between two pods.
pub struct Capture {
    child: Child,
    file: tempfile::NamedTempFile,
}

/// All that two pods said to each other, each direction of each connection put together.
#[derive(Debug, Default)]
pub struct Wire {
    flows: BTreeMap<Flow, Stream>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
}

#[derive(Debug, Default)]
struct Stream {
    next: Option<u32>,
    bytes: Vec<u8>,
}

impl Capture {
    /// Begins to record what passes between the first node and the others, on whatever port.
    pub fn begin(cluster: &Cluster, ours: &Ours) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new("ip");
        // As root, since it could not write our file as anybody else.
        command.args(["netns", "exec", &ours.wire, "tcpdump", "-Z", "root", "-i", &cluster.nodes[0]]);
        command.args(["-n", "-U", "--immediate-mode", "-s", "0", "-w"]);
        // Pods only: the nodes' own words with the API server are not the mesh's.
        command.arg(file.path()).arg("tcp and src net 10.230.0.0/16 and dst net 10.230.0.0/16");
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("tcpdump is installed");
        let mut said = String::new();
        let mut words = BufReader::new(child.stderr.take().expect("piped"));
        while !said.contains("listening on") {
            said.clear();
            assert!(words.read_line(&mut said).expect("readable") > 0, "tcpdump ended at once");
        }
        std::thread::spawn(move || std::io::copy(&mut words, &mut std::io::sink()));
        Self { child, file }
    }

    /// Ends the capture.
    pub fn finish(mut self) -> Wire {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("told");
        self.child.wait().expect("tcpdump ends");
        let mut bytes = Vec::new();
        self.file.reopen().expect("there").read_to_end(&mut bytes).expect("readable");
        Wire::read(&bytes)
    }
}

impl Wire {
    /// A capture file of version 2.4 with Ethernet frames, in this machine's byte order.
    fn read(bytes: &[u8]) -> Self {
        let mut wire = Self::default();
        let mut rest = bytes.get(24..).unwrap_or_default();
        while let Some((head, after)) = rest.split_at_checked(16) {
            let length = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
            let Some((frame, next)) = after.split_at_checked(length) else { break };
            wire.packet(frame);
            rest = next;
        }
        wire
    }

    fn packet(&mut self, frame: &[u8]) -> Option<()> {
        let ip = frame.get(14..)?;
        let header = usize::from(ip.first()? & 0xf) * 4;
        let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let address = |at: usize| Some(Ipv4Addr::from_octets(ip.get(at..at + 4)?.try_into().ok()?));
        let tcp = ip.get(header..length)?;
        let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
        let flow = Flow { from: (address(12)?, port(0)?), to: (address(16)?, port(2)?) };
        let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
        let begins = tcp.get(13)? & 2 != 0;
        let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
        let stream = self.flows.entry(flow).or_default();
        if begins {
            *stream = Stream { next: Some(sequence.wrapping_add(1)), bytes: Vec::new() };
        }
        let expected = *stream.next.get_or_insert(sequence);
        // What was seen before, as after a loss, is cut off.
        let seen = expected.wrapping_sub(sequence) as usize;
        if let Some(new) = payload.get(seen..).filter(|new| !new.is_empty()) {
            stream.bytes.extend_from_slice(new);
            stream.next = Some(sequence.wrapping_add(u32::try_from(payload.len()).ok()?));
        }
        Some(())
    }

    /// Payload bytes sent to a port.
    pub fn bytes_to(&self, port: u16) -> usize {
        self.flows.iter().filter(|(flow, _)| flow.to.1 == port).map(|(_, stream)| stream.bytes.len()).sum()
    }

    /// Whether the text can be read anywhere.
    pub fn shows(&self, secret: &str) -> bool {
        let in_it = |stream: &Stream| stream.bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        self.flows.values().any(in_it)
    }

    /// Whether everything sent to a port is TLS records (RFC 8446 section 5.1), from the first byte seen to the last.
    pub fn only_tls_to(&self, port: u16) -> bool {
        let mut streams =
            self.flows.iter().filter(|(flow, stream)| flow.to.1 == port && !stream.bytes.is_empty()).peekable();
        streams.peek().is_some() && streams.all(|(_, stream)| is_tls(&stream.bytes))
    }

    /// Every destination port below the ephemeral ones that got bytes.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> =
            self.flows.iter().filter(|(_, stream)| !stream.bytes.is_empty()).map(|(flow, _)| flow.to.1).collect();
        ports.retain(|port| *port < 32768);
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// The last record may be cut off.
fn is_tls(payload: &[u8]) -> bool {
    let mut rest = payload;
    while let [kind, 3, minor, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(20..=23).contains(kind) || *minor > 3 || length > 16384 + 256 {
            return false;
        }
        rest = after.get(length..).unwrap_or(&[]);
    }
    !payload.is_empty() && rest.len() < 5
}
