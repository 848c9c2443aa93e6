//! HTTP/2 frame by frame from a raw socket: what breaks the protocol ends its stream or its connection, with the reason
//! that RFC 9113 names, and reaches no endpoint.

use lateen_waypoint::book::Protocol;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    endpoints::{Endpoint, echoing},
    rig::{Rig, Service, soon},
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literals without indexing, as they are (RFC 7541 §6.2.2).
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in headers {
        out.push(0);
        for text in [name, value] {
            put_length(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn put_length(out: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return out.push(u8::try_from(length).expect("below 127"));
    };
    out.push(127);
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).expect("below 128") | 0x80);
        rest /= 128;
    }
    out.push(u8::try_from(rest).expect("below 128"));
}

pub const LINE: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];

fn request(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&LINE, more].concat())
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Status(String),
    Reset(u32),
    GoAway(u32),
    Closed,
}

pub struct Peer(TcpStream);

impl Peer {
    pub async fn begin(rig: &Rig) -> Self {
        let mut stream = rig.connect(Protocol::Http2).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("write");
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("write");
        Self(stream)
    }

    /// A peer that has closed already is told by what it has said.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.ok();
    }

    pub async fn next(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        soon("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        soon("its payload", self.0.read_exact(&mut payload)).await.ok()?;
        Some((head[3], head[4], payload))
    }

    async fn outcome(&mut self) -> Came {
        let code = |payload: &[u8]| u32::from_be_bytes(payload[payload.len() - 4..].try_into().expect("four"));
        while let Some((kind, _, payload)) = self.next().await {
            match kind {
                RST_STREAM => return Came::Reset(code(&payload)),
                GOAWAY => return Came::GoAway(code(&payload[..8])),
                // Statuses are indexed: 200 is the eighth entry, and 400 the twelfth (RFC 7541, appendix A).
                HEADERS => return Came::Status(status(&payload)),
                _ => {}
            }
        }
        Came::Closed
    }
}

pub fn status(block: &[u8]) -> String {
    let known = ["200", "204", "206", "304", "400", "404", "500"];
    match block.iter().find(|byte| **byte >= 0x80) {
        Some(indexed) if (0x88..=0x8e).contains(indexed) => known[usize::from(indexed - 0x88)].to_owned(),
        _ => format!("{block:?}"),
    }
}

async fn rig() -> (Rig, Endpoint) {
    let rig = Rig::serving(Service::default(), &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    (rig, echo)
}

/// Whether the protocol was found broken for this reason. Where RFC 9113 names a closer one, h2 may name the general one.
fn is_for(came: &Came, reason: u32) -> bool {
    matches!(came, Came::Reset(code) | Came::GoAway(code) if *code == reason || *code == PROTOCOL_ERROR)
}

/// Sends each of the rows on a connection of its own; none of them is a request.
async fn check(rows: Vec<(&str, Vec<u8>, u32)>) {
    let (rig, echo) = rig().await;
    let mut wrong = Vec::new();
    for (what, bytes, reason) in rows {
        let mut peer = Peer::begin(&rig).await;
        peer.send(&bytes).await;
        let came = peer.outcome().await;
        if !is_for(&came, reason) {
            wrong.push(format!("{what}: {came:?} and not {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(echo.connections(), 0, "none of it was a request");
}

#[tokio::test]
async fn a_request_of_plain_frames_is_served() {
    let (rig, _echo) = rig().await;
    let mut peer = Peer::begin(&rig).await;
    let whole = request(&[("te", "trailers")]);
    // A block in pieces is one block.
    let (first, rest) = whole.split_at(7);
    peer.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    peer.send(&frame(CONTINUATION, END_HEADERS, 1, rest)).await;
    assert_eq!(peer.outcome().await, Came::Status("200".to_owned()));
    peer.send(&frame(PING, 0, 0, b"12345678")).await;
    let pong = loop {
        if let (PING, flags, payload) = peer.next().await.expect("the connection is open") {
            break (flags, payload);
        }
    };
    assert_eq!(pong, (ACK, b"12345678".to_vec()));
}

#[tokio::test]
async fn malformed_requests_end_their_stream() {
    let ended = |headers: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(headers));
    let with = |more: (&'static str, &'static str)| ended(&[&LINE[..], &[more]].concat());
    let mut rows = vec![
        ("no method", ended(&LINE[1..]), PROTOCOL_ERROR),
        ("no path", ended(&LINE[..3]), PROTOCOL_ERROR),
        ("no scheme", ended(&[LINE[0], LINE[2], LINE[3]]), PROTOCOL_ERROR),
        ("a path twice", with((":path", "/y")), PROTOCOL_ERROR),
        ("an unknown pseudo header", with((":x", "1")), PROTOCOL_ERROR),
        ("a status in a request", with((":status", "200")), PROTOCOL_ERROR),
        ("an upper case name", with(("X-A", "1")), PROTOCOL_ERROR),
        ("connection", with(("connection", "close")), PROTOCOL_ERROR),
        ("keep-alive", with(("keep-alive", "1")), PROTOCOL_ERROR),
        ("proxy-connection", with(("proxy-connection", "close")), PROTOCOL_ERROR),
        ("transfer-encoding", with(("transfer-encoding", "chunked")), PROTOCOL_ERROR),
        ("upgrade", with(("upgrade", "h2c")), PROTOCOL_ERROR),
        ("te other than trailers", with(("te", "gzip")), PROTOCOL_ERROR),
        ("a line end in a value", with(("x-a", "1\r\nhost: b")), PROTOCOL_ERROR),
        ("a NUL in a value", with(("x-a", "1\0")), PROTOCOL_ERROR),
        ("an empty path", ended(&[LINE[0], LINE[1], LINE[2], (":path", "")]), PROTOCOL_ERROR),
        ("a space in the path", ended(&[LINE[0], LINE[1], LINE[2], (":path", "/a b")]), PROTOCOL_ERROR),
        ("a line end in the method", ended(&[(":method", "GET\r\n"), LINE[1], LINE[2], LINE[3]]), PROTOCOL_ERROR),
    ];
    let late = [("x-a", "1"), LINE[0], LINE[1], LINE[2], LINE[3]];
    rows.push(("a pseudo header after others", ended(&late), PROTOCOL_ERROR));
    let short =
        [frame(HEADERS, END_HEADERS, 1, &request(&[("content-length", "9")])), frame(DATA, END_STREAM, 1, b"abc")];
    rows.push(("less than the length", short.concat(), PROTOCOL_ERROR));
    check(rows).await;
}

#[tokio::test]
async fn broken_frames_end_the_connection() {
    let whole = || request(&[]);
    let settings = |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    let rows = vec![
        ("data on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        ("data on a stream that is not open", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        ("headers on stream 0", frame(HEADERS, END_HEADERS, 0, &whole()), PROTOCOL_ERROR),
        ("headers on a server's stream", frame(HEADERS, END_HEADERS, 2, &whole()), PROTOCOL_ERROR),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &whole()), PROTOCOL_ERROR),
        (
            "another frame within a block",
            [frame(HEADERS, 0, 1, &whole()), frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL_ERROR,
        ),
        ("a block that cannot be read", frame(HEADERS, END_HEADERS, 1, &[0xff; 8]), COMPRESSION_ERROR),
        ("a reset of a stream that is not open", frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL_ERROR),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("an acknowledgement that says something", frame(SETTINGS, ACK, 0, &[0; 6]), FRAME_SIZE_ERROR),
        ("a window that is too large", settings(4, 1 << 31), FLOW_CONTROL_ERROR),
        ("a frame size that is too small", settings(5, 1), PROTOCOL_ERROR),
        ("a window update of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        (
            "a window that overflows",
            [
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            ]
            .concat(),
            FLOW_CONTROL_ERROR,
        ),
        ("a frame that is too long", frame(DATA, 0, 1, &vec![0; 20_000]), FRAME_SIZE_ERROR),
        ("more padding than data", frame(DATA, 8 | END_STREAM, 1, &[200, 1, 2]), PROTOCOL_ERROR),
        (
            "a request after its end",
            [frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&LINE[1..])), frame(DATA, 0, 1, b"x")].concat(),
            STREAM_CLOSED,
        ),
    ];
    check(rows).await;
}

/// CVE-2023-44487: requests that are taken back at once cost their sender nothing, so somebody must count.
#[tokio::test]
async fn who_takes_back_request_after_request_is_sent_away() {
    let (rig, _echo) = rig().await;
    let mut peer = Peer::begin(&rig).await;
    let head = request(&[]);
    let mut flood = Vec::new();
    for stream in (1..2_000).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS, stream, &head));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    peer.send(&flood).await;
    loop {
        match peer.outcome().await {
            Came::GoAway(code) => break assert_eq!(code, ENHANCE_YOUR_CALM),
            Came::Closed => panic!("it was closed without a word"),
            Came::Status(_) | Came::Reset(_) => {}
        }
    }
    super::rig::until("nothing is under way", || rig.lane.active() == 0).await;
}

/// A block that never ends would fill our memory.
#[tokio::test]
async fn a_block_without_end_is_cut() {
    let (rig, echo) = rig().await;
    let mut peer = Peer::begin(&rig).await;
    peer.send(&frame(HEADERS, END_STREAM, 1, &request(&[]))).await;
    let more = block(&[("x-a", &"x".repeat(100))]);
    for _ in 0..20_000 {
        peer.send(&frame(CONTINUATION, 0, 1, &more)).await;
    }
    let came = peer.outcome().await;
    assert!(
        matches!(came, Came::GoAway(ENHANCE_YOUR_CALM | PROTOCOL_ERROR | COMPRESSION_ERROR) | Came::Closed),
        "{came:?}"
    );
    assert_eq!(echo.connections(), 0);
}

#[tokio::test]
async fn heads_have_the_same_limit_as_in_http1() {
    let (rig, _echo) = rig().await;
    for (length, passes) in [(500, true), (900, false)] {
        let mut peer = Peer::begin(&rig).await;
        let mut blocks = request(&[]).chunks(8_000).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let value = "x".repeat(length);
        let all = block(&vec![("x-a", value.as_str()); 80]);
        blocks.extend(all.chunks(16_000).map(<[u8]>::to_vec));
        let last = blocks.len() - 1;
        for (at, part) in blocks.iter().enumerate() {
            let ends = if at == last { END_HEADERS } else { 0 };
            let bytes = match at {
                0 => frame(HEADERS, END_STREAM | ends, 1, part),
                _ => frame(CONTINUATION, ends, 1, part),
            };
            peer.send(&bytes).await;
        }
        let came = peer.outcome().await;
        assert_eq!(came == Came::Status("200".to_owned()), passes, "80 of {length}: {came:?}");
    }
}

/// Frames that cost their sender nothing and want an answer, or only to be looked at.
#[tokio::test]
async fn floods_are_answered_or_end_their_connection() {
    const COUNT: usize = 20_000;
    let ask = |flags: u8| frame(HEADERS, END_HEADERS | flags, 1, &request(&[]));
    for (what, before, one) in [
        ("pings", vec![], frame(PING, 0, 0, &[7; 8])),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[])),
        ("data of nothing", ask(0), frame(DATA, 0, 1, &[])),
        ("windows", ask(0), frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
        ("priorities", vec![], frame(2, 0, 1, &[0, 0, 0, 0, 1])),
    ] {
        let (rig, _echo) = rig().await;
        let peer = Peer::begin(&rig).await;
        let (mut from, mut to) = peer.0.into_split();
        let sends = async {
            let last = frame(PING, 0, 0, b"thelast!");
            // Whoever is sent away is told while he still speaks.
            to.write_all(&[before, one.repeat(COUNT), last].concat()).await.ok();
            to
        };
        let hears = async {
            let mut all = Vec::new();
            let mut chunk = [0; 16 * 1024];
            loop {
                match soon("an answer", from.read(&mut chunk)).await {
                    Ok(length @ 1..) => all.extend_from_slice(&chunk[..length]),
                    Ok(0) | Err(_) => return "it ended",
                }
                if all.windows(8).any(|eight| eight == b"thelast!") {
                    return "it was answered";
                }
                // Only the end may hold what is looked for.
                all.drain(..all.len().saturating_sub(16));
            }
        };
        let (to, _how) = tokio::join!(sends, hears);
        drop((to, from));
        super::rig::until(what, || rig.lane.active() == 0).await;
    }
}

/// What a server says of itself first (RFC 9113 §3.4): every limit is one that was chosen.
#[tokio::test]
async fn limits_are_said_out_loud() {
    let (rig, _echo) = rig().await;
    let mut peer = Peer::begin(&rig).await;
    let (mut said, mut window) = (Vec::new(), None);
    while said.is_empty() || window.is_none() {
        match peer.next().await.expect("the connection is open") {
            (SETTINGS, 0, payload) => {
                let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
                said = payload.chunks(6).map(|one| (number(&one[..2]), number(&one[2..]))).collect();
            }
            (WINDOW_UPDATE, _, payload) => window = Some(u32::from_be_bytes(payload[..4].try_into().expect("four"))),
            _ => {}
        }
    }
    said.sort_unstable();
    // Streams at a time, what one may send ahead, bytes of a head, RFC 8441.
    for (id, value) in [(3, 100), (4, 256 * 1024), (6, 60 * 1024), (8, 1)] {
        assert!(said.contains(&(id, value)), "{id} is not {value}: {said:?}");
    }
    assert_eq!(window, Some(1024 * 1024 - 65_535), "of the connection");
}
