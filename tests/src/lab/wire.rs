//! What crossed between the nodes while something happened.
//!
//! In: `lateen lab capture`. Out: payload by destination port, and whether a word can be read in it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use base64::Engine as _;
use serde::Deserialize;

/// A running capture.
pub struct Capture {
    child: Child,
    output: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Line {
    destination: String,
    payload: String,
}

/// Everything that crossed: where it went, and what it was.
pub struct Wire(Vec<(SocketAddr, Vec<u8>)>);

impl Capture {
    pub(super) fn begin(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut first = String::new();
        output.read_line(&mut first).expect("read");
        assert_eq!(first.trim(), "capturing");
        Self { child, output }
    }

    /// Ends it.
    pub fn finish(mut self) -> Wire {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("read");
        assert!(self.child.wait().expect("ended").success());
        let flow = |line: &str| {
            let line: Line = serde_json::from_str(line).expect("a line of the capture");
            let payload = base64::engine::general_purpose::STANDARD.decode(line.payload).expect("base64");
            (line.destination.parse().expect("an address"), payload)
        };
        Wire(text.lines().map(flow).collect())
    }
}

impl Wire {
    /// Payload bytes sent to a port.
    pub fn bytes_to(&self, port: u16) -> usize {
        self.0.iter().filter(|(to, _)| to.port() == port).map(|(_, payload)| payload.len()).sum()
    }

    /// Whether anyone on the wire can read `word`.
    pub fn shows(&self, word: &str) -> bool {
        self.0.iter().any(|(_, payload)| payload.windows(word.len()).any(|window| window == word.as_bytes()))
    }
}
