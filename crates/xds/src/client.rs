//! The client's driver: connects, speaks, applies, reconnects.
//!
//! In: a way to connect, what to subscribe to, a [`Handler`]. Out: calls of the handler, in order, and `synced`.
//! Absent on purpose: TLS and tokens (the channel has them), what resources mean (the handler knows).

use std::{future::Future, sync::Arc, time::Duration};

use lateen_rt::{backoff::Backoff, deadline::within, drain::Drain, inbox::Inbox};
use lateen_wire::{
    core::Node,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    type_url,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};
use tracing::Instrument as _;

use crate::session::client::ClientSession;
pub use crate::session::client::{Mode, Rejected, Subscription};

/// A resource that came.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its name; kept by the client as long as the resource is held, so whoever keeps it too should share it.
    pub name: Arc<str>,
    /// All of it.
    pub resource: Resource,
}

/// Takes resources over. One call at a time, in the order of the stream; large ones come from a blocking thread.
pub trait Handler: Send + Sync + 'static {
    /// Applies one response: `resources`, then `removed` names. When it returns, readers see the result. Good resources
    /// are applied even when others are rejected.
    fn apply(&self, type_url: &str, resources: Vec<Told>, removed: Vec<String>) -> Result<(), Vec<Rejected>>;

    /// These keys of an on-demand type have an answer now, found or not; whoever waits for them may look.
    fn answered(&self, type_url: &str, keys: &[String]) {
        let _nobody_waits_by_key = (type_url, keys);
    }
}

/// What to ask for, and whom to tell.
#[derive(Debug)]
pub struct Client {
    /// Who we are.
    pub node: Node,
    /// Types, in the order they are asked for.
    pub subscriptions: Vec<Subscription>,
    /// Address keys to ask for, if Address is on demand.
    pub demands: Inbox<String>,
    /// Becomes true once every wildcard type was applied and acknowledged once.
    pub synced: watch::Sender<bool>,
    /// Ends the client.
    pub drain: Drain,
}

/// The largest message taken: a first picture of a big mesh from a control plane that does not split it.
const MESSAGE_MAX: usize = 200 * 1024 * 1024;
/// For the channel to come up, with its own shorter deadlines inside.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// For the stream to be answered at all. A control plane may send its headers only with its first resources.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// For one of our requests to be taken by the transport.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests waiting for the transport; beyond it the stream's reader waits.
const REQUESTS_MAX: usize = 64;
const RETRY_START: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Why a stream ended.
#[derive(Debug)]
enum End {
    /// No stream came about.
    Connection(String),
    /// The server, or the way to it, said an error.
    Error(Status),
    /// The server ended the stream in good order.
    Complete,
    /// We were told to end.
    Drained,
}

/// Keeps a stream open until the drain begins. `connect` makes a fresh channel for each attempt, so that new roots and
/// tokens are used.
pub async fn run<C, F, T, E>(connect: C, client: Client, handler: Arc<impl Handler>)
where
    C: Fn() -> F,
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let mut session = ClientSession::new(client.node.clone(), &client.subscriptions);
    let mut pace = Backoff::new(RETRY_START, RETRY_MAX);
    for id in 0_u64.. {
        let mut heard = false;
        let attempt = async {
            match open(&connect, &session).await {
                Ok(stream) => speak(stream, &mut session, &client, (&handler, &mut heard)).await,
                Err(end) => end,
            }
        };
        let end = tokio::select! {
            end = attempt.instrument(tracing::info_span!("xds", id)) => end,
            () = client.drain.draining() => End::Drained,
        };
        let Some(wait) = pause(&end, heard, &mut pace) else { return };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = client.drain.draining() => return,
        }
    }
}

/// How long to wait before the next stream, having told the log and the metrics; `None` to stop.
fn pause(end: &End, heard: bool, pace: &mut Backoff) -> Option<Duration> {
    let (reason, wait) = match end {
        End::Drained => return None,
        End::Connection(error) => {
            let wait = pace.next_wait();
            tracing::warn!(error, ?wait, "cannot reach the control plane, will try again");
            ("ConnectionError", wait)
        }
        End::Error(status) if is_ordinary(status) => {
            tracing::debug!(%status, "the xds stream ended, reconnecting");
            pace.reset();
            ("Reconnect", RETRY_START)
        }
        End::Error(status) => {
            let wait = pace.next_wait();
            tracing::warn!(code = ?status.code(), error = status.message(), ?wait, "the xds stream failed, will try again");
            ("Error", wait)
        }
        // A server that accepts and hangs up without a word must not be asked in a tight circle.
        End::Complete if !heard => ("Complete", pace.next_wait()),
        End::Complete => {
            tracing::debug!("the control plane ended the xds stream, reconnecting");
            pace.reset();
            ("Complete", Duration::ZERO)
        }
    };
    metrics::counter!("istio_xds_connection_terminations", "reason" => reason).increment(1);
    Some(wait)
}

/// Ends of streams that happen in a healthy mesh: restarts, rebalancing, maximum connection ages.
fn is_ordinary(status: &Status) -> bool {
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unavailable => {
            let message = status.message();
            message.contains("transport is closing") || message.contains("received prior goaway")
        }
        _ => false,
    }
}

/// Both directions of a running stream.
struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

async fn open<C, F, T, E>(connect: &C, session: &ClientSession) -> Result<Stream, End>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let channel = within("connecting to the control plane", CONNECT_TIMEOUT, connect()).await;
    let channel = channel.map_err(|elapsed| End::Connection(elapsed.to_string()))?;
    let channel = channel.map_err(|error| End::Connection(error.to_string()))?;
    let (requests, queue) = mpsc::channel(REQUESTS_MAX);
    for request in session.open() {
        // The queue is larger than the number of types, so this never fails.
        let _room = requests.try_send(request);
    }
    let mut service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    let calling = service.delta_aggregated_resources(ReceiverStream::new(queue));
    let answer = within("the control plane's first answer", FIRST_ANSWER_TIMEOUT, calling).await;
    let answer = answer.map_err(|elapsed| End::Connection(elapsed.to_string()))?;
    // Before any answer the stream did not come about, whatever the status says.
    let responses = answer.map_err(|status| End::Connection(cause(&status)))?.into_inner();
    Ok(Stream { requests, responses })
}

/// The status with what is behind it: tonic's own text is often only "transport error".
fn cause(status: &Status) -> String {
    let mut text = format!("{}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

async fn speak<H: Handler>(
    mut stream: Stream,
    session: &mut ClientSession,
    client: &Client,
    (handler, heard): (&Arc<H>, &mut bool),
) -> End {
    loop {
        // Both branches may be dropped: a message is taken from the stream, and keys from the inbox, only as they return.
        let request = tokio::select! {
            message = stream.responses.message() => match message {
                Ok(Some(response)) => {
                    *heard = true;
                    match take(response, session, handler).await {
                        Ok(request) => vec![request],
                        Err(end) => return end,
                    }
                }
                Ok(None) => return End::Complete,
                Err(status) => return End::Error(status),
            },
            keys = client.demands.drain() => {
                keys.iter().filter_map(|key| session.demand(type_url::ADDRESS, key)).collect()
            }
        };
        for request in request {
            let sending = stream.requests.send(request);
            match within("sending to the control plane", SEND_TIMEOUT, sending).await {
                // A closed queue shows as an error of the other direction too; that one has the reason.
                Ok(Ok(()) | Err(_)) => {}
                Err(elapsed) => return End::Connection(elapsed.to_string()),
            }
        }
        if session.is_synced() {
            client.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
        }
    }
}

/// Resources in one response that are applied on the client's own thread; more would keep others there waiting. Handing
/// a single change to another thread and back costs more than the change.
const AT_ONCE_MAX: usize = 16;

/// Applies one response, away from this thread if it is large, then makes the answer.
async fn take<H: Handler>(
    response: DeltaDiscoveryResponse,
    session: &mut ClientSession,
    handler: &Arc<H>,
) -> Result<DeltaDiscoveryRequest, End> {
    count(&response);
    let summary = session.summary(&response);
    let kind = response.type_url.clone();
    if !session.knows(&kind) {
        tracing::warn!(type_url = kind, "the control plane sent a type nobody asked for, ignored");
        return Ok(session.applied(&summary, &[]).request);
    }
    let names = summary.names().cloned();
    let told = response.resources.into_iter().zip(names).map(|(resource, name)| Told { name, resource });
    let (told, removed) = (told.collect::<Vec<_>>(), response.removed_resources);
    let verdict = if told.len() + removed.len() <= AT_ONCE_MAX {
        handler.apply(&kind, told, removed)
    } else {
        let (applying, of) = (handler.clone(), kind.clone());
        let verdict = tokio::task::spawn_blocking(move || applying.apply(&of, told, removed)).await;
        verdict.map_err(|error| End::Error(Status::internal(format!("applying resources: {error}"))))?
    };
    let rejected = verdict.err().unwrap_or_default();
    for one in &rejected {
        tracing::warn!(type_url = kind, name = one.name, reason = one.reason, "a resource was rejected");
    }
    let applied = session.applied(&summary, &rejected);
    if !applied.answered.is_empty() {
        handler.answered(&kind, &applied.answered);
    }
    Ok(applied.request)
}

fn count(response: &DeltaDiscoveryResponse) {
    // A closed set of label values, whatever a peer calls its types.
    let known = [type_url::ADDRESS, type_url::AUTHORIZATION, type_url::WORKLOAD];
    let url = known.into_iter().find(|known| *known == response.type_url).unwrap_or("unknown");
    let sizes = response.resources.iter().filter_map(|one| one.resource.as_ref()).map(|any| any.value.len() as u64);
    metrics::counter!("istio_xds_message", "url" => url).increment(1);
    metrics::counter!("istio_xds_message_bytes", "url" => url).increment(sizes.sum());
}
