//! Live connections: who is connected to what, so that they can be shown, counted and cut.
//!
//! In: connections as they begin and end, changes of the world. Out: cuts of inbound connections that policy no longer
//! allows, and of plain outbound ones whose destination nobody knows how to reach any more. A connection is registered
//! before its first verdict, so no change slips in between.
//!
//! The verdict is asked for the workload as it is *now*: a policy newly attached to it reaches connections that were
//! opened before (the reference judges by the workload as it was).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lateen_policy::decide::{Facts, Refusal, Verdict, decide_with_missing};
use lateen_rt::drain::Drain;
use lateen_state::{
    lookup::Known,
    workload::{PodKey, Workload},
    world::{World, WorldStore},
};
use lateen_types::{
    addr::NetworkAddress,
    id::SpiffeId,
    name::{NetworkId, PodUid},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::report::Flow;

/// How often the bytes of live connections go into the counters.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// What is asked of policy for one inbound connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The TCP peer.
    pub source: SocketAddr,
    /// The real next hop.
    pub destination: SocketAddr,
    /// Who the peer proved to be; `None` in plain.
    pub identity: Option<SpiffeId>,
    /// Whom the peer calls for, where it is a waypoint that is believed.
    pub client: Option<SpiffeId>,
}

impl Passage {
    /// What policy says of it now, for `workload` in `world`.
    pub fn verdict(&self, world: &World, workload: &Workload) -> Verdict {
        let policies = world.policies_for(workload);
        let known: Vec<_> = policies.known.iter().map(|policy| &**policy).collect();
        let facts = Facts {
            source: self.source,
            destination: self.destination,
            identity: self.identity.as_ref(),
            // The workload may have been told meanwhile to believe its waypoint no longer.
            client: self.client.as_ref().filter(|_| workload.believes_waypoint),
        };
        decide_with_missing(&known, &policies.missing, &facts)
    }
}

/// How a connection travels, for the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Plain TCP.
    Tcp,
    /// One tunnel.
    Hbone,
    /// A tunnel in a tunnel.
    DoubleHbone,
    /// Socket to socket, between two pods of this process.
    SameNode,
}

impl Protocol {
    /// The dump's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Hbone => "HBONE",
            Self::DoubleHbone => "DOUBLEHBONE",
            Self::SameNode => "SAMENODE",
        }
    }
}

/// One live connection, for the dump.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The client.
    pub source: SocketAddr,
    /// What was dialled.
    pub dialled: Option<SocketAddr>,
    /// Where it really goes.
    pub hop: SocketAddr,
    /// How it travels.
    pub protocol: Protocol,
}

/// The live connections of one pod.
#[derive(Debug)]
pub struct PodConns {
    pod: PodKey,
    inbound: Mutex<HashMap<u64, Inbound>>,
    outbound: Mutex<HashMap<u64, Outbound>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Inbound {
    passage: Passage,
    seen: Seen,
    flow: Option<Arc<Flow>>,
    /// Taken when the connection is cut.
    cut: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Outbound {
    seen: Seen,
    flow: Arc<Flow>,
    /// Of plain connections only; taken when the connection is cut.
    cut: Option<oneshot::Sender<()>>,
}

/// A registered inbound connection; forgotten when dropped.
#[derive(Debug)]
pub struct InboundGuard {
    id: u64,
    of: Arc<PodConns>,
    cut: oneshot::Receiver<()>,
}

/// A registered outbound connection; forgotten when dropped.
#[derive(Debug)]
pub struct OutboundGuard {
    id: u64,
    of: Arc<PodConns>,
    /// Of plain connections only: whom a tunnel reaches was proven.
    cut: Option<oneshot::Receiver<()>>,
}

impl PodConns {
    fn new(pod: PodKey) -> Self {
        Self { pod, inbound: Mutex::default(), outbound: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Registers an inbound connection. To be called before its first verdict.
    pub fn enter(self: &Arc<Self>, passage: Passage, seen: Seen) -> InboundGuard {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, cut) = oneshot::channel();
        self.inbound.lock().insert(id, Inbound { passage, seen, flow: None, cut: Some(sender) });
        InboundGuard { id, of: self.clone(), cut }
    }

    /// Registers an outbound connection. Whether a plain one [`OutboundGuard::is_lost`] is to be asked after that.
    pub fn leave(self: &Arc<Self>, seen: Seen, flow: Arc<Flow>) -> OutboundGuard {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, cut) = (seen.protocol == Protocol::Tcp).then(oneshot::channel).unzip();
        self.outbound.lock().insert(id, Outbound { seen, flow, cut: sender });
        OutboundGuard { id, of: self.clone(), cut }
    }

    /// Whether what `seen` dialled, or where it went, belongs in `world` to something that cannot be used.
    fn leads_nowhere(&self, world: &World, network: &NetworkId, seen: &Seen) -> bool {
        let is_unusable = |to: SocketAddr| {
            let address = NetworkAddress { network: network.clone(), ip: to.ip() };
            matches!(world.known_at(&address, &self.pod.namespace), Some(Known::Unusable(_)))
        };
        world.unusable_count() > 0 && (seen.dialled.is_some_and(is_unusable) || is_unusable(seen.hop))
    }

    /// The inbound connections now.
    pub fn inbound(&self) -> Vec<Seen> {
        self.inbound.lock().values().map(|inbound| inbound.seen.clone()).collect()
    }

    /// The outbound connections now.
    pub fn outbound(&self) -> Vec<Seen> {
        self.outbound.lock().values().map(|outbound| outbound.seen.clone()).collect()
    }

    /// Cuts every inbound connection that `world` no longer allows. A workload that is no longer known allows nothing
    /// new, but does not end what runs: it may be a pod that is leaving, or a control plane that lost its memory. Nor
    /// does a policy that is named and has not arrived: some control planes send it after the workload that names it,
    /// or take it away before, and its arrival brings us here again.
    fn reconsider(&self, world: &World) {
        let Some(workload) = world.local_workload(&self.pod) else { return };
        for inbound in self.inbound.lock().values_mut() {
            if is_forbidden(&inbound.passage.verdict(world, workload))
                && let Some(cut) = inbound.cut.take()
                && cut.send(()).is_err()
            {
                tracing::trace!(source = %inbound.passage.source, "a connection ended before it could be cut");
            }
        }
    }

    /// Cuts every plain outbound connection to what cannot be used any more: a new one would be refused, and nobody knows
    /// whether this one should ever have left in plain.
    fn reconsider_plain(&self, world: &World, network: &NetworkId) {
        for outbound in self.outbound.lock().values_mut().filter(|outbound| outbound.cut.is_some()) {
            if self.leads_nowhere(world, network, &outbound.seen)
                && let Some(cut) = outbound.cut.take()
                && cut.send(()).is_err()
            {
                tracing::trace!(source = %outbound.seen.source, "a connection ended before it could be cut");
            }
        }
    }

    fn flush(&self) {
        // The flows are taken out first: counting must not hold up connections that begin.
        let mut flows: Vec<Arc<Flow>> =
            self.inbound.lock().values().filter_map(|inbound| inbound.flow.clone()).collect();
        flows.extend(self.outbound.lock().values().map(|outbound| outbound.flow.clone()));
        for flow in flows {
            flow.flush();
        }
    }
}

fn is_forbidden(verdict: &Verdict) -> bool {
    match verdict.refusal() {
        None | Some(Refusal::PolicyMissing(_)) => false,
        Some(Refusal::ExplicitlyDenied(_) | Refusal::NoneAllowed) => true,
    }
}

impl InboundGuard {
    /// Lets the bytes be counted while the connection lives.
    pub fn counts(&self, flow: &Arc<Flow>) {
        if let Some(inbound) = self.of.inbound.lock().get_mut(&self.id) {
            inbound.flow = Some(flow.clone());
        }
    }

    /// Returns once policy no longer allows the connection. Safe to drop and call again until then.
    pub async fn cut(&mut self) {
        if (&mut self.cut).await.is_err() {
            // Only this guard's own drop closes the channel without a cut.
            std::future::pending::<()>().await;
        }
    }
}

impl OutboundGuard {
    /// Whether this connection is plain and its destination cannot be used in `world`.
    pub fn is_lost(&self, world: &World, network: &NetworkId) -> bool {
        let outbound = self.of.outbound.lock();
        let plain = outbound.get(&self.id).filter(|_| self.cut.is_some());
        plain.is_some_and(|plain| self.of.leads_nowhere(world, network, &plain.seen))
    }

    /// Returns once a plain connection's destination cannot be used any more. Safe to drop and call again until then.
    pub async fn cut(&mut self) {
        let cut = match &mut self.cut {
            Some(cut) => cut.await,
            None => std::future::pending().await,
        };
        if cut.is_err() {
            // Only this guard's own drop closes the channel without a cut.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for InboundGuard {
    fn drop(&mut self) {
        self.of.inbound.lock().remove(&self.id);
    }
}

impl Drop for OutboundGuard {
    fn drop(&mut self) {
        self.of.outbound.lock().remove(&self.id);
    }
}

/// The live connections of every pod; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Conns {
    pods: Arc<Mutex<HashMap<PodUid, Arc<PodConns>>>>,
}

impl Conns {
    /// The connections of a pod that begins to be served.
    pub fn pod(&self, uid: &PodUid, key: &PodKey) -> Arc<PodConns> {
        let conns = Arc::new(PodConns::new(key.clone()));
        self.pods.lock().insert(uid.clone(), conns.clone());
        conns
    }

    /// The pod is no longer served.
    pub fn forget(&self, uid: &PodUid) {
        self.pods.lock().remove(uid);
    }

    /// Every pod with its connections.
    pub fn pods(&self) -> Vec<(PodUid, Arc<PodConns>)> {
        self.pods.lock().iter().map(|(uid, conns)| (uid.clone(), conns.clone())).collect()
    }

    /// Brings the byte counters up to date.
    pub fn flush(&self) {
        for (_, pod) in self.pods() {
            pod.flush();
        }
    }

    /// Reconsiders live connections whenever a verdict could have changed, until the drain is forced. `network` is where
    /// they are.
    pub async fn watch(&self, store: &WorldStore, network: &NetworkId, drain: &Drain) {
        let mut changes = store.subscribe();
        changes.mark_changed();
        // None seen yet: a connection may have been judged, and the world changed, before this began.
        let mut epoch = None;
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = flush.tick() => {
                    self.flush();
                    continue;
                }
                () = drain.forced() => return,
            }
            let world = store.load();
            let verdicts_changed = epoch.replace(world.verdict_epoch()) != Some(world.verdict_epoch());
            // Rare; and then any change can bring it out, for example the removal of what was stronger.
            let some_unusable = world.unusable_count() > 0;
            if !verdicts_changed && !some_unusable {
                continue;
            }
            for (_, pod) in self.pods() {
                if verdicts_changed {
                    pod.reconsider(&world);
                }
                if some_unusable {
                    pod.reconsider_plain(&world, network);
                }
                // Thousands of connections are judged in one go; let others run between pods.
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
#[path = "conns_tests.rs"]
mod tests;
