//! The ports of a gateway: what is bound follows the configuration.
//!
//! ```text
//! book changes ─► wanted ports ─► new ones are bound on every thread, others close, the rest is not touched
//! ```
//! In: the book. Out: listening sockets, whose connections go to [`enter`]. Only the number decides about a socket: what is
//! spoken on it, and for whom, is asked anew for each connection, so no change of a listener loses one. Absent on purpose:
//! the port of tunnels, which only waypoints have (see `door`).

mod clients;
mod enter;
mod proxied;
mod tls;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lateen_net::{
    accept,
    listen::{self, ListenError, ListenOptions},
};
use lateen_rt::{drain::Drain, ready::Condition};
use tokio::sync::Semaphore;

pub use self::{
    enter::{Door, handle},
    tls::Configs,
};
use crate::{
    book::{Book, proxy::Role},
    catalogue,
    lane::Lane,
};

/// When a port that could not be bound is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How ports are bound.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Our address.
    pub ip: IpAddr,
    /// Ports that are our own, whatever the configuration says: to share one with it would hand it our operators' requests.
    pub reserved: BTreeSet<u16>,
    /// Connections of all ports on one thread.
    pub connections_max: usize,
    /// Ends accepting, at last.
    pub process: Drain,
    /// Tells connections to go elsewhere.
    pub doors: Drain,
}

/// A thread, and how many more connections it takes.
struct Place {
    lane: Arc<Lane>,
    permits: Arc<Semaphore>,
}

/// One port that is bound.
#[derive(Debug)]
struct Bound {
    accepting: Drain,
    connections: Drain,
}

impl Bound {
    fn close(&self) {
        self.accepting.start();
        self.connections.start();
    }
}

/// Binds and closes ports until the process ends. `opened` holds from the first time on that everything was tried: a port
/// that cannot be bound must not keep clients from all others.
pub async fn follow(lanes: Vec<Arc<Lane>>, binding: Binding, opened: Arc<Condition>) {
    let Some(first) = lanes.first() else { return };
    let store = first.shared.book.clone();
    let mut changed = store.subscribe();
    let permits = || Arc::new(Semaphore::new(binding.connections_max));
    let lanes: Vec<Place> = lanes.into_iter().map(|lane| Place { lane, permits: permits() }).collect();
    let (mut ports, mut opened) = (Ports::default(), Some(opened));
    loop {
        changed.mark_unchanged();
        let book = store.load();
        ports.settle(&wanted(&book), &lanes, (&binding, &gateway(&book)));
        metrics::gauge!(catalogue::PORTS).set(ports.bound.len() as f64);
        metrics::gauge!(catalogue::PORTS_FAILED).set(ports.failed.len() as f64);
        drop(book);
        // Only the first time: a process that is ending is not ready, whatever it is told.
        if let Some(opened) = opened.take().filter(|_| !binding.doors.is_draining()) {
            opened.set(true);
        }
        tokio::select! {
            heard = changed.changed() => if heard.is_err() { return },
            () = tokio::time::sleep(RETRY_INTERVAL), if !ports.failed.is_empty() => {}
            () = binding.process.draining() => return,
        }
    }
}

/// The ports that the configuration asks for.
fn wanted(book: &Book) -> BTreeSet<u16> {
    let proxy = book.proxy().filter(|proxy| proxy.role == Role::Gateway);
    proxy.iter().flat_map(|proxy| proxy.listeners.iter().map(|listener| listener.bind_port)).collect()
}

/// Who asks for them, as the log names it.
fn gateway(book: &Book) -> String {
    book.proxy().map_or_else(String::new, |proxy| format!("{}/{}", proxy.namespace, proxy.name))
}

/// What became of the ports that are asked for.
#[derive(Debug, Default)]
struct Ports {
    bound: BTreeMap<u16, Bound>,
    /// Those that could not be bound. It is said once.
    failed: BTreeSet<u16>,
}

impl Ports {
    /// Makes what is bound what is wanted.
    fn settle(&mut self, wanted: &BTreeSet<u16>, lanes: &[Place], by: (&Binding, &str)) {
        self.failed.retain(|port| wanted.contains(port));
        self.bound.retain(|port, one| {
            let stays = wanted.contains(port);
            if !stays {
                tracing::info!(port, "a port is no longer served; its connections end with their next answer");
                one.close();
            }
            stays
        });
        for port in wanted {
            if !self.bound.contains_key(port) {
                self.open(*port, lanes, by);
            }
        }
    }

    fn open(&mut self, port: u16, lanes: &[Place], (binding, gateway): (&Binding, &str)) {
        let made = match binding.reserved.contains(&port) {
            true => Err("it is one of the proxy's own".to_owned()),
            false => bind(port, lanes, binding).map_err(|error| error.to_string()),
        };
        match made {
            Ok(one) => {
                tracing::info!(port, "a port is served");
                self.bound.insert(port, one);
                self.failed.remove(&port);
            }
            Err(reason) => {
                if self.failed.insert(port) {
                    let mend = "a port cannot be served; choose another one for the listener, or free it";
                    tracing::error!(gateway, port, reason, "{mend}");
                }
            }
        }
    }
}

/// Binds on every thread, or on none.
fn bind(port: u16, lanes: &[Place], binding: &Binding) -> Result<Bound, ListenError> {
    let addr = SocketAddr::new(binding.ip, port);
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let sockets = lanes.iter().map(|place| {
        let _on_lane = place.lane.tasks.enter();
        Ok(listen::tcp(addr, &options)?.socket)
    });
    let sockets = sockets.collect::<Result<Vec<_>, ListenError>>()?;
    let one = Bound { accepting: binding.process.child(), connections: binding.doors.child() };
    for (Place { lane, permits }, socket) in lanes.iter().zip(sockets) {
        let (of, door) = (lane.clone(), Door { bind: port, drain: one.connections.clone() });
        let accepting = accept::sharing(
            "gateway",
            (socket, permits.clone()),
            (lane.tasks.clone(), one.accepting.clone()),
            move |stream, peer| handle(of.clone(), door.clone(), stream, peer),
        );
        lane.tasks.spawn("gateway-port", accepting);
    }
    Ok(one)
}
