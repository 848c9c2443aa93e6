//! The client's end of a connection: open it, then open tunnels on it.
//!
//! In: a secured stream. Out: [`Client`], whose connection is driven by a task of the caller's owner.
//! Absent on purpose: sharing connections (see [`crate::pool`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{Builder, SendRequest},
};
use http::{Request, StatusCode};
use lateen_rt::{
    deadline::{Elapsed, within},
    drain::Drain,
    tasks::Tasks,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    ping,
    pool::Occupied,
    request::{Baggage, Connect},
    settings::{CLIENT_HEADERS_MAX, SMALL_FRAMES_MAX, Settings},
    stream::{Empties, Tunnel},
};

/// Why a connection cannot be used for tunnels.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The stream did not take our preface in time.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// HTTP/2 could not begin.
    #[error("HTTP/2 could not begin: {0}")]
    Http(#[from] h2::Error),
}

/// Why a tunnel was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The request cannot be written as HTTP.
    #[error("the authority {0} cannot stand in a request")]
    Unsayable(String),
    /// The server never looked at the request (GOAWAY, a dead connection): another connection may be tried.
    #[error("the connection takes no more requests: {0}")]
    Unprocessed(h2::Error),
    /// The server answered, but not with 200.
    #[error("http status: {0}")]
    Status(StatusCode),
    /// The server did not answer in time.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// The stream or its connection failed before the answer.
    #[error("the tunnel failed before it was open: {0}")]
    Failed(h2::Error),
}

impl ConnectError {
    /// Whether the connection should carry no further requests.
    pub(crate) fn condemns(&self) -> bool {
        match self {
            // The application at the far end is gone, which says nothing of the way there.
            Self::Failed(error) if error.is_reset() && error.reason() == Some(Reason::CONNECT_ERROR) => false,
            Self::Unprocessed(_) | Self::Timeout(_) | Self::Failed(_) => true,
            Self::Unsayable(_) | Self::Status(_) => false,
        }
    }
}

/// What a server's 200 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who the destination says it is.
    pub baggage: Baggage,
}

/// An open connection. It ends, with GOAWAY, when all clones and all tunnels are gone, or when its drain is forced.
#[derive(Debug, Clone)]
pub struct Client {
    requests: SendRequest<Bytes>,
    ended: Arc<AtomicBool>,
    empties: Arc<Empties>,
    connect_timeout: Duration,
}

/// Begins HTTP/2 on `stream`. `tasks` owns the connection's task; forcing `drain` ends it at once.
pub async fn open<S>(stream: S, settings: &Settings, tasks: &Tasks, drain: &Drain) -> Result<Client, OpenError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opening = builder(settings).handshake(stream);
    let (requests, mut connection) = within("the HTTP/2 preface", settings.open_timeout, opening).await??;
    let pings = connection.ping_pong();
    let ended = Arc::new(AtomicBool::new(false));
    let (report, drain) = (Ended(ended.clone()), drain.clone());
    let (idle, timeout) = (settings.ping_after, settings.ping_timeout);
    tasks.spawn("hbone-client", async move {
        let _report = report;
        let watching = async {
            match pings {
                Some(pings) => ping::watch(pings, idle, timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = connection => tracing::debug!(?ended, "a tunnel connection ended"),
            dead = watching => tracing::debug!(?dead, "a tunnel connection is dead; its tunnels are reset"),
            () = drain.forced() => tracing::debug!("a tunnel connection was cut by a drain"),
        }
    });
    Ok(Client { requests, ended, empties: Arc::default(), connect_timeout: settings.connect_timeout })
}

/// Says that the connection has ended, also when its task is aborted.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(settings.frame_size)
        .max_header_list_size(CLIENT_HEADERS_MAX)
        .initial_max_send_streams(settings.client_streams_max)
        .max_send_buffer_size(settings.send_buffer_max)
        .data_frame_budget(SMALL_FRAMES_MAX);
    builder
}

impl Client {
    /// Opens a tunnel. Dropping the future cancels the stream.
    pub async fn connect(&self, connect: &Connect) -> Result<(Tunnel, Answer), ConnectError> {
        self.connect_on(connect, None).await
    }

    pub(crate) async fn connect_on(
        &self,
        connect: &Connect,
        place: Option<Occupied>,
    ) -> Result<(Tunnel, Answer), ConnectError> {
        let request = connect.to_http().ok_or_else(|| ConnectError::Unsayable(connect.authority.to_string()))?;
        within("the answer to CONNECT", self.connect_timeout, self.exchange(request, place)).await?
    }

    async fn exchange(&self, request: Request<()>, place: Option<Occupied>) -> Result<(Tunnel, Answer), ConnectError> {
        let mut requests = self.requests.clone().ready().await.map_err(ConnectError::Unprocessed)?;
        let (response, send) = requests.send_request(request, false).map_err(ConnectError::Unprocessed)?;
        let response = response.await.map_err(|error| {
            if never_looked_at(&error) { ConnectError::Unprocessed(error) } else { ConnectError::Failed(error) }
        })?;
        if response.status() != StatusCode::OK {
            return Err(ConnectError::Status(response.status()));
        }
        let answer = Answer { baggage: Baggage::from_headers(response.headers()) };
        Ok((Tunnel::new(send, response.into_body(), (self.empties.clone(), place)), answer))
    }

    /// Whether the connection is still driven and good for more tunnels. It may have been told to go away all the same; then
    /// connecting says so.
    pub fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Acquire) && !self.empties.are_used_up()
    }

    /// How many streams the server allows at once, as far as it has told.
    pub fn streams_max(&self) -> usize {
        self.requests.current_max_send_streams()
    }
}

/// RFC 9113 §6.8 and §8.7: a stream beyond GOAWAY's last one, and a refused stream, were not processed.
fn never_looked_at(error: &h2::Error) -> bool {
    (error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR))
        || error.reason() == Some(Reason::REFUSED_STREAM)
}
