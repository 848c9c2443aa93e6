use std::time::Duration;

use http::Method;
use lateen_net::splice::{End, Meter, Outcome, splice};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    client::{ConnectError, open},
    testing::{EchoServer, round_trip, soon, to, until},
};

const FRAME_HEADER: usize = 9;

/// Reads one frame: type, flags, stream, payload.
async fn frame(io: &mut DuplexStream) -> (u8, u8, u32, Vec<u8>) {
    let mut header = [0; FRAME_HEADER];
    soon(io.read_exact(&mut header)).await.expect("a frame");
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    let mut payload = vec![0; length];
    soon(io.read_exact(&mut payload)).await.expect("its payload");
    (header[3], header[4], u32::from_be_bytes([header[5], header[6], header[7], header[8]]), payload)
}

fn settings_in(payload: &[u8]) -> Vec<(u16, u32)> {
    let each = |part: &[u8]| {
        let id = u16::from_be_bytes([part[0], part[1]]);
        (id, u32::from_be_bytes([part[2], part[3], part[4], part[5]]))
    };
    payload.chunks(6).map(each).collect()
}

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONNECTION_WINDOW: [u8; 4] = 16_711_681_u32.to_be_bytes();
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn the_clients_first_bytes_are_as_the_reference_sends_them() {
    let server = EchoServer::new();
    let (near, mut far) = duplex(64 * 1024);
    let _client = open(near, &server.settings, &server.tasks, &server.drain).await.expect("open");
    let mut preface = [0; 24];
    soon(far.read_exact(&mut preface)).await.expect("preface");
    assert_eq!(preface, PREFACE);
    let (kind, _, _, payload) = frame(&mut far).await;
    assert_eq!(kind, SETTINGS);
    assert_eq!(settings_in(&payload), [(2, 0), (4, 4_194_304), (5, 1_048_576), (6, 16_384)]);
    assert_eq!(frame(&mut far).await, (WINDOW_UPDATE, 0, 0, CONNECTION_WINDOW.to_vec()));
}

#[tokio::test]
async fn the_servers_first_frames_are_as_the_reference_sends_them() {
    let server = EchoServer::new();
    let mut near = server.stream(&server.drain);
    near.write_all(PREFACE).await.expect("write");
    near.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.expect("write");
    let (kind, _, _, payload) = frame(&mut near).await;
    assert_eq!(kind, SETTINGS);
    assert_eq!(settings_in(&payload), [(3, 200), (4, 4_194_304), (5, 1_048_576), (6, 65_536)]);
    let mut next = frame(&mut near).await;
    if next.0 == SETTINGS {
        // Its acknowledgement of ours.
        next = frame(&mut near).await;
    }
    assert_eq!(next, (WINDOW_UPDATE, 0, 0, CONNECTION_WINDOW.to_vec()));
}

#[tokio::test]
async fn tunnels_carry_bytes_both_ways_and_half_close() {
    let server = EchoServer::new();
    let client = server.client(&server.drain).await.expect("open");
    let (mut tunnel, answer) = soon(client.connect(&to("10.0.0.9:80"))).await.expect("connect");
    assert_eq!(answer.baggage.namespace.as_deref(), Some("server"));
    round_trip(&mut tunnel, b"hello").await;
    for byte in 0..100_u8 {
        round_trip(&mut tunnel, &[byte]).await;
    }
    round_trip(&mut tunnel, &vec![3; 3 * 1024 * 1024]).await;
    tunnel.shutdown().await.expect("shutdown");
    let mut rest = Vec::new();
    soon(tunnel.read_to_end(&mut rest)).await.expect("the echo closes too");
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_large_frame_can_be_read_in_pieces() {
    let server = EchoServer::new();
    let client = server.client(&server.drain).await.expect("open");
    let (mut tunnel, _) = soon(client.connect(&to("10.0.0.9:80"))).await.expect("connect");
    tunnel.write_all(&[9; 10_000]).await.expect("write");
    for _ in 0..1000 {
        let mut piece = [0; 10];
        soon(tunnel.read_exact(&mut piece)).await.expect("read");
        assert_eq!(piece, [9; 10]);
    }
}

#[tokio::test]
async fn a_refusal_is_headers_with_the_end_and_then_no_error() {
    let server = EchoServer::new();
    let stream = server.stream(&server.drain);
    let (mut requests, connection) = h2::client::handshake(stream).await.expect("open");
    server.tasks.spawn("client", async move {
        connection.await.ok();
    });
    for (method, authority, status) in [
        (Method::CONNECT, "10.0.0.9:401", 401),
        (Method::CONNECT, "10.0.0.9", 400),
        (Method::CONNECT, "10.0.0.9:0", 400),
        (Method::GET, "http://10.0.0.9:80/", 400),
    ] {
        let request = Request::builder().method(method).uri(authority).body(()).expect("valid");
        let (response, mut send) = requests.send_request(request, false).expect("sent");
        let response = soon(response).await.expect("answered");
        assert_eq!(response.status(), status, "{authority}");
        assert!(response.headers().is_empty() && response.body().is_end_stream());
        let reset = soon(std::future::poll_fn(|context| send.poll_reset(context))).await.expect("reset");
        assert_eq!(reset, h2::Reason::NO_ERROR);
    }
}

#[tokio::test]
async fn draining_sends_goaway_and_lets_open_tunnels_end() {
    let server = EchoServer::new();
    let drain = Drain::new();
    let client = server.client(&drain).await.expect("open");
    let (mut tunnel, _) = soon(client.connect(&to("10.0.0.9:80"))).await.expect("connect");
    drain.start();
    round_trip(&mut tunnel, b"one").await;
    until("the client hears GOAWAY", || true).await;
    let refused = async {
        loop {
            match client.connect(&to("10.0.0.9:80")).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    };
    assert!(matches!(soon(refused).await, ConnectError::Unprocessed(_)));
    round_trip(&mut tunnel, b"two").await;
    drop(tunnel);
    until("the connection ends", || server.alive() == 0).await;
}

#[tokio::test]
async fn a_connection_that_meets_a_drain_is_served_once() {
    let server = EchoServer::new();
    let drain = Drain::new();
    drain.start();
    let client = server.client(&drain).await.expect("open");
    let (mut tunnel, _) = soon(client.connect(&to("10.0.0.9:80"))).await.expect("the first is taken");
    round_trip(&mut tunnel, b"served").await;
    drop(tunnel);
    until("the connection ends, though its client is still there", || server.alive() == 0).await;
    assert!(soon(client.connect(&to("10.0.0.9:80"))).await.is_err());
}

#[tokio::test]
async fn forcing_the_drain_cuts_tunnels() {
    let server = EchoServer::new();
    let drain = Drain::new();
    let client = server.client(&drain).await.expect("open");
    let (mut tunnel, _) = soon(client.connect(&to("10.0.0.9:80"))).await.expect("connect");
    // Even after a GOAWAY that names no error.
    drain.start();
    round_trip(&mut tunnel, b"still here").await;
    drain.force();
    until("the server lets go", || server.alive() == 0).await;
    assert!(soon(tunnel.read(&mut [0])).await.is_err(), "a cut tunnel is no clean end");
    until("the client knows", || !client.is_open()).await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_on_both_sides() {
    let server = EchoServer::new();
    // A client that never sends anything after its preface; a server that never answers at all.
    let mut mute = server.stream(&server.drain);
    mute.write_all(PREFACE).await.expect("write");
    until("the server gives up", || server.alive() == 0).await;
    let (near, _far) = duplex(64 * 1024);
    let client = open(near, &server.settings, &server.tasks, &server.drain).await.expect("open");
    let error = client.connect(&to("10.0.0.9:80")).await.expect_err("nobody answers");
    assert!(matches!(error, ConnectError::Timeout(_)), "{error}");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert!(!client.is_open(), "unanswered PINGs end the connection");
}

#[tokio::test]
async fn what_is_no_http2_is_an_error() {
    let (near, mut far) = duplex(64 * 1024);
    far.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("write");
    let ended = soon(serve(near, &Settings::default(), &Drain::new(), |_| panic!("no request"))).await;
    assert!(matches!(ended, Err(ServeError::Http(_))));
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let near = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
    (near, listener.accept().await.expect("accept").0)
}

const HUNDRED_MB: u64 = 100 * 1024 * 1024;

/// A TCP client spliced into a tunnel over real TCP, 100 MB there and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_are_spliced_through_a_tunnel() {
    let server = EchoServer::new();
    let (near, far) = tcp_pair().await;
    let (tasks, settings) = (server.tasks.clone(), server.settings.clone());
    server.tasks.spawn("server", async move {
        let drain = Drain::new();
        let ended = serve(far, &settings, &drain, |arrival| {
            tasks.spawn("echo", crate::testing::echo(arrival));
        });
        ended.await.ok();
    });
    let client = open(near, &server.settings, &server.tasks, &server.drain).await.expect("open");
    let (tunnel, _) = soon(client.connect(&to("10.0.0.9:80"))).await.expect("connect");
    let (app, source) = tcp_pair().await;
    let (mut read, mut write) = app.into_split();
    let meter = Meter::default();
    let sending = async {
        let block = vec![5; 64 * 1024];
        for _ in 0..HUNDRED_MB / block.len() as u64 {
            write.write_all(&block).await.expect("write");
        }
        write.shutdown().await.expect("shutdown");
    };
    let receiving = async {
        let (mut total, mut into) = (0, vec![0; 256 * 1024]);
        loop {
            match read.read(&mut into).await.expect("read") {
                0 => break total,
                length => total += length as u64,
            }
        }
    };
    let splicing = splice(source, tunnel, &meter, std::future::pending::<()>());
    let ((), total, outcome) = soon(async { tokio::join!(sending, receiving, splicing) }).await;
    assert_eq!(total, HUNDRED_MB);
    assert_eq!(outcome.expect("no failure"), Outcome::Ended { source: End::Closed, destination: End::Closed });
    assert_eq!((meter.from_source(), meter.from_destination()), (HUNDRED_MB, HUNDRED_MB));
}

/// A reader that stalls makes us hold at most its window, not all that is sent.
#[tokio::test]
async fn a_stalled_reader_stops_the_writer() {
    let server = EchoServer::new();
    let (near, far) = duplex(64 * 1024);
    let settings = server.settings.clone();
    let (hold, held) = std::sync::mpsc::sync_channel(1);
    server.tasks.spawn("server", async move {
        let drain = Drain::new();
        let ended = serve(far, &settings, &drain, |arrival| {
            hold.send(arrival.accept(None)).expect("the test waits");
        });
        ended.await.ok();
    });
    let client = open(near, &server.settings, &server.tasks, &server.drain).await.expect("open");
    let (mut tunnel, _) = soon(client.connect(&to("10.0.0.9:80"))).await.expect("connect");
    let mut sent = 0;
    let block = vec![1; 64 * 1024];
    while let Ok(written) = within("a write", Duration::from_millis(500), tunnel.write(&block)).await {
        sent += written.expect("write");
    }
    let window = server.settings.stream_window as usize;
    assert!((window..=window + server.settings.send_buffer_max).contains(&sent), "{sent} bytes were taken");
    let mut far_end = held.recv().expect("accepted").expect("answered");
    let mut into = vec![0; sent];
    soon(far_end.read_exact(&mut into)).await.expect("everything arrives");
}

/// A client that opens and resets streams must not leave work behind for each of them.
#[tokio::test]
async fn a_request_that_was_reset_is_abandoned() {
    let server = EchoServer::new();
    let (near, far) = duplex(64 * 1024);
    let settings = server.settings.clone();
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
    server.tasks.spawn("server", async move {
        let drain = Drain::new();
        let ended = serve(far, &settings, &drain, |arrival| arrived.try_send(arrival).expect("one at a time"));
        ended.await.ok();
    });
    let client = open(near, &server.settings, &server.tasks, &server.drain).await.expect("open");
    let authority = to("10.0.0.9:80");
    let mut asking = Box::pin(client.connect(&authority));
    let mut arrival = tokio::select! {
        _ = &mut asking => panic!("nobody answered"),
        arrival = arrivals.recv() => arrival.expect("arrives"),
    };
    within("no reset yet", Duration::from_millis(50), arrival.abandoned()).await.expect_err("the client waits");
    drop(asking);
    soon(arrival.abandoned()).await;
    drop(arrival);
    let mut asking = Box::pin(client.connect(&authority));
    let mut arrival = tokio::select! {
        _ = &mut asking => panic!("nobody answered"),
        arrival = arrivals.recv() => arrival.expect("arrives"),
    };
    server.drain.force();
    soon(arrival.abandoned()).await;
}
