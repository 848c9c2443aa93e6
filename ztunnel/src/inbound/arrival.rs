//! What plaintext and tunnelled arrivals have in common: judge, connect to the application, copy, report.
//!
//! In: a registered connection and its report. Out: a connected application, or the reason there is none.
//! Absent on purpose: how the connection came.

use std::{future::Future, net::SocketAddr, sync::Arc};

use futures::FutureExt as _;
use lateen_net::{
    dial::{self, DialError, DialOptions, Source},
    options::Leg,
    splice::{Duplex, Outcome, SpliceError, splice},
    unbegun::Unbegun,
};
use lateen_policy::decide::Refusal;
use lateen_state::{service::Service, workload::Workload, world::World};
use lateen_types::name::Hostname;

use super::origin::OriginError;
use crate::{
    conns::{InboundGuard, Passage},
    pod::{KeepSource, Pod},
    report::{Flag, Report},
};

/// What the record says when policy changed under a connection.
const POLICY_CHANGED: &str = "connection closed due to policy change";

/// Why an arrival does not reach its application.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// Policy.
    #[error("connection closed due to policy rejection: {0}")]
    Refused(Refusal),
    /// Who it is for is not to be believed.
    #[error("connection refused: {0}")]
    Origin(#[from] OriginError),
    /// Policy, meanwhile.
    #[error("{POLICY_CHANGED}")]
    Changed,
    /// The application.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The tunnel's client left before its answer.
    #[error("the client left before it was answered: {0}")]
    Answer(String),
    /// The application did not take the PROXY header.
    #[error("the PROXY header cannot be written: {0}")]
    Header(std::io::Error),
    /// The pod's own workload vanished between two looks.
    #[error("the workload is no longer known")]
    Forgotten,
    /// Copying.
    #[error(transparent)]
    Copy(#[from] SpliceError),
}

impl ArrivalError {
    /// The metrics' word.
    pub fn flag(&self) -> Flag {
        match self {
            Self::Refused(_) | Self::Origin(_) | Self::Changed | Self::Forgotten => Flag::Deny,
            Self::Dial(_) | Self::Answer(_) | Self::Header(_) | Self::Copy(_) => Flag::Connect,
        }
    }
}

/// What policy says now. Asked after the connection was registered, in a world taken after that.
pub fn judge(pod: &Pod, passage: &Passage) -> Result<(), ArrivalError> {
    let world = pod.shared.world.load();
    let workload = world.local_workload(&pod.key).ok_or(ArrivalError::Forgotten)?;
    let verdict = passage.verdict(&world, workload);
    for finding in &verdict.dry_run {
        if pod.shared.settings.policy_info_logging {
            tracing::info!(source = %passage.source, destination = %passage.destination, %finding, "dry-run policy");
        } else {
            tracing::debug!(source = %passage.source, destination = %passage.destination, %finding, "dry-run policy");
        }
    }
    match verdict.refusal() {
        Some(refusal) => Err(ArrivalError::Refused(refusal.clone())),
        None => Ok(()),
    }
}

/// Connects to the application, keeping the client's address where that is possible.
pub async fn reach(
    pod: &Pod,
    to: SocketAddr,
    (client, keep): (SocketAddr, KeepSource),
    guard: &mut InboundGuard,
) -> Result<Unbegun, ArrivalError> {
    let source = match keep {
        // A pod that calls itself would see its own address either way, and the kernel takes no packet from
        // outside that claims to be from here.
        KeepSource::Yes if client.ip() != to.ip() && !to.ip().is_loopback() => Source::Prefer(client.ip()),
        KeepSource::Yes | KeepSource::No => Source::Any,
    };
    let options = DialOptions { leg: Leg::Pod, ..pod.dial_options(source) };
    tokio::select! {
        connected = dial::tcp(to, &options) => Ok(Unbegun::new(connected?)),
        () = guard.cut() => Err(ArrivalError::Changed),
    }
}

/// Copies until both sides have ended or policy cuts the connection.
pub fn copy<C: Duplex>(
    (client, application): (C, Unbegun),
    report: &Report<'_>,
    guard: &mut InboundGuard,
) -> impl Future<Output = Result<(), ArrivalError>> {
    guard.counts(report.flow());
    // Not an async function: that would let go of both ends in good order if it were dropped before its first poll.
    splice(client, application.begin(), &report.flow().meter, guard.cut()).map(|ended| match ended? {
        Outcome::Ended { .. } => Ok(()),
        Outcome::Interrupted(()) => Err(ArrivalError::Changed),
    })
}

/// Writes the end into record and counters.
pub fn finish(report: Report<'_>, ended: Result<(), ArrivalError>) {
    match ended {
        Ok(()) => report.complete(),
        Err(error) => report.failed(error.flag(), &error),
    }
}

/// The service a connection was probably meant for: the one the client named if this workload backs it, else the first
/// with this target port. For telemetry only.
pub fn guess_service(world: &World, workload: &Workload, port: u16, named: Option<&Hostname>) -> Option<Arc<Service>> {
    let backed = || workload.services.iter().filter_map(|(key, ports)| Some((world.service(key)?, ports)));
    let by_name = named.and_then(|host| backed().find(|(service, _)| service.key.hostname == *host));
    let by_port = || backed().find(|(service, ports)| ports.leads_to(port) || service.ports.leads_to(port));
    by_name.or_else(by_port).map(|(service, _)| service.clone())
}
