//! The accept loop and the connections of the operators' server.
//!
//! In: a listener, a router. Out: HTTP/1 connections under limits. Ends when the drain begins; open connections then
//! finish their present answer.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lateen_rt::{backoff::Backoff, deadline::within, drain::Drain, tasks::Tasks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{Answer, Request, Router};

/// What the server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections; more wait in the kernel's queue.
    pub connections_max: usize,
    /// For the request's head to arrive.
    pub header_timeout: Duration,
    /// For a route to answer.
    pub answer_timeout: Duration,
    /// For a whole connection, so that idle ones do not hold places.
    pub connection_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            header_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            connection_timeout: Duration::from_secs(360),
        }
    }
}

/// Serves `router` on `listener` until `drain` begins. Connections run as tasks of `tasks`.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, (tasks, drain): (Tasks, Drain)) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut pace = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = drain.draining() => return,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                pace.reset();
                let (router, drain) = (router.clone(), drain.clone());
                tasks.spawn("admin connection", async move {
                    connection(stream, peer, (router, limits), drain).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: trying again at once would spin.
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(pace.next_wait()).await;
            }
        }
    }
}

/// Takes a place first, so that the queue of the kernel is what waits. Safe to drop: an accepted stream is returned at once.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

async fn connection(stream: TcpStream, peer: SocketAddr, (router, limits): (Router, Limits), drain: Drain) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(response(answer(&router, &limits, request).await)) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = within("an admin connection", limits.connection_timeout, async {
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = drain.draining() => {
                serving.as_mut().graceful_shutdown();
                serving.as_mut().await
            }
        }
    });
    match ended.await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "an admin connection ended badly"),
    }
}

async fn answer(router: &Router, limits: &Limits, request: http::Request<Incoming>) -> Answer {
    let (parts, _body) = request.into_parts();
    let answering = router.answer(Request::new(&parts));
    match within("answering an admin request", limits.answer_timeout, answering).await {
        Ok(answer) => answer,
        Err(elapsed) => Answer::text(503, format!("{elapsed}\n")),
    }
}

fn response(answer: Answer) -> http::Response<Full<Bytes>> {
    let head = http::Response::builder().status(answer.status).header("content-type", answer.content_type);
    let head = answer.headers.iter().fold(head, |head, (name, value)| head.header(*name, value));
    head.body(Full::new(answer.body)).unwrap_or_else(|error| {
        // A header value with a control character: our own mistake, answered rather than fatal.
        tracing::error!(%error, "an admin answer has an invalid head");
        let mut broken = http::Response::new(Full::new(Bytes::from_static(b"internal error\n")));
        *broken.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}
