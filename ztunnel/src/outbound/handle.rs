//! The corridor of one outbound connection: resolve, plan, dial, copy, report.
//!
//! In: an accepted stream. Out: nothing but its effects. The only place that sees the whole.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use lateen_hbone::{request::TraceParent, stream::Tunnel};
use lateen_net::{
    origdst::original_dst,
    splice::{Duplex, Outcome, splice},
    unbegun::Unbegun,
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
    conns::{OutboundGuard, Protocol, Seen},
    near::{
        self,
        neighbours::{Entered, Nobody},
    },
    pod::{ILLEGAL_PORTS, Pod},
    report::{Flag, OpenSocket, Opening, Party, Report, Security},
};

/// What the record says when a plain connection's destination came to be something nobody knows how to reach.
const UNUSABLE: &str = "connection closed: its destination belongs to something that cannot be used";

/// Carries one connection of the pod until it ends, or the pod's drain is forced.
pub async fn handle(pod: Arc<Pod>, stream: Unbegun, peer: SocketAddr) {
    let _open = OpenSocket::new(Direction::Outbound);
    let trace = TraceParent::random();
    let span = tracing::debug_span!("outbound", id = %trace);
    // Most connections are silent most of the time. What beginning one needs is many times what copying needs, and is
    // in a box of its own that is given back once the copying begins.
    let carrying = async {
        match Box::pin(begin(&pod, stream, canonical(peer), trace)).await {
            Some(Begun::Plain(carried)) => carried.run().await,
            Some(Begun::Tunnelled(carried)) => carried.run().await,
            Some(Begun::Near(visit)) => {
                let Visit { call, plan, to, there, stream } = *visit;
                Box::pin(near::handle::carry(&call, (&plan, to), there, stream)).await;
            }
            None => {}
        }
    };
    // Dropping it closes both ends; the report's guard then says why.
    tokio::select! {
        // First, so that what was cut takes no further step.
        biased;
        () = pod.drain.forced() => {}
        () = carrying.instrument(span) => {}
    }
}

/// A connection whose bytes can flow.
enum Begun<'p> {
    Plain(Carried<'p, TcpStream>),
    Tunnelled(Carried<'p, Tunnel>),
    /// It only begins: `near` does the rest.
    Near(Box<Visit<'p>>),
}

/// A call to a pod of this process.
struct Visit<'p> {
    call: Call<'p>,
    plan: Plan,
    to: SocketAddr,
    there: Entered,
    stream: Unbegun,
}

/// Both ends of a connection, and what is told of it.
struct Carried<'p, U> {
    live: OutboundGuard,
    report: Report<'p>,
    client: Unbegun,
    upstream: U,
}

impl<U: Duplex> Carried<'_, U> {
    /// Copies until both sides have ended.
    async fn run(self) {
        let Self { mut live, report, client, upstream } = self;
        let flow = report.flow().clone();
        match splice(client.begin(), upstream, &flow.meter, live.cut()).await {
            Ok(Outcome::Ended { .. }) => report.complete(),
            Ok(Outcome::Interrupted(())) => report.failed(Flag::Connect, &UNUSABLE),
            Err(error) => report.failed(Flag::Connect, &error),
        }
    }
}

/// Does everything up to the first byte; `None` if there is nothing to copy, or if that was done elsewhere.
async fn begin<'p>(pod: &'p Arc<Pod>, stream: Unbegun, client: SocketAddr, trace: TraceParent) -> Option<Begun<'p>> {
    let began = Instant::now();
    let denied = |dialled, error: &dyn Display| {
        access::denied(client, dialled, Direction::Outbound, error);
        None
    };
    let dialled = match original_dst(stream.stream()) {
        Ok(dialled) => dialled.get(),
        Err(error) => return denied(client, &error),
    };
    let (world, source) = match resolve(pod, dialled).await {
        Ok(found) => found,
        Err(error) => return denied(dialled, &error),
    };
    let (plan, neighbour) = match decide(pod, &world, (&source, client), dialled) {
        Ok(decided) => decided,
        Err(error) => {
            metrics::counter!("istio_outbound_refused", "reason" => error.reason()).increment(1);
            return denied(dialled, &error);
        }
    };
    // A long connection must not hold a whole picture of the mesh in memory.
    drop(world);
    let call = Call { pod, client, dialled, source, trace, began };
    if let Some((to, there)) = neighbour {
        return Some(Begun::Near(Box::new(Visit { call, plan, to, there, stream })));
    }
    match &plan.route {
        Route::Plain(to) => match dial::place(to).await {
            Ok(to) => call.plain(&plan, to, stream).await,
            Err(error) => denied(dialled, &error),
        },
        Route::Tunnel(hop) | Route::Near(Near { hop, .. }) | Route::Double { outer: hop, .. } => {
            match dial::place(&hop.to).await {
                Ok(to) => call.tunnelled(&plan, to, stream).await,
                Err(error) => denied(dialled, &error),
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
    pub source: Arc<Workload>,
    /// When it was accepted.
    pub began: Instant,
    trace: TraceParent,
}

impl<'p> Call<'p> {
    async fn plain(&self, plan: &Plan, to: SocketAddr, client: Unbegun) -> Option<Begun<'p>> {
        let report = Report::open(self.opening(plan, to), &self.pod.drain);
        match dial::plain(self.pod, to).await {
            Ok(upstream) => {
                let carried = self.carried((client, upstream), (to, Protocol::Tcp), report);
                let shared = &self.pod.shared;
                // Registered first: a change from here on cuts, and one since the plan is seen now.
                if carried.live.is_lost(&shared.world.load(), &shared.settings.network) {
                    carried.report.failed(Flag::Connect, &UNUSABLE);
                    return None;
                }
                Some(Begun::Plain(carried))
            }
            Err(error) => {
                report.failed(error.flag(), &error);
                None
            }
        }
    }

    async fn tunnelled(&self, plan: &Plan, to: SocketAddr, client: Unbegun) -> Option<Begun<'p>> {
        let report = Report::open(self.opening(plan, to), &self.pod.drain);
        let by = For {
            source: &self.source,
            client: self.client,
            service: plan.service.as_ref().map(|service| &service.key.hostname),
            trace: self.trace,
        };
        let nobody = WorkloadUid::from("");
        let uid = plan.destination.as_ref().map_or(&nobody, |workload| &workload.uid);
        let (opened, protocol) = match &plan.route {
            Route::Tunnel(hop) => (dial::tunnel(self.pod, hop, (to, uid), &by).await, Protocol::Hbone),
            Route::Double { outer, inner_accepted } => {
                // In a box of its own: few connections take this way, and all would keep room for it.
                let opening = Box::pin(dial::double(self.pod, (outer, to, uid), inner_accepted, &by));
                (opening.await, Protocol::DoubleHbone)
            }
            // The caller sends other routes elsewhere; a refusal is the safe answer to a mistake there.
            Route::Plain(_) | Route::Near(_) => {
                report.failed(Flag::Connect, &"no tunnel was planned");
                return None;
            }
        };
        match opened {
            Ok(opened) => Some(Begun::Tunnelled(self.carried((client, opened.tunnel), (to, protocol), report))),
            Err(error) => {
                report.failed(error.flag(), &error);
                None
            }
        }
    }

    fn carried<U>(
        &self,
        (client, upstream): (Unbegun, U),
        (hop, protocol): (SocketAddr, Protocol),
        report: Report<'p>,
    ) -> Carried<'p, U> {
        let seen = Seen { source: self.client, dialled: Some(self.dialled), hop, protocol };
        let live = self.pod.conns.leave(seen, report.flow().clone());
        Carried { live, report, client, upstream }
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
        let source = Party::workload(&self.source).proven(proven(&self.source.identity));
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
