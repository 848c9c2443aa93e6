//! Scripted ends for tests: a server that echoes, on in-memory streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use lateen_rt::{deadline::within, drain::Drain, tasks::Tasks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy, duplex, split};

use crate::{
    client::{Client, OpenError, open},
    request::{Baggage, Connect, Forwarded, TraceParent},
    server::{Arrival, serve},
    settings::Settings,
    stream::Tunnel,
};

pub async fn soon<T>(wait: impl Future<Output = T>) -> T {
    within("the test", Duration::from_secs(60), wait).await.expect("in time")
}

pub fn to(authority: &str) -> Connect {
    Connect {
        authority: authority.parse().expect("valid"),
        baggage: Baggage { namespace: Some("client".into()), ..Baggage::default() }.to_header(),
        forwarded: Forwarded { client: "10.0.0.1:1".parse().expect("valid"), host: None },
        traceparent: TraceParent::random(),
        network: None,
        client: None,
    }
}

/// Answers 200 and sends back what comes; port 401 is refused.
pub async fn echo(arrival: Arrival) {
    if arrival.request.authority.port() == 401 {
        return arrival.refuse(StatusCode::UNAUTHORIZED).expect("the client waits");
    }
    let baggage = Baggage { namespace: Some("server".into()), ..Baggage::default() }.to_header();
    let (mut read, mut write) = split(arrival.accept(baggage.as_ref()).expect("the client waits"));
    if copy(&mut read, &mut write).await.is_ok() {
        write.shutdown().await.ok();
    }
}

/// Serves any number of connections; each can be drained alone.
#[derive(Clone)]
pub struct EchoServer {
    pub settings: Settings,
    pub tasks: Tasks,
    pub drain: Drain,
    pub opened: Arc<AtomicUsize>,
    pub alive: Arc<AtomicUsize>,
}

impl EchoServer {
    pub fn new() -> Self {
        let settings = Settings::default();
        let count = || Arc::new(AtomicUsize::new(0));
        Self { settings, tasks: Tasks::new(), drain: Drain::new(), opened: count(), alive: count() }
    }

    /// The far end of a new connection that is served.
    pub fn stream(&self, drain: &Drain) -> DuplexStream {
        let (near, far) = duplex(256 * 1024);
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
        let (server, drain) = (self.clone(), drain.clone());
        self.tasks.spawn("server", async move {
            let tasks = server.tasks.clone();
            let ended = serve(far, &server.settings, &drain, |arrival| {
                tasks.spawn("echo", echo(arrival));
            });
            ended.await.ok();
            server.alive.fetch_sub(1, Ordering::SeqCst);
        });
        near
    }

    pub async fn client(&self, drain: &Drain) -> Result<Client, OpenError> {
        open(self.stream(drain), &self.settings, &self.tasks, &self.drain).await
    }

    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}

/// Sends `bytes` and reads as many back.
pub async fn round_trip(tunnel: &mut Tunnel, bytes: &[u8]) {
    tunnel.write_all(bytes).await.expect("write");
    let mut back = vec![0; bytes.len()];
    soon(tunnel.read_exact(&mut back)).await.expect("read");
    assert!(back == bytes, "the echo differs");
}

/// Looks again and again, under a deadline, until `holds`.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            // Short real waits, so that a paused clock can run on.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within("a condition", Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
