//! The pods that are served, each with its listeners inside its namespace on every thread of the data path.
//!
//! In: a pod and its namespace from the ledger. Out: listeners that are bound before [`Pods::start`] returns, and their end.
//! The kernel spreads a pod's connections over the threads' listeners, which share their ports. Absent on purpose: what
//! happens to a connection (see `outbound`, `inbound`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use lateen_net::{
    accept,
    listen::{self, ListenError, Transparent},
    netns::Netns,
};
use lateen_rt::{drain::Drain, tasks::Tasks, threads::Lanes};
use lateen_state::workload::PodKey;
use lateen_types::name::PodUid;
use parking_lot::Mutex;
use tokio::{net::TcpListener, runtime::Handle};

use crate::{
    conns::PodConns,
    dns,
    enrol::{
        ledger,
        stream::{Proxies, Room},
    },
    inbound, outbound,
    pod::{KeepSource, OUTBOUND_PORT, PLAINTEXT_PORT, Pod, Shared, TUNNEL_PORT},
};

/// How long the tasks of a pod that is gone may take to notice.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// One pod in the dump.
#[derive(Debug, Clone)]
pub struct PodState {
    /// The agent's key.
    pub uid: PodUid,
    /// Who it is.
    pub key: PodKey,
    /// Its live connections; `None` while it waits for its listeners.
    pub conns: Option<Arc<PodConns>>,
}

/// Every pod that is served.
pub struct Pods {
    shared: Arc<Shared>,
    lanes: Lanes,
    drain: Drain,
    running: Mutex<HashMap<PodUid, Served>>,
    /// Names of pods that could not be started yet, for the dump.
    waiting: Mutex<HashMap<PodUid, PodKey>>,
}

impl Pods {
    /// No pods yet. They are served by the threads of `lanes` and drain with `drain`.
    pub fn new(shared: Arc<Shared>, lanes: Lanes, drain: Drain) -> Self {
        Self { shared, lanes, drain, running: Mutex::default(), waiting: Mutex::default() }
    }

    /// Serves a pod whose sockets live in `netns`, with every listener bound when it returns.
    pub fn serve(&self, uid: &PodUid, key: PodKey, netns: Option<Netns>) -> Result<(), ListenError> {
        let served = self.prepare(uid, (key, netns), self.lanes_of_a_pod());
        match bind_all(&served) {
            Ok(bound) => {
                let keep = keep_source(bound.iter().all(|bound| bound.tunnels.transparent));
                served.on.iter().zip(bound).for_each(|(pod, bound)| accept_on(pod, bound));
                // A caller dials on its own thread, so any of them will do.
                self.shared.neighbours.add(uid, served.first(), keep);
                self.running.lock().insert(uid.clone(), served);
                Ok(())
            }
            Err(error) => {
                self.shared.conns.forget(uid);
                served.first().drain.force();
                Err(error)
            }
        }
    }

    /// Only listeners that share their port can be on several threads. Otherwise each pod has one of the threads.
    fn lanes_of_a_pod(&self) -> &[Handle] {
        let all = self.lanes.all();
        if self.shared.settings.reuse_port {
            return all;
        }
        let one = self.running.lock().len() % all.len();
        &all[one..=one]
    }

    fn prepare(&self, uid: &PodUid, pod: (PodKey, Option<Netns>), lanes: &[Handle]) -> Served {
        let conns = self.shared.conns.pod(uid, &pod.0);
        let (tasks, drain) = (Tasks::on(self.lanes.first().clone()), self.drain.child());
        let on = lanes.iter().map(|lane| {
            let owner = (tasks.also_on(lane.clone()), drain.clone());
            Arc::new(Pod::new(self.shared.clone(), pod.clone(), conns.clone(), owner, lanes.len()))
        });
        Served { on: on.collect() }
    }

    /// Serves tunnels for this process itself, in its own namespace, so that others can scrape it through the mesh.
    pub fn serve_self(&self, key: PodKey) -> Result<(), ListenError> {
        let uid = PodUid::from("ztunnel");
        let served = self.prepare(&uid, (key, None), &self.lanes.all()[..1]);
        let tunnels = served.first().listen(TUNNEL_PORT, Transparent::Off)?;
        accept_tunnels(served.first(), tunnels);
        self.running.lock().insert(uid, served);
        Ok(())
    }

    /// Every pod with its state, for the dump.
    pub fn states(&self) -> Vec<PodState> {
        let up = |(uid, served): (&PodUid, &Served)| PodState {
            uid: uid.clone(),
            key: served.first().key.clone(),
            conns: Some(served.first().conns.clone()),
        };
        let mut states: Vec<PodState> = self.running.lock().iter().map(up).collect();
        let waits = |(uid, key): (&PodUid, &PodKey)| PodState { uid: uid.clone(), key: key.clone(), conns: None };
        states.extend(self.waiting.lock().iter().map(waits));
        states
    }

    /// Waits until every connection of every pod has ended, at most `timeout`, then cuts the rest.
    pub async fn end(&self, timeout: Duration) {
        self.drain.start();
        let pods: Vec<Arc<Pod>> = self.running.lock().drain().map(|(_, served)| served.first().clone()).collect();
        let until = tokio::time::Instant::now() + timeout;
        let mut cut = 0;
        for pod in &pods {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if pod.tasks.join(left).await.is_err() {
                cut += pod.tasks.len();
            }
        }
        self.drain.force();
        if cut > 0 {
            tracing::warn!(cut, ?timeout, "the drain's time is over; the remaining connections are cut");
        }
        for pod in &pods {
            if let Err(error) = pod.tasks.join(STOP_TIMEOUT).await {
                tracing::warn!(pod = %pod.key, %error, "some tasks of the pod did not end");
            }
        }
    }
}

/// One pod on all its threads, of which there is at least one. They share owner, drain and list of connections.
struct Served {
    on: Vec<Arc<Pod>>,
}

impl Served {
    fn first(&self) -> &Arc<Pod> {
        &self.on[0]
    }
}

/// A pod's listeners on one thread.
struct Bound {
    outbound: listen::Listening<TcpListener>,
    plaintext: listen::Listening<TcpListener>,
    tunnels: listen::Listening<TcpListener>,
    dns: Option<dns::serve::DnsSockets>,
}

/// All or nothing: a pod is not served by half. Its DNS is on the first thread.
fn bind_all(served: &Served) -> Result<Vec<Bound>, ListenError> {
    let mut bound = served.on.iter().map(|pod| bind(pod)).collect::<Result<Vec<_>, _>>()?;
    bound[0].dns = served.first().bind_dns()?;
    Ok(bound)
}

fn bind(pod: &Pod) -> Result<Bound, ListenError> {
    let transparent = pod.shared.settings.transparent;
    Ok(Bound {
        outbound: pod.listen(OUTBOUND_PORT, Transparent::Off)?,
        plaintext: pod.listen(PLAINTEXT_PORT, transparent)?,
        tunnels: pod.listen(TUNNEL_PORT, transparent)?,
        dns: None,
    })
}

fn accept_on(pod: &Arc<Pod>, bound: Bound) {
    let opened = pod.clone();
    let accepting = accept::run(
        "outbound",
        (bound.outbound.socket, pod.connections_max),
        (pod.tasks.clone(), pod.drain.clone()),
        move |stream, peer| outbound::handle::handle(opened.clone(), stream, peer),
    );
    pod.tasks.spawn("accept-outbound", accepting);

    let (plain, keep) = (pod.clone(), keep_source(bound.plaintext.transparent));
    let accepting = accept::run(
        "plaintext",
        (bound.plaintext.socket, pod.connections_max),
        (pod.tasks.clone(), pod.drain.clone()),
        move |stream, peer| inbound::passthrough::handle(plain.clone(), stream, peer, keep),
    );
    pod.tasks.spawn("accept-plaintext", accepting);
    accept_tunnels(pod, bound.tunnels);
    if let Some(sockets) = bound.dns {
        pod.start_dns(sockets);
    }
}

fn accept_tunnels(pod: &Arc<Pod>, tunnels: listen::Listening<TcpListener>) {
    let (of, keep) = (pod.clone(), keep_source(tunnels.transparent));
    let accepting = accept::run(
        "tunnel",
        (tunnels.socket, pod.connections_max),
        (pod.tasks.clone(), pod.drain.clone()),
        move |stream, peer| inbound::admit::handle(of.clone(), stream, peer, keep),
    );
    pod.tasks.spawn("accept-tunnel", accepting);
}

fn keep_source(transparent: bool) -> KeepSource {
    if transparent { KeepSource::Yes } else { KeepSource::No }
}

impl Proxies for Arc<Pods> {
    async fn start(&self, pod: &ledger::Pod<Room>) -> Result<(), String> {
        self.serve(&pod.uid, pod.key.clone(), Some(pod.netns.netns.clone())).map_err(|error| error.to_string())?;
        self.waiting.lock().remove(&pod.uid);
        metrics::counter!("workload_manager_proxies_started").increment(1);
        tracing::info!(pod = %pod.key, uid = %pod.uid, netns = %pod.netns.netns.id(), "the pod is served");
        Ok(())
    }

    async fn stop(&self, uid: &PodUid) {
        let Some(served) = self.running.lock().remove(uid) else { return };
        let pod = served.first();
        self.shared.neighbours.forget(uid);
        pod.drain.force();
        if let Err(error) = pod.tasks.join(STOP_TIMEOUT).await {
            tracing::warn!(pod = %pod.key, %error, "some tasks of the pod did not end");
        }
        self.shared.conns.forget(uid);
        metrics::counter!("workload_manager_proxies_stopped").increment(1);
        tracing::info!(pod = %pod.key, %uid, "the pod is no longer served");
    }

    fn waits(&self, pod: &ledger::Pod<Room>) {
        self.waiting.lock().insert(pod.uid.clone(), pod.key.clone());
    }

    fn forget(&self, uid: &PodUid) {
        self.waiting.lock().remove(uid);
    }
}
