//! How a tunnel's ends look to an application, and an application's to a tunnel.

use h2::server::SendResponse;
use http::Response;
use lateen_net::splice::{End, Meter, Outcome, splice};
use lateen_rt::{drain::Drain, tasks::Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    client::open,
    settings::Settings,
    testing::{soon, to, until},
};

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let near = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
    (near, listener.accept().await.expect("accept").0)
}

/// The far end of a tunnel without our code in it: h2 as it is.
struct Bare {
    respond: SendResponse<Bytes>,
    body: RecvStream,
}

/// A tunnel to a bare far end that has answered 200, and what it sends with.
async fn bare_tunnel(tasks: &Tasks) -> (Tunnel, Bare, SendStream<Bytes>) {
    let (near, far) = duplex(64 * 1024);
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
    tasks.spawn("bare", async move {
        let mut connection = h2::server::handshake(far).await.expect("HTTP/2");
        while let Some(request) = connection.accept().await {
            let Ok((request, respond)) = request else { return };
            arrived.try_send((request.into_body(), respond)).expect("one at a time");
        }
    });
    let client = open(near, &Settings::default(), tasks, &Drain::new()).await.expect("open");
    let authority = to("10.0.0.9:80");
    let asking = client.connect(&authority);
    let answering = async {
        let (body, mut respond) = arrivals.recv().await.expect("arrives");
        let send = respond.send_response(Response::new(()), false).expect("answered");
        (Bare { respond, body }, send)
    };
    let (opened, (bare, send)) = soon(async { tokio::join!(asking, answering) }).await;
    (opened.expect("open").0, bare, send)
}

/// What an application hears whose tunnel the far end resets for this reason, after some bytes.
async fn heard_of_a_reset(reason: Reason) -> Result<usize, io::ErrorKind> {
    let tasks = Tasks::new();
    let (tunnel, mut bare, mut send) = bare_tunnel(&tasks).await;
    let (mut app, source) = tcp_pair().await;
    let resetting = async {
        send.send_data(Bytes::from_static(b"some"), false).expect("sent");
        let mut some = [0; 4];
        soon(app.read_exact(&mut some)).await.expect("what came before");
        bare.respond.send_reset(reason);
        soon(app.read(&mut some)).await.map_err(|error| error.kind())
    };
    let meter = Meter::default();
    let splicing = soon(splice(source, tunnel, &meter, std::future::pending::<()>()));
    let (heard, ended) = tokio::join!(resetting, splicing);
    ended.expect("a reset is an end, not a failure");
    heard
}

#[tokio::test]
async fn a_reset_stream_is_a_reset_connection_unless_its_peer_was_done() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        assert_eq!(heard_of_a_reset(reason).await, Ok(0), "{reason:?}");
    }
    for reason in [Reason::CONNECT_ERROR, Reason::INTERNAL_ERROR, Reason::STREAM_CLOSED, Reason::REFUSED_STREAM] {
        assert_eq!(heard_of_a_reset(reason).await, Err(io::ErrorKind::ConnectionReset), "{reason:?}");
    }
}

/// Reads what arrives at a bare end until it ends, cleanly or by a reset.
async fn arriving(body: &mut RecvStream) -> (usize, Option<Reason>) {
    let mut total = 0;
    loop {
        match soon(body.data()).await {
            Some(Ok(bytes)) => {
                body.flow_control().release_capacity(bytes.len()).expect("released");
                total += bytes.len();
            }
            Some(Err(error)) => return (total, error.reason()),
            None => return (total, None),
        }
    }
}

/// RFC 9113 §8.5. What the application sent before it vanished goes ahead of the reset.
#[tokio::test]
async fn an_application_that_resets_resets_its_stream_after_what_it_sent() {
    for length in [0, 1, 100_000, 3_000_000] {
        let tasks = Tasks::new();
        let (tunnel, mut bare, _send) = bare_tunnel(&tasks).await;
        let (mut app, source) = tcp_pair().await;
        let meter = Meter::default();
        let sending = async {
            app.write_all(&vec![7; length]).await.expect("write");
            app.set_zero_linger().expect("linger");
            until("all is handed over", || meter.from_source() == length as u64).await;
            drop(app);
        };
        let splicing = splice(source, tunnel, &meter, std::future::pending::<()>());
        let ((), ended, arrived) = soon(async { tokio::join!(sending, splicing, arriving(&mut bare.body)) }).await;
        assert_eq!(
            ended.expect("no failure"),
            Outcome::Ended { source: End::Reset, destination: End::Abandoned },
            "{length}"
        );
        assert_eq!(arrived, (length, Some(Reason::CONNECT_ERROR)));
    }
}

/// A peer takes too many frames of no bytes for an attack. However many applications vanish, a tunnel beside them lives.
#[tokio::test]
async fn tunnels_beside_many_that_are_cut_live_on() {
    let tasks = Tasks::new();
    let (near, far) = duplex(64 * 1024);
    let (settings, drain, asked) = (Settings::default(), Drain::new(), to("10.0.0.9:80"));
    let serving = tasks.clone();
    tasks.spawn("server", async move {
        let take = |arrival: crate::server::Arrival| {
            serving.spawn("echo", async move {
                let (mut read, mut write) = tokio::io::split(arrival.accept(None).expect("there"));
                // Those that are cut end with an error.
                drop(tokio::io::copy(&mut read, &mut write).await);
            });
        };
        crate::server::serve(far, &Settings::default(), &Drain::new(), take).await.expect("it ends in peace");
    });
    let client = open(near, &settings, &tasks, &drain).await.expect("open");
    let mut lives = client.connect(&asked).await.expect("open").0;
    let mut cut = 0;
    while client.is_open() {
        let (tunnel, _) = client.connect(&asked).await.expect("open");
        let (app, source) = tcp_pair().await;
        app.set_zero_linger().expect("linger");
        drop(app);
        soon(splice(source, tunnel, &Meter::default(), std::future::pending::<()>())).await.expect("no failure");
        cut += 1;
        assert!(cut <= EMPTIES_MAX, "the connection takes more and more");
    }
    assert_eq!(cut, EMPTIES_MAX);
    lives.write_all(b"here").await.expect("write");
    let mut heard = [0; 4];
    soon(lives.read_exact(&mut heard)).await.expect("it lives");
    assert_eq!(&heard, b"here");
}

#[tokio::test]
async fn a_tunnel_that_is_dropped_looks_cut_unless_it_was_closed() {
    let tasks = Tasks::new();
    let (tunnel, mut bare, _send) = bare_tunnel(&tasks).await;
    drop(tunnel);
    assert_eq!(arriving(&mut bare.body).await, (0, Some(Reason::CONNECT_ERROR)));

    let (mut tunnel, mut bare, mut send) = bare_tunnel(&tasks).await;
    tunnel.write_all(b"all").await.expect("write");
    tunnel.shutdown().await.expect("closed");
    tunnel.shutdown().await.expect("and closed again");
    drop(tunnel);
    assert_eq!(arriving(&mut bare.body).await, (3, None));
    let reset = soon(std::future::poll_fn(|context| send.poll_reset(context))).await.expect("reset");
    assert_eq!(reset, Reason::CANCEL, "it says that it wants no more");
}

/// The far side drops its tunnel; the splice must not wait for an application that has nothing to say.
#[tokio::test]
async fn an_abandoned_tunnel_ends_the_splice() {
    let tasks = Tasks::new();
    let (tunnel, bare, send) = bare_tunnel(&tasks).await;
    drop(Tunnel::new(send, bare.body, (Arc::default(), None)));
    let (mut app, source) = tcp_pair().await;
    let meter = Meter::default();
    let outcome = soon(splice(source, tunnel, &meter, std::future::pending::<()>())).await.expect("no failure");
    assert_eq!(outcome, Outcome::Ended { source: End::Abandoned, destination: End::Reset });
    let error = soon(app.read(&mut [0])).await.expect_err("no clean end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
