//! What RFC 9113 and RFC 7541 demand of a server, frame by frame: a table of cases in the order of the RFCs, each on a connection
//! of its own. The numbers are those of the sections, as the public suite h2spec counts its cases. Where an RFC names a closer
//! reason than PROTOCOL_ERROR, h2 names that one all the same when a frame cannot be read at all.

mod compression;
mod connection;
mod flow;
mod messages;
mod streams;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lateen_rt::deadline::within;
use lateen_waypoint::book::Protocol;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    endpoints::{echo, http, raw},
    frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, LINE, PING, RST_STREAM, SETTINGS, block, frame},
    rig::{Rig, Service, soon},
};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
/// A head that is all of its request.
const WHOLE: u8 = END_HEADERS | END_STREAM;

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// Only a case that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A malformed request names this path, which no endpoint may hear of.
const HIDDEN: &str = "/hidden";

/// What a client does.
enum Do {
    Send(Vec<u8>),
    /// Waits for the whole answer on this stream.
    Hear(u32),
}

/// What must come of it.
enum Want {
    /// This stream is answered with 200.
    Served(u32),
    /// The connection goes on as if nothing had happened: a ping is answered, and nothing was ended before.
    Alive,
    /// The stream ends for one of these reasons, or the whole connection.
    Ended(&'static [u32]),
    /// The connection ends for one of these reasons.
    GoAway(&'static [u32]),
}

struct Case {
    /// The section and the number of the case.
    number: &'static str,
    what: &'static str,
    does: Vec<Do>,
    wants: Want,
}

fn case(number: &'static str, what: &'static str, sends: Vec<u8>, wants: Want) -> Case {
    Case { number, what, does: vec![Do::Send(sends)], wants }
}

/// A head of this request, in one frame.
fn head(flags: u8, stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&[&LINE, more].concat()))
}

/// A head of a malformed request.
fn malformed(headers: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(headers))
}

fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let one = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &all.iter().flat_map(one).collect::<Vec<_>>())
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// A frame that came.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload[at..at + 4].try_into().map_or(u32::MAX, u32::from_be_bytes)
    }
}

/// A client that says just what it is told to.
struct Talk(TcpStream);

impl Talk {
    async fn begin(rig: &Rig) -> Self {
        let mut talk = Self(rig.connect(Protocol::Http2).await);
        talk.send(&[PREFACE, &settings(&[])].concat()).await;
        talk
    }

    /// Whoever has closed already is told by what he has said.
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.ok();
    }

    /// `None`: the connection was closed, or nothing comes.
    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        within("a frame", PATIENCE, self.0.read_exact(&mut head)).await.ok()?.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        soon("its payload", self.0.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of these kinds; `None` if the connection ends before it.
    async fn next(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    async fn hear(&mut self, stream: u32) -> bool {
        while let Some(frame) = self.next(&[HEADERS, DATA]).await {
            if frame.stream == stream && frame.flags & END_STREAM != 0 {
                return true;
            }
        }
        false
    }
}

/// Why it is not what was wanted.
async fn judge(talk: &mut Talk, wants: &Want) -> Result<(), String> {
    let endings = [RST_STREAM, GOAWAY];
    let of = |codes: &[u32], frame: &Frame| codes.contains(&frame.code());
    match wants {
        Want::Served(stream) => match talk.next(&[HEADERS, RST_STREAM, GOAWAY]).await {
            // 200 is the eighth entry of the static table.
            Some(of) if of.kind == HEADERS && of.stream == *stream && of.payload.contains(&0x88) => Ok(()),
            other => Err(format!("no 200 on stream {stream}: {other:?}")),
        },
        Want::Alive => {
            talk.send(&frame(PING, 0, 0, b"stillok?")).await;
            match talk.next(&[PING, RST_STREAM, GOAWAY]).await {
                Some(pong) if pong.kind == PING && pong.payload == b"stillok?" => Ok(()),
                other => Err(format!("no pong: {other:?}")),
            }
        }
        Want::Ended(codes) => match talk.next(&endings).await {
            Some(frame) if of(codes, &frame) => Ok(()),
            other => Err(format!("not ended for one of {codes:?}: {other:?}")),
        },
        Want::GoAway(codes) => match talk.next(&[GOAWAY]).await {
            Some(frame) if of(codes, &frame) => Ok(()),
            other => Err(format!("not gone for one of {codes:?}: {other:?}")),
        },
    }
}

/// Tries each on a connection of its own.
async fn check(cases: Vec<Case>) {
    let rig = Rig::serving(Service::default(), &[]);
    let hidden = Arc::new(AtomicUsize::new(0));
    let seen = hidden.clone();
    let answer = move |request: hyper::Request<hyper::body::Incoming>| {
        seen.fetch_add(usize::from(request.uri().path() == HIDDEN), Ordering::SeqCst);
        echo(request)
    };
    let endpoint = raw(&rig, move |stream| http(stream, answer.clone())).await;
    rig.endpoints(&[endpoint.addr]);
    let mut wrong = Vec::new();
    for Case { number, what, does, wants } in cases {
        let mut talk = Talk::begin(&rig).await;
        for step in does {
            match step {
                Do::Send(bytes) => talk.send(&bytes).await,
                Do::Hear(stream) => {
                    if !talk.hear(stream).await {
                        wrong.push(format!("{number} {what}: no answer on stream {stream}"));
                    }
                }
            }
        }
        if let Err(why) = judge(&mut talk, &wants).await {
            wrong.push(format!("{number} {what}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(hidden.load(Ordering::SeqCst), 0, "a malformed request reached the endpoint");
}

/// The table is as long as it says.
#[test]
fn there_are_many_cases() {
    let all = [compression::cases(), connection::cases(), messages::cases(), streams::cases()];
    let mut numbers: Vec<&str> = all.iter().flatten().map(|case| case.number).collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "each has a number of its own");
    assert!(count >= 100, "{count}");
}
