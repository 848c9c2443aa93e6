//! What crossed between the nodes while something happened.
//!
//! In: `lateen lab capture` as a child process. Out: bytes by destination port, whether they are TLS records, and whether a
//! given text can be read in them.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use base64::Engine as _;

use super::story;
use crate::{
    lab::capture::{BEGUN, Line},
    output,
};

/// A running capture.
pub(crate) struct Capture {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Capture {
    /// Starts the child and waits until it captures.
    pub(crate) fn begin(mut command: Command) -> anyhow::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting lateen lab capture")?;
        let mut output = BufReader::new(child.stdout.take().context("the capture's output")?);
        let mut first = String::new();
        output.read_line(&mut first).context("waiting for the capture to begin")?;
        ensure!(first.trim() == BEGUN, "the capture did not begin: {first:?}");
        Ok(Self { child, output })
    }

    /// Ends the capture and looks for `secret` in it.
    pub(crate) fn finish(mut self, secret: &str) -> anyhow::Result<Wire> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).context("reading the capture")?;
        ensure!(self.child.wait().context("ending the capture")?.success(), "the capture failed");
        let mut wire = Wire { ports: BTreeMap::new(), readable: false };
        for line in text.lines() {
            wire.add(&serde_json::from_str(line).context("a line of the capture")?, secret)?;
        }
        Ok(wire)
    }
}

/// The sum of a capture.
pub(crate) struct Wire {
    ports: BTreeMap<u16, Port>,
    /// Whether the secret can be read anywhere.
    pub readable: bool,
}

/// What went to one port.
#[derive(Default)]
struct Port {
    bytes: usize,
    flows: usize,
    tls_flows: usize,
}

impl Wire {
    fn add(&mut self, flow: &Line, secret: &str) -> anyhow::Result<()> {
        let payload = base64::engine::general_purpose::STANDARD.decode(&flow.payload).context("a flow's payload")?;
        self.readable |= payload.windows(secret.len()).any(|window| window == secret.as_bytes());
        let to: std::net::SocketAddr = flow.destination.parse().context("a flow's destination")?;
        let port = self.ports.entry(to.port()).or_default();
        port.bytes += payload.len();
        port.flows += usize::from(!payload.is_empty());
        port.tls_flows += usize::from(is_tls(&payload));
        Ok(())
    }

    /// Payload bytes sent to a port.
    pub(crate) fn bytes_to(&self, port: u16) -> usize {
        self.ports.get(&port).map_or(0, |port| port.bytes)
    }

    /// Whether everything sent to a port is TLS records.
    pub(crate) fn only_tls_on(&self, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|port| port.flows > 0 && port.flows == port.tls_flows)
    }

    /// Shows the well-known ports; ephemeral ones are the other direction of the same connections.
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        story::say("on the wire between the nodes:")?;
        for (number, port) in self.ports.iter().filter(|(number, port)| **number < 32768 && port.bytes > 0) {
            let kind = if port.flows == port.tls_flows { "TLS records" } else { "plain bytes" };
            output::line(format_args!("   │ to port {number}: {} bytes, {kind}", port.bytes))?;
        }
        let found = if self.readable { "READABLE" } else { "not readable anywhere" };
        output::line(format_args!("   │ the secret is {found}"))
    }
}

/// Whether the bytes are TLS records from beginning to end (RFC 8446 §5.1); the last one may be cut off. A capture that
/// begins in the middle of a connection begins in the middle of no record, because each record is written whole.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_records_to_the_end() {
        assert!(is_tls(&[22, 3, 1, 0, 2, 1, 2, 23, 3, 3, 0, 1, 9]));
        assert!(is_tls(&[23, 3, 3, 0, 9, 1, 2]), "the last record may be cut off");
        for plain in [&b"GET / HTTP/1.1\r\n"[..], b"", &[22, 3, 1, 0, 1, 1, b'G', b'E', b'T', b' ', b'/']] {
            assert!(!is_tls(plain), "{plain:?}");
        }
    }
}
