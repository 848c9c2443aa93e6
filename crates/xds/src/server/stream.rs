//! The driver of one proxy's stream.
//!
//! In: the stream of requests, the table. Out: responses into a small queue that the transport empties.
//! A client that does not acknowledge, or does not read, is cut after [`ACKNOWLEDGE_TIMEOUT`]; it costs no more than its
//! session until then.

use std::{collections::BTreeMap, time::Duration};

use lateen_rt::{deadline::within, drain::Drain};
use lateen_wire::{core::Node, discovery::DeltaDiscoveryRequest, encoded::Response, type_url};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::Status;

use super::{Peer, Table};
use crate::session::server::{Acknowledged, ServerSession, SessionError};

/// For the first request to arrive.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// For a response to be acknowledged. A large first picture takes a busy proxy some seconds.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(120);
/// For the second type's subscription to follow the first, so that policies can go out before the workloads. Clients
/// send both at once.
const SETTLE: Duration = Duration::from_millis(50);
/// More than the types of a stream, and one answer per type is out at most: the queue never makes a session wait.
const QUEUE: usize = crate::session::server::TYPES_MAX + 1;

/// What goes to the transport.
pub type Responses = ReceiverStream<Result<Response, Status>>;

/// What the caller wants to know of, and decide about, one stream.
pub trait Events: Send + Sync + 'static {
    /// Decides about the node that opened the stream.
    fn admit(&self, node: &Node) -> Result<Peer, Status>;

    /// A response was acknowledged, or rejected.
    fn acknowledged(&self, peer: &Peer, what: &Acknowledged) {
        let _unused = (peer, what);
    }

    /// The client has acknowledged all of a type that concerns it up to this revision of the table; `None` when it has
    /// just asked for the type. Called after `acknowledged`.
    fn progressed(&self, peer: &Peer, type_url: &str, revision: Option<u64>) {
        let _unused = (peer, type_url, revision);
    }
}

/// A queue for the transport and the work that fills it; the caller runs the work as a task of its own.
pub fn serve<S>(
    requests: S,
    table: Table,
    events: impl Events,
    drain: Drain,
) -> (Responses, impl Future<Output = ()> + Send + 'static)
where
    S: Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Send + Unpin + 'static,
{
    let (responses, queue) = mpsc::channel(QUEUE);
    let work = async move {
        let ended = tokio::select! {
            ended = run(requests, &table, &events, &responses) => ended,
            () = responses.closed() => return,
            () = drain.draining() => Err(Status::unavailable("transport is closing: the control plane is shutting down")),
        };
        if let Err(status) = ended {
            tracing::debug!(%status, "an xds stream ends");
            // Full or closed: the client does not read any more, and the transport will tell it.
            let _unheard = responses.try_send(Err(status));
        }
    };
    (ReceiverStream::new(queue), work)
}

type Queue = mpsc::Sender<Result<Response, Status>>;

async fn run<S>(mut requests: S, table: &Table, events: &impl Events, responses: &Queue) -> Result<(), Status>
where
    S: Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Send + Unpin,
{
    let first = within("the first request", FIRST_REQUEST_TIMEOUT, requests.next()).await;
    let Some(first) = first.map_err(|elapsed| Status::deadline_exceeded(elapsed.to_string()))? else { return Ok(()) };
    let first = first?;
    let node = first.node.as_ref().ok_or_else(|| Status::invalid_argument("the first request must carry a node"))?;
    let peer = events.admit(node)?;
    tracing::info!(node = peer.id, "a proxy subscribed");
    let mut changes = table.subscribe();
    let mut stream = Live {
        session: ServerSession::new(peer.clone()),
        peer,
        table,
        events,
        cut_at: None,
        reported: BTreeMap::new(),
    };
    stream.take(&first)?;
    // It may hold the name of every resource, and the stream lives for long.
    drop(first);
    let mut turn = table.turn();
    let settled = Instant::now() + SETTLE;
    let mut settling = !stream.session.is_subscribed(type_url::AUTHORIZATION);
    loop {
        let has_first_picture = stream.session.has_first_picture();
        let waits = settling || has_first_picture && turn.must_wait();
        if !waits {
            stream.send(responses)?;
        }
        if !has_first_picture {
            turn.give_up();
        }
        stream.report();
        // Dropping any branch loses nothing: requests and revisions stay where they are until taken.
        tokio::select! {
            request = requests.next() => match request {
                None => return Ok(()),
                Some(request) => {
                    stream.take(&request?)?;
                    settling = settling && !stream.session.is_subscribed(type_url::AUTHORIZATION);
                }
            },
            changed = changes.changed() => {
                changed.map_err(|_| Status::unavailable("the control plane is shutting down"))?;
                table.with(|view| stream.session.collect(view)).map_err(|error| refused(&error))?;
            }
            () = turn.next(), if has_first_picture && !settling => {}
            () = sleep_until(settled), if settling => settling = false,
            () = sleep_until(stream.cut_at.unwrap_or(settled)), if stream.cut_at.is_some() => {
                return Err(Status::deadline_exceeded(format!("no acknowledgement within {ACKNOWLEDGE_TIMEOUT:?}")));
            }
        }
    }
}

/// One admitted stream.
struct Live<'t, E> {
    session: ServerSession,
    peer: Peer,
    table: &'t Table,
    events: &'t E,
    /// When the oldest answer still out must have been acknowledged.
    cut_at: Option<Instant>,
    /// What `progressed` was last called with.
    reported: BTreeMap<String, Option<u64>>,
}

impl<E: Events> Live<'_, E> {
    fn take(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let session = &mut self.session;
        let taken = self.table.with(|view| session.request(request, view)).map_err(|error| refused(&error))?;
        if let Some(acknowledged) = taken {
            if let Some(rejected) = &acknowledged.rejected {
                tracing::warn!(
                    node = self.peer.id,
                    type_url = acknowledged.type_url,
                    rejected,
                    "a proxy rejected resources"
                );
            }
            self.events.acknowledged(&self.peer, &acknowledged);
            self.cut_at = self.session.awaits_acknowledgement().then(|| Instant::now() + ACKNOWLEDGE_TIMEOUT);
        }
        Ok(())
    }

    fn report(&mut self) {
        for (type_url, revision) in self.session.progress() {
            let before = self.reported.get(type_url);
            // While something is on its way the client stays where it was.
            if before.is_none() || (revision.is_some() && before != Some(&revision)) {
                self.events.progressed(&self.peer, type_url, revision);
                self.reported.insert(type_url.to_owned(), revision);
            }
        }
    }

    fn send(&mut self, responses: &Queue) -> Result<(), Status> {
        let session = &mut self.session;
        while let Some(response) =
            self.table.with(|view| session.next_response(view)).map_err(|error| refused(&error))?
        {
            metrics::counter!("lateen_xds_responses").increment(1);
            responses.try_send(Ok(response)).map_err(|_| Status::resource_exhausted("the proxy does not read"))?;
            self.cut_at.get_or_insert_with(|| Instant::now() + ACKNOWLEDGE_TIMEOUT);
        }
        Ok(())
    }
}

fn refused(error: &SessionError) -> Status {
    match error {
        SessionError::TooManyTypes | SessionError::TooManyNames { .. } => Status::resource_exhausted(error.to_string()),
        SessionError::FellBehind { .. } => Status::aborted(error.to_string()),
    }
}
