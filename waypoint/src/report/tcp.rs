//! Opaque connections: opened and closed once each, bytes as they flow.
//!
//! In: who, what for; how many bytes moved so far. Out: the TCP family, and one record where records are asked for.

use std::{net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use lateen_state::{service::Service, workload::Workload};
use metrics::{Counter, Label};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    Ending, Reporter, Reporting, catalogue,
    format::Format,
    labels::Labelled,
    record::{Client, Kept, Record},
    writer::Entry,
};

/// A connection whose way is chosen, or that is refused.
#[derive(Debug)]
pub struct Opening<'r> {
    /// Who reports.
    pub reporter: Reporter,
    /// Who calls.
    pub client: &'r Arc<Client>,
    /// How records are written; `None`: not at all.
    pub format: Option<&'r Arc<Format>>,
    /// The client's address and what it dialled.
    pub ends: Ends,
    /// The service that is meant.
    pub service: Option<&'r Arc<Service>>,
    /// The workload it goes to.
    pub workload: Option<&'r Arc<Workload>>,
}

/// Both addresses of the client's connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The client.
    pub remote: SocketAddr,
    /// What it dialled.
    pub local: SocketAddr,
}

/// The guard of one connection: counted as opened when made, as closed exactly once.
#[derive(Debug)]
pub struct Report {
    reporting: Arc<Reporting>,
    reporter: Reporter,
    client: Arc<Client>,
    service: Option<Arc<Service>>,
    workload: Option<Arc<Workload>>,
    ends: Ends,
    format: Option<Arc<Format>>,
    start: Timestamp,
    began: Instant,
    received: Flushed,
    sent: Flushed,
    finished: bool,
}

/// How much of a direction is in its counter.
struct Flushed {
    counter: Counter,
    total: u64,
}

impl std::fmt::Debug for Flushed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.total)
    }
}

impl Flushed {
    fn flush(&mut self, total: u64) {
        self.counter.increment(total.saturating_sub(self.total));
        self.total = self.total.max(total);
    }
}

impl Report {
    /// Counts the connection as opened.
    pub fn open(reporting: &Arc<Reporting>, opening: &Opening<'_>) -> Self {
        let labels = labels(opening, &[]);
        metrics::counter!(catalogue::OPENED, labels.clone()).increment(1);
        let flushed = |counter: Counter| Flushed { counter, total: 0 };
        Self {
            reporting: reporting.clone(),
            reporter: opening.reporter,
            client: opening.client.clone(),
            service: opening.service.cloned(),
            workload: opening.workload.cloned(),
            ends: opening.ends,
            format: opening.format.cloned(),
            start: Timestamp::now(),
            began: Instant::now(),
            received: flushed(metrics::counter!(catalogue::RECEIVED, labels.clone())),
            sent: flushed(metrics::counter!(catalogue::SENT, labels)),
            finished: false,
        }
    }

    /// So many bytes moved since the beginning, from the client and to it. Said every few seconds and at the end.
    pub fn flush(&mut self, received: u64, sent: u64) {
        self.received.flush(received);
        self.sent.flush(sent);
    }

    /// It is over; the ending's bytes are those of the whole connection.
    pub fn finish(mut self, ending: Ending) {
        self.end(ending);
    }

    fn end(&mut self, ending: Ending) {
        self.finished = true;
        self.flush(ending.received, ending.sent);
        let opening = Opening {
            reporter: self.reporter,
            client: &self.client,
            format: None,
            ends: self.ends,
            service: self.service.as_ref(),
            workload: self.workload.as_ref(),
        };
        metrics::counter!(catalogue::CLOSED, labels(&opening, &ending.flags)).increment(1);
        let Some(format) = self.format.take() else { return };
        let record = Record {
            client: self.client.clone(),
            hostname: self.reporting.hostname.clone(),
            start: self.start,
            remote: self.ends.remote,
            local: self.ends.local,
            line: None,
            response: Kept::new(),
            trailers: Kept::new(),
            status: 0,
            grpc_status: None,
            flags: ending.flags,
            details: ending.details,
            termination: ending.termination,
            transport_failure: ending.transport_failure,
            received: self.received.total,
            sent: self.sent.total,
            duration: self.began.elapsed(),
            request_took: None,
            answered_after: None,
            upstream: ending.upstream,
            route: ending.route,
        };
        self.reporting.log.put(Entry { format, record: Box::new(record) });
    }
}

impl Drop for Report {
    /// Its task was dropped where it stood.
    fn drop(&mut self) {
        if !self.finished {
            let (received, sent) = (self.received.total, self.sent.total);
            let flags: SmallVec<[&'static str; 2]> = SmallVec::from_slice(&["DC"]);
            self.end(Ending { flags, received, sent, ..Ending::default() });
        }
    }
}

fn labels(opening: &Opening<'_>, flags: &[&'static str]) -> Vec<Label> {
    let labelled = Labelled {
        reporter: opening.reporter,
        is_mutual: opening.client.is_mutual,
        source: &opening.client.party,
        destination: opening.workload.map(|one| &**one),
        service: opening.service.map(|one| &**one),
        flags,
        request: None,
    };
    labelled.labels()
}
