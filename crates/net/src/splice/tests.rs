use std::{sync::Arc, time::Duration};

use lateen_rt::{deadline::within, tasks::Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::*;

type Spliced = Result<Outcome<&'static str>, SpliceError>;

/// A client and a server with a splice between them, all on real sockets.
struct Rig {
    client: TcpStream,
    server: TcpStream,
    meter: Arc<Meter>,
    outcome: oneshot::Receiver<Spliced>,
    interrupt: oneshot::Sender<()>,
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let one = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
    let (two, _) = listener.accept().await.expect("accept");
    one.set_nodelay(true).expect("nodelay");
    two.set_nodelay(true).expect("nodelay");
    (one, two)
}

impl Rig {
    async fn new() -> Self {
        Self::of(|stream| stream).await
    }

    async fn of<D: Duplex + Send + 'static>(end: impl Fn(TcpStream) -> D) -> Self {
        let (client, source) = connected().await;
        let (destination, server) = connected().await;
        let (interrupt, interrupted) = oneshot::channel();
        let (report, outcome) = oneshot::channel();
        let meter = Arc::new(Meter::default());
        let (source, destination, counts) = (end(source), end(destination), meter.clone());
        Tasks::new().spawn("splice", async move {
            let interrupted = async {
                match interrupted.await {
                    Ok(()) => "cut",
                    Err(_) => std::future::pending().await,
                }
            };
            let ended = splice(source, destination, &counts, interrupted).await;
            report.send(ended).expect("the test waits");
        });
        Self { client, server, meter, outcome, interrupt }
    }
}

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    within("the test", Duration::from_secs(60), wait).await.expect("in time")
}

async fn ended(outcome: oneshot::Receiver<Spliced>) -> Outcome<&'static str> {
    soon(outcome).await.expect("the splice ends").expect("without failure")
}

/// What is heard next is a reset, not an end.
async fn is_reset(stream: &mut TcpStream) {
    let error = soon(stream.read(&mut [0])).await.expect_err("no clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

const CLOSED: Outcome<&str> = Outcome::Ended { source: End::Closed, destination: End::Closed };

#[tokio::test]
async fn a_half_close_by_the_client_lets_the_server_go_on() {
    let mut rig = Rig::new().await;
    rig.client.write_all(b"request").await.expect("write");
    rig.client.shutdown().await.expect("shutdown");
    let mut request = Vec::new();
    soon(rig.server.read_to_end(&mut request)).await.expect("the server sees the end");
    assert_eq!(request, b"request");
    rig.server.write_all(b"a late answer").await.expect("write");
    drop(rig.server);
    let mut answer = Vec::new();
    soon(rig.client.read_to_end(&mut answer)).await.expect("the client sees the end");
    assert_eq!(answer, b"a late answer");
    assert_eq!(ended(rig.outcome).await, CLOSED);
    assert_eq!((rig.meter.from_source(), rig.meter.from_destination()), (7, 13));
}

#[tokio::test]
async fn a_half_close_by_the_server_lets_the_client_go_on() {
    let mut rig = Rig::of(Io).await;
    rig.server.write_all(b"banner").await.expect("write");
    rig.server.shutdown().await.expect("shutdown");
    let mut banner = Vec::new();
    soon(rig.client.read_to_end(&mut banner)).await.expect("the client sees the end");
    assert_eq!(banner, b"banner");
    rig.client.write_all(b"still here").await.expect("write");
    drop(rig.client);
    let mut rest = Vec::new();
    soon(rig.server.read_to_end(&mut rest)).await.expect("the server sees the end");
    assert_eq!(rest, b"still here");
    assert_eq!(ended(rig.outcome).await, CLOSED);
}

#[tokio::test]
async fn a_reset_ends_both_directions_after_what_was_sent() {
    let mut rig = Rig::new().await;
    rig.client.write_all(b"last words").await.expect("write");
    let mut heard = [0; 10];
    soon(rig.server.read_exact(&mut heard)).await.expect("read");
    rig.client.set_zero_linger().expect("linger");
    drop(rig.client);
    assert_eq!(ended(rig.outcome).await, Outcome::Ended { source: End::Reset, destination: End::Abandoned });
    is_reset(&mut rig.server).await;
}

#[tokio::test]
async fn a_server_that_vanishes_is_no_clean_end_for_the_client() {
    let mut rig = Rig::new().await;
    rig.server.write_all(b"half an ans").await.expect("write");
    rig.server.set_zero_linger().expect("linger");
    drop(rig.server);
    let Outcome::Ended { destination, .. } = ended(rig.outcome).await else { panic!("interrupted") };
    assert_eq!(destination, End::Reset);
    let mut heard = [0; 11];
    soon(rig.client.read_exact(&mut heard)).await.expect("what was sent before the reset");
    is_reset(&mut rig.client).await;
}

/// The server has answered and closed; what the client goes on sending reaches nobody, and it must hear of that.
#[tokio::test]
async fn what_a_closed_server_does_not_take_is_told_to_its_client() {
    let mut rig = Rig::new().await;
    rig.server.write_all(b"answer").await.expect("write");
    drop(rig.server);
    let mut answer = Vec::new();
    soon(rig.client.read_to_end(&mut answer)).await.expect("the answer is whole");
    assert_eq!(answer, b"answer");
    let sending = async { while rig.client.write_all(&[1; 1024]).await.is_ok() {} };
    soon(sending).await;
    let Outcome::Ended { source, destination } = ended(rig.outcome).await else { panic!("interrupted") };
    assert_eq!((source, destination), (End::Unwanted, End::Closed));
}

#[tokio::test]
async fn a_splice_that_is_dropped_resets_both_sides() {
    let (mut client, source) = connected().await;
    let (destination, mut server) = connected().await;
    let meter = Meter::default();
    let mut splicing = Box::pin(splice(source, destination, &meter, std::future::pending::<()>()));
    client.write_all(b"x").await.expect("write");
    let mut heard = [0];
    tokio::select! {
        _ = &mut splicing => panic!("nothing ends it"),
        read = soon(server.read_exact(&mut heard)) => assert_eq!(read.expect("read"), 1),
    }
    drop(splicing);
    is_reset(&mut client).await;
    is_reset(&mut server).await;
}

#[tokio::test]
async fn an_interruption_cuts_both_sides() {
    let mut rig = Rig::new().await;
    rig.client.write_all(b"x").await.expect("write");
    soon(rig.server.read_exact(&mut [0])).await.expect("read");
    rig.interrupt.send(()).expect("the splice runs");
    assert_eq!(soon(rig.outcome).await.expect("ends").expect("no failure"), Outcome::Interrupted("cut"));
    is_reset(&mut rig.client).await;
    is_reset(&mut rig.server).await;
}

#[tokio::test]
async fn a_slow_reader_stops_the_writer() {
    let mut rig = Rig::new().await;
    let block = vec![7_u8; 64 * 1024];
    let mut sent = 0_u64;
    // The server does not read, so only what the kernel's buffers and one chunk hold can be written.
    while let Ok(written) = within("a write", Duration::from_millis(500), rig.client.write(&block)).await {
        sent += written.expect("write") as u64;
        assert!(sent < 256 * 1024 * 1024, "nothing stops the writer");
    }
    let in_flight = sent - rig.meter.from_source();
    assert!(in_flight < 32 * 1024 * 1024, "{in_flight} bytes are held between client and splice");
    rig.client.shutdown().await.expect("shutdown");
    let mut read = 0;
    let mut into = vec![0; 1024 * 1024];
    loop {
        match soon(rig.server.read(&mut into)).await.expect("read") {
            0 => break,
            length => read += length as u64,
        }
    }
    assert_eq!((read, rig.meter.from_source()), (sent, sent));
}

#[tokio::test]
async fn single_bytes_pass_at_once() {
    let mut rig = Rig::of(Io).await;
    for byte in 0..200_u8 {
        rig.client.write_all(&[byte]).await.expect("write");
        let mut there = [0];
        soon(rig.server.read_exact(&mut there)).await.expect("read");
        rig.server.write_all(&there).await.expect("write");
        let mut back = [0];
        soon(rig.client.read_exact(&mut back)).await.expect("read");
        assert_eq!(back, [byte]);
    }
    assert_eq!((rig.meter.from_source(), rig.meter.from_destination()), (200, 200));
}

const HUNDRED_MB: u64 = 100 * 1024 * 1024;

/// Sends 100 MB whose bytes tell their position, closes its half, and checks as much from the other side.
async fn exchange(stream: TcpStream) {
    let (mut read, mut write) = stream.into_split();
    let block: Vec<u8> = (0..=250_u8).cycle().take(251 * 1024).collect();
    let sending = async {
        let mut left = HUNDRED_MB;
        while left > 0 {
            let part = &block[..left.min(block.len() as u64) as usize];
            write.write_all(part).await.expect("write");
            left -= part.len() as u64;
        }
        write.shutdown().await.expect("shutdown");
    };
    let receiving = async {
        let (mut at, mut into) = (0_u64, vec![0; 256 * 1024]);
        loop {
            let length = read.read(&mut into).await.expect("read");
            if length == 0 {
                break;
            }
            let expected = &block[(at % 251) as usize..];
            let whole = length.min(expected.len());
            assert!(into[..whole] == expected[..whole], "bytes changed near {at}");
            at += length as u64;
        }
        assert_eq!(at, HUNDRED_MB);
    };
    both(sending, receiving).await;
}

async fn both(one: impl Future<Output = ()>, two: impl Future<Output = ()>) {
    tokio::join!(one, two);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_go_each_way() {
    let rig = Rig::new().await;
    soon(both(exchange(rig.client), exchange(rig.server))).await;
    assert_eq!(ended(rig.outcome).await, CLOSED);
    assert_eq!((rig.meter.from_source(), rig.meter.from_destination()), (HUNDRED_MB, HUNDRED_MB));
}

/// Through sockets and through chunks alike: whatever sizes the bytes come and go in, and whenever either side pauses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_all_sizes_arrive_in_order() {
    for seed in 0..12_u64 {
        if seed % 2 == 0 { mixed(Rig::new().await, seed).await } else { mixed(Rig::of(Io).await, seed).await }
    }
}

async fn mixed(rig: Rig, seed: u64) {
    // Bursts of bulk between small words, from a small generator whose run the seed names.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let sizes: Vec<usize> = (0..60)
        .map(|_| if next(3) == 0 { next(3 * 1024 * 1024) } else { next(600) + 1 })
        .map(|size| usize::try_from(size).expect("small"))
        .collect();
    let total: usize = sizes.iter().sum();
    let (mut client, mut server) = (rig.client, rig.server);
    let sending = async {
        let block: Vec<u8> = (0..=250_u8).cycle().take(3 * 1024 * 1024 + 251).collect();
        let mut at = 0;
        for size in sizes {
            client.write_all(&block[at % 251..at % 251 + size]).await.expect("write");
            at += size;
        }
        client.shutdown().await.expect("shutdown");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("read");
        assert_eq!(rest, b"done");
    };
    let receiving = async {
        let (mut at, mut into) = (0, vec![0; 700 * 1024]);
        loop {
            let length = server.read(&mut into).await.expect("read");
            if length == 0 {
                break;
            }
            assert!(into[..length].iter().enumerate().all(|(index, byte)| usize::from(*byte) == (at + index) % 251));
            at += length;
        }
        assert_eq!(at, total, "seed {seed}");
        server.write_all(b"done").await.expect("write");
        server.shutdown().await.expect("shutdown");
    };
    soon(both(sending, receiving)).await;
    assert_eq!(ended(rig.outcome).await, CLOSED);
    assert_eq!((rig.meter.from_source(), rig.meter.from_destination()), (total as u64, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_that_nobody_reads_for_long_is_kept_whole() {
    let mut rig = Rig::new().await;
    let block: Vec<u8> = (0..=250_u8).cycle().take(251 * 1024).collect();
    let (mut sent, mut read, mut into) = (0, 0, vec![0; 1024 * 1024]);
    let mut check = |bytes: &[u8]| {
        assert!(bytes.iter().enumerate().all(|(index, byte)| usize::from(*byte) == (read + index) % 251));
        read += bytes.len();
    };
    // First it is seen to be bulk, then its reader stops for longer than a pipe waits.
    for _ in 0..64 {
        rig.client.write_all(&block).await.expect("write");
        sent += block.len();
        let length = soon(rig.server.read(&mut into)).await.expect("read");
        check(&into[..length]);
    }
    while let Ok(written) = within("a write", Duration::from_millis(1500), rig.client.write(&block[sent % 251..])).await
    {
        sent += written.expect("write");
    }
    rig.client.shutdown().await.expect("shutdown");
    loop {
        match soon(rig.server.read(&mut into)).await.expect("read") {
            0 => break,
            length => check(&into[..length]),
        }
    }
    assert_eq!((read, rig.meter.from_source()), (sent, sent as u64));
}

/// Once a direction is bulk the rules of the end are the same: what was sent arrives, then the reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_that_is_reset_does_not_look_complete() {
    let Rig { mut client, mut server, meter: _, outcome, interrupt: _uncut } = Rig::new().await;
    let length = 8 * 1024 * 1024;
    // A reset forgets what is still on its way in the kernel, so it comes after everything was read.
    let (read, all_read) = oneshot::channel();
    let sending = async {
        client.write_all(&vec![7; length]).await.expect("write");
        all_read.await.expect("the server reads all");
        client.set_zero_linger().expect("linger");
        drop(client);
    };
    let receiving = async {
        server.read_exact(&mut vec![0; length]).await.expect("all that was sent");
        read.send(()).expect("the client waits");
        is_reset(&mut server).await;
    };
    soon(both(sending, receiving)).await;
    assert_eq!(ended(outcome).await, Outcome::Ended { source: End::Reset, destination: End::Abandoned });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_that_is_cut_does_not_look_complete() {
    let Rig { mut client, mut server, meter: _, outcome, interrupt } = Rig::new().await;
    let mut into = vec![0; 1024 * 1024];
    let sending = async { while client.write_all(&[7; 64 * 1024]).await.is_ok() {} };
    let receiving = async {
        let mut read = 0;
        while read < 16 * 1024 * 1024 {
            read += server.read(&mut into).await.expect("read");
        }
        interrupt.send(()).expect("the splice runs");
        let error = loop {
            match server.read(&mut into).await {
                Ok(0) => panic!("a clean end"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(outcome.await.expect("ends").expect("no failure"), Outcome::Interrupted("cut"));
    };
    soon(both(sending, receiving)).await;
}
