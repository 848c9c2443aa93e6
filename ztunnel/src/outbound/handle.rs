//! The corridor of one outbound connection: resolve, plan, dial, copy, report.
//!
//! In: an accepted stream. Out: nothing but its effects. The only place that sees the whole.

use std::{net::SocketAddr, sync::Arc};

use lateen_hbone::request::TraceParent;
use lateen_net::{
    options::tune,
    origdst::original_dst,
    splice::{Duplex, splice},
};
use lateen_state::{workload::Workload, world::World};
use lateen_telemetry::access::{self, Direction};
use lateen_types::{addr::canonical, name::WorkloadUid};
use tokio::{net::TcpStream, time::Instant};
use tracing::Instrument as _;

use super::{
    dial::{self, For},
    plan::{Ask, Near, Plan, PlanError, Route, plan},
    resolve::resolve,
};
use crate::{
    conns::{Protocol, Seen},
    near::{
        self,
        neighbours::{Entered, Nobody},
    },
    pod::{ILLEGAL_PORTS, Pod},
    report::{Flag, OpenSocket, Opening, Party, Report, Security},
};

/// Carries one connection of the pod until it ends, or the pod's drain is forced.
pub async fn handle(pod: Arc<Pod>, stream: TcpStream, peer: SocketAddr) {
    let _open = OpenSocket::new(Direction::Outbound);
    let client = canonical(peer);
    let trace = TraceParent::random();
    let span = tracing::debug_span!("outbound", id = %trace);
    let carrying = carry(&pod, stream, client, trace).instrument(span);
    // Dropping it closes both ends; the report's guard then says why.
    tokio::select! {
        // First, so that what was cut takes no further step.
        biased;
        () = pod.drain.forced() => {}
        () = carrying => {}
    }
}

async fn carry(pod: &Arc<Pod>, stream: TcpStream, client: SocketAddr, trace: TraceParent) {
    let began = Instant::now();
    if let Err(error) = tune(&stream, pod.shared.settings.keepalive.as_ref()) {
        tracing::debug!(%error, "the client left before its socket was tuned");
    }
    let dialled = match original_dst(&stream) {
        Ok(dialled) => dialled.get(),
        Err(error) => return access::denied(client, client, Direction::Outbound, &error),
    };
    let (world, source) = match resolve(pod, dialled).await {
        Ok(found) => found,
        Err(error) => return access::denied(client, dialled, Direction::Outbound, &error),
    };
    let (plan, neighbour) = match decide(pod, &world, (&source, client), dialled) {
        Ok(decided) => decided,
        Err(error) => {
            metrics::counter!("istio_outbound_refused", "reason" => error.reason()).increment(1);
            return access::denied(client, dialled, Direction::Outbound, &error);
        }
    };
    // A long connection must not hold a whole picture of the mesh in memory.
    drop(world);
    let call = Call { pod, client, dialled, source: &source, trace, began };
    if let Some((to, there)) = neighbour {
        return near::handle::carry(&call, (&plan, to), there, stream).await;
    }
    match &plan.route {
        Route::Plain(to) => match dial::place(to).await {
            Ok(to) => call.plain(&plan, to, stream).await,
            Err(error) => access::denied(client, dialled, Direction::Outbound, &error),
        },
        Route::Tunnel(hop) | Route::Near(Near { hop, .. }) | Route::Double { outer: hop, .. } => {
            match dial::place(&hop.to).await {
                Ok(to) => call.tunnelled(&plan, to, stream).await,
                Err(error) => access::denied(client, dialled, Direction::Outbound, &error),
            }
        }
    }
}

/// The plan, and the pod to enter if it is on this node. A pod that was there for the plan and cannot be entered any more
/// is reached by the tunnel that was planned beside it, where it must prove who it is.
fn decide(
    pod: &Pod,
    world: &World,
    (source, client): (&Workload, SocketAddr),
    dialled: SocketAddr,
) -> Result<(Plan, Option<(SocketAddr, Entered)>), PlanError> {
    let settings = &pod.shared.settings;
    let neighbours = pod.shared.neighbours.load();
    let ask = Ask {
        world,
        own_network: &settings.network,
        source,
        client: client.ip(),
        dialled,
        illegal_ports: &ILLEGAL_PORTS,
        neighbours: if settings.same_node { &*neighbours } else { &Nobody },
    };
    let mut plan = plan(&ask, &mut rand::rng())?;
    let Route::Near(near) = &plan.route else { return Ok((plan, None)) };
    let destination = plan.destination.as_deref();
    if let Some(there) = destination.and_then(|workload| neighbours.enter(workload, near.to.ip())) {
        let to = near.to;
        return Ok((plan, Some((to, there))));
    }
    plan.route = Route::Tunnel(near.hop.clone());
    Ok((plan, None))
}

/// One connection on its way.
pub struct Call<'a> {
    /// The caller's pod.
    pub pod: &'a Arc<Pod>,
    /// Its socket's address.
    pub client: SocketAddr,
    /// What it dialled.
    pub dialled: SocketAddr,
    /// The caller.
    pub source: &'a Arc<Workload>,
    /// When it was accepted.
    pub began: Instant,
    trace: TraceParent,
}

impl Call<'_> {
    async fn plain(&self, plan: &Plan, to: SocketAddr, stream: TcpStream) {
        let report = Report::open(self.opening(plan, to), &self.pod.drain);
        match dial::plain(self.pod, to).await {
            Ok(upstream) => self.copy((stream, upstream), (to, Protocol::Tcp), report).await,
            Err(error) => report.failed(error.flag(), &error),
        }
    }

    async fn tunnelled(&self, plan: &Plan, to: SocketAddr, stream: TcpStream) {
        let report = Report::open(self.opening(plan, to), &self.pod.drain);
        let by = For {
            source: self.source,
            client: self.client,
            service: plan.service.as_ref().map(|service| &service.key.hostname),
            trace: self.trace,
        };
        let nobody = WorkloadUid::from("");
        let uid = plan.destination.as_ref().map_or(&nobody, |workload| &workload.uid);
        let (opened, protocol) = match &plan.route {
            Route::Tunnel(hop) => (dial::tunnel(self.pod, hop, (to, uid), &by).await, Protocol::Hbone),
            Route::Double { outer, inner_accepted } => {
                (dial::double(self.pod, (outer, to, uid), inner_accepted, &by).await, Protocol::DoubleHbone)
            }
            // The caller sends other routes elsewhere; a refusal is the safe answer to a mistake there.
            Route::Plain(_) | Route::Near(_) => return report.failed(Flag::Connect, &"no tunnel was planned"),
        };
        match opened {
            Ok(opened) => self.copy((stream, opened.tunnel), (to, protocol), report).await,
            Err(error) => report.failed(error.flag(), &error),
        }
    }

    async fn copy<U: Duplex>(
        &self,
        (client, upstream): (TcpStream, U),
        (hop, protocol): (SocketAddr, Protocol),
        report: Report<'_>,
    ) {
        let seen = Seen { source: self.client, dialled: Some(self.dialled), hop, protocol };
        let _live = self.pod.conns.leave(seen, report.flow().clone());
        let flow = report.flow().clone();
        match splice(client, upstream, &flow.meter, std::future::pending::<()>()).await {
            Ok(_) => report.complete(),
            Err(error) => report.failed(Flag::Connect, &error),
        }
    }

    /// What the caller's report is opened with, its next hop being `hop`.
    pub fn opening(&self, plan: &Plan, hop: SocketAddr) -> Opening {
        let security = match plan.route {
            Route::Plain(_) => Security::Unknown,
            Route::Near(_) => Security::SameNode,
            Route::Tunnel(_) | Route::Double { .. } => Security::MutualTls,
        };
        let known = security != Security::Unknown;
        let proven = |identity: &lateen_types::id::SpiffeId| known.then(|| identity.clone());
        let source = Party::workload(self.source).proven(proven(&self.source.identity));
        let destination = match &plan.destination {
            Some(workload) if known => Party::workload(workload).proven(proven(&workload.identity)),
            Some(workload) => Party::workload(workload).expected(Some(workload.identity.clone())),
            None => Party::default(),
        };
        let authority = match &plan.route {
            Route::Plain(_) | Route::Near(_) => None,
            Route::Tunnel(to) | Route::Double { outer: to, .. } => Some(dial::authority(to, hop).to_string()),
        };
        Opening {
            direction: Direction::Outbound,
            client: self.client,
            hop: Some(hop),
            authority,
            source,
            destination,
            service: plan.service.clone(),
            security,
            began: self.began,
        }
    }
}
