//! What is said on a connection: so many bytes each way, or HTTP/1.1. Pure.
//!
//! In: bytes as they come. Out: requests to write, whether a reply is whole. Absent on purpose: bodies of requests, chunked
//! replies, anything else that the load's own server does not say.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{REPLY, REQUEST};

/// More than any head of a reply.
const HEAD_MAX: usize = 8192;

/// How to speak HTTP, where it is spoken.
#[derive(Debug, Clone, Args)]
pub(crate) struct Speech {
    /// Speak HTTP/1.1 with exactly the address given: a GET of each path (a line) in this file, in turn
    #[arg(long, value_name = "FILE")]
    paths: Option<PathBuf>,
    /// The host those requests name
    #[arg(long, default_value = "shop.example")]
    host: String,
}

/// What is said.
#[derive(Debug)]
pub(crate) enum Talk {
    /// [`REQUEST`] bytes, answered by [`REPLY`] bytes.
    Bytes,
    /// These requests, in turn.
    Http(Vec<Vec<u8>>),
}

/// As much of a reply as has come.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    got: usize,
    /// Until the head is whole.
    head: Vec<u8>,
    /// How long all of it is, once that is known.
    whole: Option<usize>,
}

impl Talk {
    /// As asked.
    pub fn of(speech: &Speech) -> anyhow::Result<Self> {
        let Some(file) = &speech.paths else { return Ok(Self::Bytes) };
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let requests: Vec<Vec<u8>> = text.lines().map(|path| request(path, &speech.host)).collect();
        if requests.is_empty() {
            bail!("{} names no path", file.display());
        }
        Ok(Self::Http(requests))
    }

    /// The request of this turn.
    pub fn request(&self, turn: usize) -> &[u8] {
        match self {
            Self::Bytes => &[b'q'; REQUEST],
            Self::Http(requests) => &requests[turn % requests.len()],
        }
    }

    /// Takes in what has come; whether the reply is whole now.
    pub fn hear(&self, reply: &mut Reply, bytes: &[u8]) -> anyhow::Result<bool> {
        reply.got += bytes.len();
        let whole = match (self, reply.whole) {
            (Self::Bytes, _) => REPLY,
            (Self::Http(_), Some(whole)) => whole,
            (Self::Http(_), None) => match reply.head(bytes)? {
                Some(whole) => whole,
                None => return Ok(false),
            },
        };
        if reply.got > whole {
            bail!("a reply of {} bytes where {whole} were to come", reply.got);
        }
        Ok(reply.got == whole)
    }
}

impl Reply {
    /// Looks for the end of the head; how long the whole reply is, once that is known.
    fn head(&mut self, bytes: &[u8]) -> anyhow::Result<Option<usize>> {
        // Nearly always it comes at once, and nothing is kept.
        let kept = !self.head.is_empty();
        if kept {
            self.head.extend_from_slice(bytes);
        }
        let all = if kept { &self.head[..] } else { bytes };
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else {
            if all.len() > HEAD_MAX {
                bail!("a reply whose head does not end");
            }
            if !kept {
                self.head = bytes.to_vec();
            }
            return Ok(None);
        };
        let head = std::str::from_utf8(&all[..end]).context("a head that is no text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 200") {
            bail!("the answer is {status:?}");
        }
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let whole = end + 4 + length.context("a reply that does not say its length")?;
        self.whole = Some(whole);
        Ok(Some(whole))
    }
}

/// As a browser's or another service's: a handful of headers.
fn request(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: lateen-load/1\r\naccept: application/json, text/plain;q=0.9\r\n\
         accept-encoding: gzip\r\nx-request-id: 6f1f3a0e-4f7c-4a3e-9d0c-0d6f7f2f9b11\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\ncookie: session=0123456789abcdef\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Talk {
        Talk::Http(vec![request("/a", "h")])
    }

    #[test]
    fn a_reply_is_whole_however_it_is_cut() {
        let reply = b"HTTP/1.1 200 OK\r\nx: y\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 1..reply.len() {
            let mut heard = Reply::default();
            assert!(!talk().hear(&mut heard, &reply[..cut]).expect("valid"), "{cut}");
            assert!(talk().hear(&mut heard, &reply[cut..]).expect("valid"), "{cut}");
        }
        assert!(talk().hear(&mut Reply::default(), &[&reply[..], b"!"].concat()).is_err(), "too much");
    }

    #[test]
    fn what_is_no_answer_of_our_server_is_an_error() {
        for bad in ["HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(talk().hear(&mut Reply::default(), bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_counted() {
        let mut heard = Reply::default();
        assert!(!Talk::Bytes.hear(&mut heard, &[0; REPLY - 1]).expect("fewer"));
        assert!(Talk::Bytes.hear(&mut heard, &[0]).expect("all"));
        assert!(Talk::Bytes.hear(&mut heard, &[0]).is_err());
    }
}
