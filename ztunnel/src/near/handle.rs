//! The corridor of one connection between two pods of this process: prove, check, register, judge, dial, copy, report.
//!
//! In: a planned call and the pod it is for. Out: nothing but its effects: what both ends of a tunnel would have told,
//! refused and cut, in the same order. Absent on purpose: choosing this way (see `outbound::plan`).

use std::{net::SocketAddr, sync::Arc};

use lateen_identity::keeper::KeeperError;
use lateen_net::unbegun::Unbegun;
use lateen_state::{service::Service, workload::Workload, world::World};
use lateen_telemetry::access::{self, Direction};

use super::neighbours::Entered;
use crate::{
    conns::{InboundGuard, Passage, Protocol, Seen},
    inbound::{
        arrival::{ArrivalError, copy, finish, guess_service, judge, reach},
        check::{Ask, CheckError, Target, Wanted, check},
    },
    outbound::{handle::Call, plan::Plan},
    pod::{ILLEGAL_PORTS, Pod},
    report::{Flag, Opening, Party, Report, Security},
};

/// Why a call does not reach its neighbour, as the caller's end tells it.
#[derive(Debug, thiserror::Error)]
enum NearError {
    /// The control plane's authority does not vouch for the caller.
    #[error("no certificate: {0}")]
    Caller(KeeperError),
    /// Nor for the destination.
    #[error("the destination on this node has no certificate: {0}")]
    Destination(KeeperError),
    /// Who was planned for is not who is there.
    #[error("the destination is no longer the workload that was chosen")]
    Another,
    /// The destination's end would not take it.
    #[error("refused by the destination on this node: {0}")]
    Check(CheckError),
    /// Its pod ended first.
    #[error("the destination on this node has ended")]
    Gone,
    /// Policy said no, or the application is not there.
    #[error("refused by the destination on this node: {0}")]
    Arrival(#[from] ArrivalError),
}

impl NearError {
    /// The metrics' word: what the caller's end of a tunnel would say.
    fn flag(&self) -> Flag {
        match self {
            Self::Caller(_) => Flag::Identity,
            Self::Destination(_) | Self::Another => Flag::TlsFailure,
            Self::Check(_) | Self::Gone | Self::Arrival(_) => Flag::Connect,
        }
    }
}

/// How a connection that was let in ended.
enum Ended {
    /// Before any byte could pass.
    Refused(NearError),
    /// After bytes could pass: whatever the destination's end says, the caller's end saw its peer leave.
    Carried,
}

/// Carries one call to a pod of this process until it ends. The caller's own drain drops it where it stands.
pub async fn carry(call: &Call<'_>, (plan, to): (&Plan, SocketAddr), there: Entered, stream: Unbegun) {
    let report = Report::open(call.opening(plan, to), &call.pod.drain);
    match visit(call, (plan, to), &there, (stream, &report)).await {
        Ok(()) => report.complete(),
        Err(error) => report.failed(error.flag(), &error),
    }
}

async fn visit(
    call: &Call<'_>,
    (plan, to): (&Plan, SocketAddr),
    there: &Entered,
    (stream, report): (Unbegun, &Report<'_>),
) -> Result<(), NearError> {
    // What beginning needs is boxed, so that it is given back when the copying begins.
    let proven = match Box::pin(prove(call, (plan, to), &there.pod)).await {
        Ok(proven) => proven,
        Err(error) => {
            if !matches!(error, NearError::Caller(_)) {
                access::denied(call.client, to, Direction::Inbound, &error);
            }
            return Err(error);
        }
    };
    let identity = Some(call.source.identity.clone());
    let hop = proven.target.to;
    let passage = Passage { source: call.client, destination: hop, identity, client: None };
    let seen = Seen { source: call.client, dialled: Some(to), hop, protocol: Protocol::SameNode };
    // Registered before the verdict: a change from here on either is in the world the verdict is asked of, or cuts.
    let guard = there.pod.conns.enter(passage.clone(), seen);
    let arrived = OtherEnd(Some(report.other_end(opening(call, proven), &there.pod.drain)));
    let arrival = Arrival { call, there, to: hop, passage: &passage };
    match arrival.deliver(stream, report, (arrived, guard)).await {
        Ended::Carried => Ok(()),
        Ended::Refused(error) => Err(error),
    }
}

/// What is known of the destination once it may be asked for its verdict.
struct Proven {
    local: Arc<Workload>,
    target: Target,
    /// The service the connection was probably meant for, for telemetry only.
    service: Option<Arc<Service>>,
}

/// Both ends' identities and the target, as far as a tunnel would have proved them: each side has a certificate of
/// the control plane's authority, the pod there is the workload that was planned for, and it is asked for what is its own.
async fn prove(call: &Call<'_>, (plan, to): (&Plan, SocketAddr), there: &Pod) -> Result<Proven, NearError> {
    let keeper = &there.shared.keeper;
    keeper.certificate(&call.source.identity).await.map_err(NearError::Caller)?;
    let world = there.shared.world.load();
    let planned = plan.destination.as_ref().ok_or(NearError::Another)?;
    let local = here(&world, there, planned).ok_or(NearError::Another)?.clone();
    keeper.certificate(&local.identity).await.map_err(NearError::Destination)?;
    let ask = Ask {
        world: &world,
        own_network: &there.shared.settings.network,
        local: &local,
        dialled: to.ip(),
        illegal_ports: &ILLEGAL_PORTS,
    };
    let target = check(&ask, &Wanted::Addr(to)).map_err(NearError::Check)?;
    // The plan keeps such applications on the tunnel; one that became such since is refused this once.
    if target.proxy_header.is_some() || target.to != to {
        return Err(NearError::Another);
    }
    let named = plan.service.as_ref().map(|service| &service.key.hostname);
    let service = guess_service(&world, &local, target.to.port(), named);
    Ok(Proven { local, target, service })
}

/// The destination's workload in its own end's eyes, if that is the one that was planned for, under the same identity.
fn here<'w>(world: &'w World, there: &Pod, planned: &Workload) -> Option<&'w Arc<Workload>> {
    let local = world.local_workload(&there.key)?;
    (local.uid == planned.uid && local.identity == planned.identity).then_some(local)
}

/// One connection at the destination's end.
struct Arrival<'a> {
    call: &'a Call<'a>,
    there: &'a Entered,
    to: SocketAddr,
    passage: &'a Passage,
}

impl Arrival<'_> {
    /// Judges, connects, copies, and writes the destination's record.
    async fn deliver(
        &self,
        stream: Unbegun,
        report: &Report<'_>,
        (arrived, mut guard): (OtherEnd<'_>, InboundGuard),
    ) -> Ended {
        let connected = async {
            judge(&self.there.pod, self.passage)?;
            Box::pin(reach(&self.there.pod, self.to, (self.call.client, self.there.keep), &mut guard)).await
        };
        let connected = tokio::select! {
            biased;
            () = self.there.pod.drain.forced() => return Ended::Refused(NearError::Gone),
            connected = connected => connected,
        };
        let application = match connected {
            Ok(application) => application,
            Err(error) => return Ended::Refused(arrived.refused(error).into()),
        };
        let seen = Seen {
            source: self.call.client,
            dialled: Some(self.call.dialled),
            hop: self.to,
            protocol: Protocol::SameNode,
        };
        let _live = self.call.pod.conns.leave(seen, report.flow().clone());
        let Some(inbound) = arrived.report() else { return Ended::Carried };
        let ended = tokio::select! {
            // The destination's pod is gone: its report says so when it is dropped.
            biased;
            () = self.there.pod.drain.forced() => return Ended::Carried,
            ended = copy((stream.begin(), application), inbound, &mut guard) => ended,
        };
        arrived.finish(ended);
        Ended::Carried
    }
}

/// The destination's report. Dropped where it stands, it says what a tunnel's end would have seen: the end of its own pod,
/// which the report knows by itself, or a caller that left.
struct OtherEnd<'a>(Option<Report<'a>>);

impl OtherEnd<'_> {
    fn report(&self) -> Option<&Report<'_>> {
        self.0.as_ref()
    }

    fn finish(mut self, ended: Result<(), ArrivalError>) {
        if let Some(report) = self.0.take() {
            finish(report, ended);
        }
    }

    /// Writes the refusal, and gives it back for the caller's record.
    fn refused(mut self, error: ArrivalError) -> ArrivalError {
        if let Some(report) = self.0.take() {
            report.failed(error.flag(), &error);
        }
        error
    }
}

impl Drop for OtherEnd<'_> {
    fn drop(&mut self) {
        if let Some(report) = self.0.take() {
            report.complete();
        }
    }
}

fn opening(call: &Call<'_>, Proven { local, target, service }: Proven) -> Opening {
    Opening {
        direction: Direction::Inbound,
        client: call.client,
        hop: Some(target.to),
        authority: None,
        source: Party::workload(&call.source).proven(Some(call.source.identity.clone())),
        destination: Party::workload(&local).proven(Some(local.identity.clone())),
        service,
        security: Security::SameNode,
        began: call.began,
    }
}
