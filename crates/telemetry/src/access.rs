//! The access record: one line per connection, in the reference's field order, under the target `access`.
//!
//! In: who spoke to whom, how much, how it ended. Out: one event, which carries the facts; the log's thread makes the text
//! of them. Fields that are not known are left out.
//! Absent on purpose: finding those facts out, and counting.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use lateen_types::{
    id::{Namespace, SpiffeId},
    name::{ClusterId, Hostname},
};
use parking_lot::Mutex;

use crate::log::Shown;

/// Which side of the mesh saw the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// We are beside the client.
    Outbound,
    /// We are beside the server.
    Inbound,
}

impl Direction {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// One end of a connection, as far as it is known. Words are shared, not copied.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// Pod name, else the canonical service.
    pub workload: Option<Arc<str>>,
    /// Its namespace.
    pub namespace: Option<Namespace>,
    /// Its identity, only where mutual TLS proved it.
    pub identity: Option<SpiffeId>,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// Whom it calls for, as it says, where it is believed.
    pub on_behalf_of: Option<SpiffeId>,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Record {
    /// Our side of the mesh.
    pub direction: Direction,
    /// The client's address.
    pub src_addr: SocketAddr,
    /// The client.
    pub src: End,
    /// The TCP next hop; absent if none was ever chosen.
    pub dst_addr: Option<SocketAddr>,
    /// The CONNECT authority of a tunnel.
    pub hbone_addr: Option<String>,
    /// Host name of the service that was meant.
    pub service: Option<Hostname>,
    /// The server.
    pub dst: End,
}

/// How a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// From the application beside us towards the mesh (outbound), or towards the client (inbound).
    pub bytes_sent: u64,
    /// The other way.
    pub bytes_recv: u64,
    /// From accept to end.
    pub duration: Duration,
}

/// Emits the event that carries a record; a macro because the level of an event must be constant. What is carried is made
/// only if somebody wants to see it.
macro_rules! event {
    ($level:ident, $message:literal, $entry:expr) => {
        tracing::event!(
            target: "access",
            tracing::Level::$level,
            record = &Carried::new($entry) as &(dyn std::error::Error + 'static),
            $message
        )
    };
}

/// Whether records of connections that begin may be wanted. They are not at the usual level, and need not be made then.
pub fn wants_opened() -> bool {
    tracing::enabled!(target: "access", tracing::Level::DEBUG)
}

impl Record {
    /// The way is chosen, the connection begins.
    pub fn opened(self) {
        event!(DEBUG, "connection opened", Entry { record: self, ending: None });
    }

    /// The connection ended; `error` says why, where it ended badly.
    pub fn complete(self, traffic: Traffic, error: Option<&dyn fmt::Display>) {
        match error.map(ToString::to_string) {
            None => event!(
                INFO,
                "connection complete",
                Entry { record: self, ending: Some(Ending { traffic, error: None }) }
            ),
            error => {
                event!(ERROR, "connection complete", Entry { record: self, ending: Some(Ending { traffic, error }) });
            }
        }
    }
}

/// A connection refused before anything but its addresses was known.
pub fn denied(src_addr: SocketAddr, dst_addr: SocketAddr, direction: Direction, error: &dyn fmt::Display) {
    tracing::event!(
        target: "access",
        tracing::Level::WARN,
        {
        "src.addr" = %src_addr,
        "dst.addr" = %dst_addr,
        "direction" = direction.as_str(),
        "error" = error.to_string(),
        },
        "connection failed"
    );
}

/// A record and, once the connection has ended, how.
#[derive(Debug)]
pub(crate) struct Entry {
    record: Record,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    traffic: Traffic,
    error: Option<String>,
}

impl Entry {
    /// Names every field that is known, in the reference's order.
    pub(crate) fn each(&self, put: &mut dyn FnMut(&'static str, Shown<'_>)) {
        let record = &self.record;
        put("src.addr", Shown::Bare(&record.src_addr));
        record.src.each(&["src.workload", "src.namespace", "src.identity", "src.cluster"], put);
        if let Some(client) = &record.src.on_behalf_of {
            put("src.on_behalf_of", Shown::Quoted(client));
        }
        if let Some(addr) = &record.dst_addr {
            put("dst.addr", Shown::Bare(addr));
        }
        if let Some(authority) = &record.hbone_addr {
            put("dst.hbone_addr", Shown::Bare(authority));
        }
        if let Some(service) = &record.service {
            put("dst.service", Shown::Quoted(service));
        }
        record.dst.each(&["dst.workload", "dst.namespace", "dst.identity", "dst.cluster"], put);
        put("direction", Shown::Quoted(&record.direction.as_str()));
        let Some(Ending { traffic, error }) = &self.ending else { return };
        put("bytes_sent", Shown::Number(traffic.bytes_sent));
        put("bytes_recv", Shown::Number(traffic.bytes_recv));
        put("duration", Shown::Quoted(&format_args!("{}ms", traffic.duration.as_millis())));
        if let Some(error) = error {
            put("error", Shown::Quoted(error));
        }
    }
}

impl End {
    fn each(&self, names: &[&'static str; 4], put: &mut dyn FnMut(&'static str, Shown<'_>)) {
        let values: [Option<&dyn fmt::Display>; 4] = [
            self.workload.as_ref().map(|word| word as _),
            self.namespace.as_ref().map(|word| word as _),
            self.identity.as_ref().map(|word| word as _),
            self.cluster.as_ref().map(|word| word as _),
        ];
        for (name, value) in names.iter().zip(values) {
            if let Some(value) = value {
                put(name, Shown::Quoted(value));
            }
        }
    }
}

/// How an entry travels through `tracing`: as a value the log recognises and takes out whole, so that its words are not
/// made into text on the thread that moves the connection's bytes. A subscriber that does not know it prints it.
#[derive(Debug)]
pub(crate) struct Carried(Mutex<Option<Box<Entry>>>);

impl Carried {
    fn new(entry: Entry) -> Self {
        Self(Mutex::new(Some(Box::new(entry))))
    }

    /// The entry, for whoever asks first.
    pub(crate) fn take(&self) -> Option<Box<Entry>> {
        self.0.lock().take()
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Carried {}
