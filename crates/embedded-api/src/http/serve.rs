//! Connections: accept, TLS, HTTP/1.1 and HTTP/2, limits and deadlines.

use std::{sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rt::{backoff::Backoff, deadline::within, tasks::Tasks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;

use crate::http::handle::{Context, handle};

/// Most connections at a time; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 2048;
/// Most requests at a time on one HTTP/2 connection; each watch is one.
const STREAMS_MAX: u32 = 1000;
const HEADER_BYTES_MAX: usize = 64 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Bounds the connections of all listeners together.
pub fn connection_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS_MAX))
}

/// What an accept loop needs.
#[derive(Clone)]
pub struct Door {
    /// The TLS side.
    pub tls: TlsAcceptor,
    /// The requests' side.
    pub context: Context,
    /// Whose tasks the connections are.
    pub tasks: Tasks,
    /// Shared by all listeners.
    pub permits: Arc<Semaphore>,
}

/// Accepts until the server drains.
pub async fn accept(listener: TcpListener, door: Door) {
    let mut pace = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let arrived = async {
            let permit = door.permits.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let (accepted, permit) = tokio::select! {
            arrived = arrived => match arrived {
                Some(arrived) => arrived,
                None => return,
            },
            () = door.context.drain.draining() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                pace.reset();
                door.tasks.spawn("api connection", connection(stream, door.clone(), permit));
            }
            Err(error) => {
                let wait = pace.next_wait();
                tracing::warn!(%error, ?wait, "the API server could not accept a connection");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, door: Door, permit: OwnedSemaphorePermit) {
    let _permit = permit;
    let drain = door.context.drain.clone();
    // Small answers shall not wait for more.
    let _ = stream.set_nodelay(true);
    let tls = match within("the TLS handshake", HANDSHAKE_TIMEOUT, door.tls.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake with the API server failed"),
        Err(elapsed) => return tracing::debug!(error = %elapsed, "a TLS handshake with the API server failed"),
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let context = door.context.clone();
    let service = hyper::service::service_fn(move |request| {
        let context = context.clone();
        async move { Ok::<_, std::convert::Infallible>(handle(context, request).await) }
    });
    let serving = builder.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = drain.draining() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = drain.forced() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection to the API server ended badly");
    }
}
