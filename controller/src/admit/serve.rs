//! Speaks HTTP with the API server: one path, one method, limits and deadlines.
//!
//! In: secured connections. Out: answered reviews. Anybody may ask: an answer says nothing but what `lateen validate`
//! says of the same object.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lateen_rt::{deadline::within, drain::Drain, tasks::Tasks};

use super::review;
use crate::{names, serve::listen::Connection};

/// Where reviews are sent.
pub const PATH: &str = "/validate";
/// Connections at a time. An API server asks one question on each; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// An object and what it replaces, each of at most 3 MiB at the API server, and some words around them.
const BODY_MAX: usize = 7 << 20;
const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `drain` begins and the connections have ended.
pub async fn serve(
    connections: impl Stream<Item = Result<Connection, Infallible>> + Send + 'static,
    tasks: Tasks,
    drain: Drain,
) {
    let mut connections = std::pin::pin!(connections);
    // The stream ends by itself when `drain` begins.
    while let Some(Ok(connection)) = connections.next().await {
        tasks.spawn("admission connection", one(connection, drain.clone()));
    }
}

async fn one(connection: Connection, drain: Drain) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
    let service = service_fn(|request| async move { Ok::<_, Infallible>(respond(request).await) });
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(connection), service));
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
        tracing::debug!(%error, "a connection for admission ended badly");
    }
}

async fn respond(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (path, method) = (request.uri().path(), request.method());
    match (path, method) {
        (PATH, &Method::POST) => {}
        (PATH, _) => return text(StatusCode::METHOD_NOT_ALLOWED, "use POST"),
        ("/ready", &Method::GET) => return text(StatusCode::OK, "ready"),
        _ => return text(StatusCode::NOT_FOUND, "use /validate"),
    }
    match body(request).await.and_then(|body| reviewed(&body)) {
        Ok(review) => review,
        Err((status, words)) => {
            metrics::counter!(names::ADMISSION, "outcome" => "unreadable").increment(1);
            text(status, &words)
        }
    }
}

type Refused = (StatusCode, String);

async fn body(request: Request<Incoming>) -> Result<Bytes, Refused> {
    let reading = Limited::new(request.into_body(), BODY_MAX).collect();
    match within("the body", BODY_TIMEOUT, reading).await {
        Err(late) => Err((StatusCode::REQUEST_TIMEOUT, late.to_string())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {BODY_MAX} bytes")))
        }
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, error.to_string())),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn reviewed(body: &[u8]) -> Result<Response<Full<Bytes>>, Refused> {
    let bad = |words: String| (StatusCode::BAD_REQUEST, words);
    let review = serde_json::from_slice(body).map_err(|error| bad(format!("the body is no JSON: {error}")))?;
    let answered = review::answer(&review).map_err(|error| bad(error.to_string()))?;
    let outcome = if answered.allowed { "allowed" } else { "refused" };
    metrics::counter!(names::ADMISSION, "outcome" => outcome).increment(1);
    Ok(response(StatusCode::OK, "application/json", answered.review.to_string()))
}

fn text(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", words.to_owned())
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
