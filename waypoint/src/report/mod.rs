//! What is told about each request and each opaque connection: exactly one access record, and the traffic metrics.
//!
//! In: who, what for, how it ended. Out: one record (where records are asked for), counters, histograms.
//! A [`Report`] is opened with the request and finished when its answer's body has ended. Dropped before that, it says that
//! the client has left. Absent on purpose: deciding anything.

pub mod catalogue;
mod flags;
pub mod format;
mod handles;
mod labels;
mod party;
mod record;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod trace;
mod writer;

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Version, uri::PathAndQuery};
use jiff::Timestamp;
use lateen_hbone::request::Baggage;
use lateen_state::{service::Service, workload::Workload};
use lateen_telemetry::{metrics::Registry, seldom::Seldom};
use lateen_types::id::SpiffeId;
use smallvec::SmallVec;
use tokio::time::Instant;

use self::{
    format::Format,
    handles::Counted,
    labels::Asked,
    party::Parties,
    record::{Kept, Line, Record, kept},
    writer::Entry,
};
pub use self::{
    party::Party,
    record::{Client, Upstream},
    writer::{Log, Writer},
};
use crate::authorize::{DryRun, Refusal, Verdict};

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// A waypoint.
    Waypoint,
    /// A gateway, which is a client of the mesh.
    Source,
}

impl Reporter {
    fn as_str(self) -> &'static str {
        match self {
            Self::Waypoint => "waypoint",
            Self::Source => "source",
        }
    }
}

/// What all reports of the process share.
#[derive(Debug)]
pub struct Reporting {
    log: Log,
    hostname: Arc<str>,
    parties: Parties,
    /// What is said of requests and connections in the log of the process, which anybody can cause.
    pub seldom: Seldom,
}

impl Reporting {
    /// Reports whose records go into `log`.
    pub fn new(log: Log, hostname: &str) -> Self {
        Self { log, hostname: hostname.into(), parties: Parties::default(), seldom: Seldom::default() }
    }

    /// Whoever these facts are about. Asked once for each connection.
    pub fn party(
        &self,
        workload: Option<&Arc<Workload>>,
        baggage: &Baggage,
        principal: Option<&SpiffeId>,
    ) -> Arc<Party> {
        self.parties.get(workload, baggage, principal)
    }
}

/// What is known of a request when its head has come.
#[derive(Debug)]
pub struct Opening<'r> {
    /// Who reports.
    pub reporter: Reporter,
    /// Who calls.
    pub client: &'r Arc<Client>,
    /// How records are written; `None`: not at all.
    pub format: Option<&'r Arc<Format>>,
    /// When the head had come.
    pub began: Instant,
    /// The same, as a clock shows it.
    pub start: Timestamp,
    /// Whether it is gRPC.
    pub is_grpc: bool,
}

/// The request line, where records are written.
#[derive(Debug)]
pub struct Head<'r> {
    /// The method.
    pub method: &'r Method,
    /// The target before a route rewrites it.
    pub target: Option<&'r PathAndQuery>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What was spoken.
    pub version: Version,
    /// The headers, of which `host` is the authority.
    pub headers: &'r HeaderMap,
    /// The client, as trusted proxies in front name it.
    pub remote: SocketAddr,
    /// What the client dialled.
    pub local: SocketAddr,
}

/// The guard of one request.
#[derive(Debug)]
pub struct Report {
    reporting: Arc<Reporting>,
    reporter: Reporter,
    client: Arc<Client>,
    began: Instant,
    is_grpc: bool,
    service: Option<Arc<Service>>,
    workload: Option<Arc<Workload>>,
    status: u16,
    answered: Option<Instant>,
    log: Option<Box<Logged>>,
    finished: bool,
}

/// What only the record needs.
#[derive(Debug)]
struct Logged {
    format: Arc<Format>,
    start: Timestamp,
    line: Option<(Line, SocketAddr, SocketAddr)>,
    response: Kept,
    trailers: Kept,
}

/// How a request ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// Short flags.
    pub flags: SmallVec<[&'static str; 2]>,
    /// How the answer came to be.
    pub details: Cow<'static, str>,
    /// Why the connection ended, where it did.
    pub termination: Option<Box<str>>,
    /// Why the transport to the endpoint failed.
    pub transport_failure: Option<Arc<str>>,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// How long the request took to come, as far as it came.
    pub request_took: Option<Duration>,
    /// What gRPC says of it.
    pub grpc_status: Option<u32>,
    /// Where it was sent.
    pub upstream: Option<Upstream>,
    /// The route's name.
    pub route: Option<Arc<str>>,
}

impl Report {
    /// A request begins.
    pub fn open(reporting: &Arc<Reporting>, opening: &Opening<'_>) -> Self {
        let logged = |format: &Arc<Format>| {
            let (response, trailers) = (Kept::new(), Kept::new());
            Box::new(Logged { format: format.clone(), start: opening.start, line: None, response, trailers })
        };
        Self {
            reporting: reporting.clone(),
            reporter: opening.reporter,
            client: opening.client.clone(),
            began: opening.began,
            is_grpc: opening.is_grpc,
            service: None,
            workload: None,
            status: 0,
            answered: None,
            log: opening.format.map(logged),
            finished: false,
        }
    }

    /// What it asks, once that is unambiguous.
    pub fn asked(&mut self, head: &Head<'_>) {
        let Some(logged) = &mut self.log else { return };
        let line = Line {
            method: head.method.clone(),
            target: head.target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            authority: head.headers.get(http::header::HOST).cloned(),
            scheme: head.scheme,
            version: head.version,
            headers: kept(logged.format.request_headers(), head.headers),
        };
        logged.line = Some((line, head.remote, head.local));
    }

    /// Whether a record will be written, so that what only it shows is worth making.
    pub fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    /// The service that is meant.
    pub fn meant(&mut self, service: Option<&Arc<Service>>) {
        self.service = service.cloned();
    }

    /// The workload it was sent to.
    pub fn sent_to(&mut self, workload: Option<&Arc<Workload>>) {
        self.workload = workload.cloned();
    }

    /// The head of the answer, as the client will have it.
    pub fn answered(&mut self, status: u16, headers: &HeaderMap) {
        self.status = status;
        self.answered = Some(Instant::now());
        if let Some(logged) = &mut self.log {
            logged.response = kept(logged.format.response_headers(), headers);
        }
    }

    /// The trailers of the answer.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(logged) = &mut self.log {
            logged.trailers = kept(logged.format.trailers(), trailers);
        }
    }

    /// It is over.
    pub fn finish(mut self, ending: Ending) {
        self.end(ending);
    }

    fn end(&mut self, ending: Ending) {
        self.finished = true;
        let now = Instant::now();
        let duration = now.saturating_duration_since(self.began);
        let counted = Counted {
            reporter: self.reporter,
            is_mutual: self.client.is_mutual,
            source: &self.client.party,
            destination: self.workload.as_ref(),
            service: self.service.as_ref(),
            flags: &ending.flags,
            asked: Asked { is_grpc: self.is_grpc, status: self.status, grpc_status: ending.grpc_status },
        };
        let handles = handles::of(&counted, now);
        handles.requests.increment(1);
        handles.duration.record(duration.as_secs_f64() * 1000.0);
        handles.request_bytes.record(ending.received as f64);
        handles.response_bytes.record(ending.sent as f64);
        if let Some(logged) = self.log.take() {
            self.record(*logged, ending, duration);
        }
    }

    fn record(&self, logged: Logged, ending: Ending, duration: Duration) {
        let (line, remote, local) = match logged.line {
            Some((line, remote, local)) => (Some(line), remote, local),
            None => (None, self.client.hop, self.client.hop),
        };
        let record = Record {
            client: self.client.clone(),
            hostname: self.reporting.hostname.clone(),
            start: logged.start,
            remote,
            local,
            line,
            response: logged.response,
            trailers: logged.trailers,
            status: self.status,
            grpc_status: ending.grpc_status,
            flags: ending.flags,
            details: ending.details,
            termination: ending.termination,
            transport_failure: ending.transport_failure,
            received: ending.received,
            sent: ending.sent,
            duration,
            request_took: ending.request_took,
            answered_after: self.answered.map(|at| at.saturating_duration_since(self.began)),
            upstream: ending.upstream,
            route: ending.route,
        };
        self.reporting.log.put(Entry { format: logged.format, record: Box::new(record) });
    }
}

impl Drop for Report {
    /// The request's task was dropped where it stood: its client is gone, or the process is ending.
    fn drop(&mut self) {
        if !self.finished {
            let mut flags = SmallVec::new();
            flags.push("DC");
            let details = "downstream_remote_disconnect".into();
            self.end(Ending { flags, details, ..Ending::default() });
        }
    }
}

/// Looks without change after which a series nobody adds to is forgotten; between two looks [`EXPIRE_EVERY`] passes.
const IDLE_LOOKS: u8 = 4;
/// How often [`expire`] is to be called.
pub const EXPIRE_EVERY: Duration = Duration::from_secs(600);

/// Forgets series of traffic that is no more.
pub fn expire(registry: &Registry) {
    let is_traffic = |family: &str| catalogue::TABLE.iter().any(|row| row.name == family);
    let gone = registry.expire(IDLE_LOOKS, is_traffic);
    if gone > 0 {
        tracing::debug!(series = gone, "metrics of traffic that is no more are forgotten");
    }
}

/// Counts what policies said beside the answer: denials by their reason, and findings of dry-run policies.
pub fn judged(verdict: &Verdict<'_>) {
    if let Some(refusal) = verdict.refusal() {
        let policy = match refusal {
            Refusal::Denied(speaker) => speaker.policy.to_string(),
            Refusal::NoneAllowed => String::new(),
            Refusal::Missing(key) | Refusal::Unreadable(key) => key.to_string(),
        };
        metrics::counter!(catalogue::DENIED, "reason" => refusal.reason(), "policy" => policy).increment(1);
    }
    for finding in &verdict.dry_run {
        let (action, result, policy) = match finding {
            DryRun::WouldDeny(speaker) => ("deny", "denied", speaker.policy.to_string()),
            DryRun::WouldAllow(speaker) => ("allow", "allowed", speaker.policy.to_string()),
            DryRun::WouldAllowNone => ("allow", "denied", String::new()),
        };
        metrics::counter!(catalogue::DRY_RUN, "action" => action, "result" => result, "policy" => policy).increment(1);
    }
}
