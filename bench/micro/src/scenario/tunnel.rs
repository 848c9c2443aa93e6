//! Tunnels over HTTP/2, both ends in one thread, bytes in memory: what our layer and h2 cost together, without a socket.

use lateen_hbone::{
    client::{Client, open},
    server::{Arrival, serve},
    settings::Settings,
    stream::Tunnel,
};
use lateen_rt::{drain::Drain, tasks::Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    runtime::{Builder, Runtime},
};

use super::{
    Operation,
    connect::{baggage, connect as request},
};

/// More than waits in either direction.
const PIPE: usize = 256 * 1024;
/// A small request.
const BYTES: usize = 128;

pub(super) fn connect() -> Operation {
    let (runtime, client) = client();
    let request = request();
    Box::new(move || {
        runtime.block_on(async {
            let (mut tunnel, answer) = client.connect(&request).await.expect("accepted");
            assert!(answer.baggage.workload.is_some(), "the answer says who");
            tunnel.shutdown().await.expect("closed");
            assert_eq!(tunnel.read(&mut [0]).await.expect("an end"), 0);
        });
    })
}

pub(super) fn echo() -> Operation {
    let (runtime, client) = client();
    let (mut tunnel, _) = runtime.block_on(client.connect(&request())).expect("accepted");
    Box::new(move || {
        runtime.block_on(async {
            tunnel.write_all(&[7; BYTES]).await.expect("sent");
            tunnel.flush().await.expect("sent");
            let mut back = [0; BYTES];
            tunnel.read_exact(&mut back).await.expect("received");
            assert_eq!(back, [7; BYTES]);
        });
        // The connection lives as long as its clients.
        let _alive = &client;
    })
}

/// A client whose server sends back what comes.
fn client() -> (Runtime, Client) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let client = runtime.block_on(async {
        let (near, far) = duplex(PIPE);
        let (settings, tasks, drain) = (Settings::default(), Tasks::new(), Drain::new());
        let (of_server, draining) = (tasks.clone(), drain.clone());
        tasks.spawn("server", async move {
            let answer = baggage("server").to_header();
            let settings = Settings::default();
            let serving = serve(far, &settings, &draining, |arrival: Arrival| {
                let tunnel = arrival.accept(answer.as_ref()).expect("the client waits");
                of_server.spawn("echo", send_back(tunnel));
            });
            serving.await.expect("a client that behaves");
        });
        open(near, &settings, &tasks, &drain).await.expect("HTTP/2")
    });
    (runtime, client)
}

async fn send_back(mut tunnel: Tunnel) {
    let mut bytes = [0; BYTES];
    while let Ok(read) = tunnel.read(&mut bytes).await
        && read > 0
        && tunnel.write_all(&bytes[..read]).await.is_ok()
    {}
    // The client may be gone already.
    tunnel.shutdown().await.ok();
}
