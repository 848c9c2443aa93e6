//! The server's end of a connection: take CONNECT requests, answer each.
//!
//! In: a secured stream. Out: one [`Arrival`] per valid request, to be accepted or refused by whoever takes it.
//! Absent on purpose: whether a target is ours and allowed.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{HeaderValue, Request, Response, StatusCode};
use lateen_rt::{
    deadline::{Elapsed, within},
    drain::Drain,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    ping::{self, Dead},
    request::{BAGGAGE, Received},
    settings::{SERVER_HEADERS_MAX, SMALL_FRAMES_MAX, Settings},
    stream::{Empties, Tunnel},
};

/// Why serving a connection ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client did not begin, or asked for nothing, in time.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// The connection failed, or its client broke the protocol.
    #[error("the HTTP/2 connection failed: {0}")]
    Http(#[from] h2::Error),
    /// The client is gone without a word.
    #[error("the client is gone: {0}")]
    Dead(Dead),
    /// The drain was forced while tunnels were open.
    #[error("connection closed due to connection drain")]
    Drained,
}

/// A request for a tunnel. Dropping it unanswered resets the stream.
#[derive(Debug)]
pub struct Arrival {
    /// What it asks for.
    pub request: Received,
    respond: SendResponse<Bytes>,
    body: RecvStream,
    empties: Arc<Empties>,
}

impl Arrival {
    /// Answers 200, with who the destination is, and hands over the tunnel.
    pub fn accept(mut self, baggage: Option<&HeaderValue>) -> Result<Tunnel, h2::Error> {
        let send = answer(&mut self.respond, StatusCode::OK, baggage, false)?;
        Ok(Tunnel::new(send, self.body, (self.empties, None)))
    }

    /// Returns once the client has reset the stream or its connection is gone: nobody waits for an answer any more.
    /// Safe to drop and call again.
    pub async fn abandoned(&mut self) {
        // Either way the stream is over, whatever the reason.
        let _reason = std::future::poll_fn(|context| self.respond.poll_reset(context)).await;
    }

    /// Answers with `status` and ends the stream.
    pub fn refuse(mut self, status: StatusCode) -> Result<(), h2::Error> {
        answer(&mut self.respond, status, None, true).map(|_| ())
    }
}

fn answer(
    respond: &mut SendResponse<Bytes>,
    status: StatusCode,
    baggage: Option<&HeaderValue>,
    ends: bool,
) -> Result<SendStream<Bytes>, h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    if let Some(baggage) = baggage {
        response.headers_mut().insert(&BAGGAGE, baggage.clone());
    }
    respond.send_response(response, ends)
}

/// Serves one connection until its client ends it or the drain does. `take` is called for each valid request and must
/// not wait: it starts a task. Invalid requests are answered with 400 here. While draining no new streams are taken and
/// open ones may end in peace; the first request of a connection is taken all the same. Dropping the future cuts all tunnels.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    settings: &Settings,
    drain: &Drain,
    mut take: impl FnMut(Arrival),
) -> Result<(), ServeError> {
    // Boxed: once it is over, its room is worth more than one allocation.
    let opening = Box::pin(builder(settings).handshake(stream));
    let mut connection = within("the client's HTTP/2 preface", settings.open_timeout, opening).await??;
    let mut dead = pin!(watch(&mut connection, settings));
    let mut first_request = pin!(tokio::time::sleep(settings.open_timeout));
    let (mut asked, mut draining) = (false, false);
    let empties = Arc::new(Empties::default());
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(accepted) => {
                    let (request, respond) = accepted?;
                    asked = true;
                    arrive(request, (respond, &empties), &mut take);
                    if empties.are_used_up() && !draining {
                        draining = true;
                        connection.graceful_shutdown();
                    }
                }
                None => return Ok(()),
            },
            error = &mut dead => return Err(ServeError::Dead(error)),
            () = &mut first_request, if !asked => {
                return Err(Elapsed { what: "the client's first request", after: settings.open_timeout }.into());
            }
            // A fresh connection is allowed its first request: a client that is told to go before it has asked anything
            // has nothing to show that the next connection would fare better.
            () = drain.draining(), if asked && !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
            () = drain.forced() => return Err(ServeError::Drained),
        }
    }
}

fn watch<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S, Bytes>,
    settings: &Settings,
) -> impl Future<Output = Dead> + use<S> {
    let (pings, idle, timeout) = (connection.ping_pong(), settings.ping_after, settings.ping_timeout);
    async move {
        let Some(pings) = pings else { return std::future::pending().await };
        let Err(dead) = ping::watch(pings, idle, timeout).await;
        dead
    }
}

fn arrive(
    request: Request<RecvStream>,
    (mut respond, empties): (SendResponse<Bytes>, &Arc<Empties>),
    take: &mut impl FnMut(Arrival),
) {
    match Received::read(&request) {
        Ok(read) => take(Arrival { request: read, respond, body: request.into_body(), empties: empties.clone() }),
        Err(reason) => {
            tracing::warn!(%reason, "a request was answered with 400");
            if let Err(error) = answer(&mut respond, StatusCode::BAD_REQUEST, None, true) {
                tracing::debug!(%error, "the client did not wait for its 400");
            }
        }
    }
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(settings.frame_size)
        .max_header_list_size(SERVER_HEADERS_MAX)
        .max_concurrent_streams(settings.server_streams_max)
        .max_send_buffer_size(settings.send_buffer_max)
        .data_frame_budget(SMALL_FRAMES_MAX);
    builder
}

#[cfg(test)]
mod tests;
