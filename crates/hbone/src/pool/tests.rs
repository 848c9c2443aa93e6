use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::future::join_all;
use lateen_rt::{drain::Drain, tasks::Tasks};

use super::*;
use crate::{
    client::{OpenError, open},
    testing::{EchoServer, round_trip, soon, to, until},
};

type TestPool = Pool<&'static str, (), OpenError>;

/// A pool of clients of one echo server.
struct Rig {
    server: EchoServer,
    pool: TestPool,
}

const PATIENT: Duration = Duration::from_secs(300);

impl Rig {
    fn new(streams_max: usize) -> Self {
        Self::with(PoolLimits { streams_max, idle_timeout: PATIENT, ..PoolLimits::default() })
    }

    fn with(limits: PoolLimits) -> Self {
        let server = EchoServer::new();
        Self { pool: Pool::new(limits, &server.tasks, &server.drain), server }
    }

    async fn open(&self, key: &'static str) -> Opened<()> {
        self.open_with(key, &Drain::new()).await.expect("opened")
    }

    async fn open_with(&self, key: &'static str, server_drain: &Drain) -> Result<Opened<()>, PoolError<OpenError>> {
        let dial = || async { self.server.client(server_drain).await.map(|client| (client, ())) };
        soon(self.pool.connect(&key, &to("10.0.0.9:80"), dial)).await
    }
}

#[tokio::test]
async fn one_after_another_on_one_connection() {
    let rig = Rig::new(100);
    for _ in 0..10 {
        let mut opened = rig.open("a").await;
        round_trip(&mut opened.tunnel, b"hello").await;
        assert_eq!(opened.answer.baggage.namespace.as_deref(), Some("server"));
    }
    assert_eq!(rig.server.opened(), 1);
}

#[tokio::test]
async fn other_keys_other_connections() {
    let rig = Rig::new(100);
    let _held = [rig.open("a").await, rig.open("b").await, rig.open("a").await];
    assert_eq!(rig.server.opened(), 2);
}

#[tokio::test]
async fn full_connections_return_to_use() {
    let rig = Rig::new(2);
    let four = join_all((0..4).map(|_| rig.open("a"))).await;
    assert_eq!(rig.server.opened(), 2);
    drop(four);
    let _five = join_all((0..5).map(|_| rig.open("a"))).await;
    assert_eq!(rig.server.opened(), 3);
}

#[tokio::test]
async fn a_limit_of_one_works() {
    let rig = Rig::new(1);
    let mut held = join_all((0..3).map(|_| rig.open("a"))).await;
    assert_eq!(rig.server.opened(), 3);
    for opened in &mut held {
        round_trip(&mut opened.tunnel, b"x").await;
    }
}

#[tokio::test]
async fn a_hundred_clients_share_and_a_hundred_keys_do_not() {
    let rig = Rig::new(100);
    let _same = join_all((0..100).map(|_| rig.open("a"))).await;
    assert_eq!(rig.server.opened(), 1);
    let _three = join_all(["x", "y", "z"].iter().flat_map(|key| (0..100).map(|_| rig.open(key)))).await;
    assert_eq!(rig.server.opened(), 4);
}

#[tokio::test]
async fn goaway_goes_unnoticed() {
    let rig = Rig::new(100);
    let first = Drain::new();
    let mut old = rig.open_with("a", &first).await.expect("opened");
    first.start();
    // Either the pool has heard of it already, or the request finds out: both must end on a second connection.
    let mut new = rig.open("a").await;
    round_trip(&mut new.tunnel, b"on the new one").await;
    round_trip(&mut old.tunnel, b"on the old one").await;
    until("the client hears GOAWAY", || rig.server.opened() == 2 || rig.server.alive() == 2).await;
    drop((old, new));
    let mut next = rig.open("a").await;
    round_trip(&mut next.tunnel, b"x").await;
    assert!(rig.server.opened() <= 2);
}

#[tokio::test]
async fn a_cut_connection_is_replaced() {
    let rig = Rig::new(100);
    let first = Drain::new();
    let opened = rig.open_with("a", &first).await.expect("opened");
    drop(opened);
    first.force();
    until("the server lets go", || rig.server.alive() == 0).await;
    let mut next = rig.open("a").await;
    round_trip(&mut next.tunnel, b"x").await;
    assert_eq!(rig.server.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_busy_ones_kept() {
    let rig = Rig::new(100);
    let (idle, mut busy) = (rig.open("idle").await, rig.open("busy").await);
    drop(idle);
    tokio::time::sleep(PATIENT * 5 / 4).await;
    until("the idle one closes", || rig.server.alive() == 1).await;
    assert_eq!(rig.pool.connections(), 1);
    round_trip(&mut busy.tunnel, b"still here").await;
    drop(busy);
    tokio::time::sleep(PATIENT * 3 / 2).await;
    until("the other one closes", || rig.server.alive() == 0).await;
    assert_eq!(rig.pool.connections(), 0);
}

#[tokio::test]
async fn a_failed_dial_is_shared_and_the_next_one_is_tried() {
    let tasks = Tasks::new();
    let pool: Pool<&str, (), String> = Pool::new(PoolLimits::default(), &tasks, &Drain::new());
    let dials = std::sync::atomic::AtomicUsize::new(0);
    let request = to("10.0.0.9:80");
    let attempt = || {
        pool.connect(&"a", &request, || async {
            dials.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err::<(Client, ()), _>("nobody is there".to_owned())
        })
    };
    let failures = join_all((0..10).map(|_| attempt())).await;
    assert!(failures.iter().all(|failed| matches!(failed, Err(PoolError::Dial(_)))));
    assert_eq!(dials.load(Ordering::SeqCst), 1);
    assert!(attempt().await.is_err());
    assert_eq!(dials.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_dialler_that_gives_up_is_succeeded() {
    let rig = Rig::new(100);
    let request = to("10.0.0.9:80");
    let begun = AtomicBool::new(false);
    let stuck = rig.pool.connect(&"a", &request, || {
        begun.store(true, Ordering::SeqCst);
        std::future::pending::<Result<(Client, ()), OpenError>>()
    });
    let second = async {
        until("the first one dials", || begun.load(Ordering::SeqCst)).await;
        rig.open("a").await
    };
    let mut second = Box::pin(second);
    tokio::select! {
        _ = stuck => panic!("it never ends"),
        _ = &mut second => panic!("it waits for the first one's dial"),
        () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
    }
    round_trip(&mut second.await.tunnel, b"x").await;
}

#[tokio::test]
async fn a_refusal_is_not_retried() {
    let rig = Rig::new(100);
    let dial = || async { rig.server.client(&Drain::new()).await.map(|client| (client, ())) };
    let refused = soon(rig.pool.connect(&"a", &to("10.0.0.9:401"), dial)).await;
    assert_eq!(refused.expect_err("refused").to_string(), "http status: 401 Unauthorized");
    let _next = rig.open("a").await;
    assert_eq!(rig.server.opened(), 1, "the connection is good");
}

#[tokio::test]
async fn dropping_everything_closes_the_connections() {
    let Rig { server, pool } = Rig::new(100);
    let dial = || async { server.client(&Drain::new()).await.map(|client| (client, ())) };
    let opened = soon(pool.connect(&"a", &to("10.0.0.9:80"), dial)).await.expect("opened");
    drop(pool);
    drop(opened);
    until("the connection closes", || server.alive() == 0).await;
}

#[tokio::test]
async fn a_drain_leaves_no_connection_without_a_tunnel() {
    let server = EchoServer::new();
    let (tasks, drain, never) = (Tasks::new(), Drain::new(), Drain::new());
    let pool: TestPool = Pool::new(PoolLimits::default(), &tasks, &drain);
    let request = to("10.0.0.9:80");
    let dial =
        || async { open(server.stream(&never), &server.settings, &tasks, &drain).await.map(|client| (client, ())) };
    let connect = |key| soon(pool.connect(key, &request, dial));
    let (idle, mut busy) = (connect(&"idle").await.expect("opened"), connect(&"busy").await.expect("opened"));
    drop(idle);
    drain.start();
    until("the idle one closes", || server.alive() == 1).await;
    round_trip(&mut busy.tunnel, b"goes on").await;
    // Accepted before the drain, still to be carried: it is, on a connection of its own.
    let mut late = connect(&"busy").await.expect("opened");
    round_trip(&mut late.tunnel, b"carried").await;
    assert_eq!((server.opened(), pool.connections()), (3, 0));
    drop((busy, late));
    soon(tasks.join(Duration::from_secs(50))).await.expect("nothing is left, and the pool still stands");
    assert_eq!(server.alive(), 0);
}

#[tokio::test]
async fn keys_can_be_forgotten_while_tunnels_go_on() {
    let rig = Rig::new(100);
    let mut opened = rig.open("gone").await;
    rig.pool.retain(|key| *key != "gone");
    assert_eq!(rig.pool.connections(), 0);
    round_trip(&mut opened.tunnel, b"still here").await;
    let _again = rig.open("gone").await;
    assert_eq!(rig.server.opened(), 2);
}

/// The pool can be used from tasks, whatever the dialler's error is.
#[test]
fn it_crosses_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Pool<String, String, Infallible>>();
}

#[tokio::test]
async fn connections_are_limited_and_idle_ones_make_room() {
    let rig = Rig::with(PoolLimits { streams_max: 1, idle_timeout: PATIENT, connections_max: 2 });
    let (first, second) = (rig.open("a").await, rig.open("b").await);
    for key in ["a", "c"] {
        let full = rig.open_with(key, &Drain::new()).await.expect_err("both are in use");
        assert!(matches!(full, PoolError::Full(2)), "{full}");
    }
    assert_eq!((rig.server.opened(), rig.pool.connections()), (2, 2));
    drop(first);
    let third = rig.open("c").await;
    assert_eq!((rig.server.opened(), rig.pool.connections()), (3, 2), "the idle one made room");
    drop((second, third));
}
