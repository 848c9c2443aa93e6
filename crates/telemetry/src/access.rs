//! The access record: one line per connection, in the reference's field order, under the target `access`.
//!
//! In: who spoke to whom, how much, how it ended. Out: one event. Fields that are not known are left out.
//! Absent on purpose: finding those facts out, and counting.

use std::{fmt, net::SocketAddr, time::Duration};

use lateen_types::id::SpiffeId;

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

/// One end of a connection, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct End {
    /// Pod name, else the canonical service.
    pub workload: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its identity, only where mutual TLS proved it.
    pub identity: Option<SpiffeId>,
    /// Its cluster.
    pub cluster: Option<String>,
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
    pub service: Option<String>,
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

/// Emits the record's event; a macro because the level of an event must be constant.
macro_rules! record {
    ($level:ident, $record:expr, $message:literal $(, $key:literal = $value:expr)*) => {{
        let r = $record;
        tracing::event!(
            target: "access",
            tracing::Level::$level,
            {
            "src.addr" = %r.src_addr,
            "src.workload" = r.src.workload.as_deref(),
            "src.namespace" = r.src.namespace.as_deref(),
            "src.identity" = r.src.identity.as_ref().map(ToString::to_string),
            "src.cluster" = r.src.cluster.as_deref(),
            "dst.addr" = r.dst_addr.map(tracing::field::display),
            "dst.hbone_addr" = r.hbone_addr.as_ref().map(tracing::field::display),
            "dst.service" = r.service.as_deref(),
            "dst.workload" = r.dst.workload.as_deref(),
            "dst.namespace" = r.dst.namespace.as_deref(),
            "dst.identity" = r.dst.identity.as_ref().map(ToString::to_string),
            "dst.cluster" = r.dst.cluster.as_deref(),
            "direction" = r.direction.as_str(),
            $($key = $value,)*
            },
            $message
        )
    }};
}

impl Record {
    /// The way is chosen, the connection begins.
    pub fn opened(&self) {
        record!(DEBUG, self, "connection opened");
    }

    /// The connection ended; `error` says why, where it ended badly.
    pub fn complete(&self, traffic: Traffic, error: Option<&dyn fmt::Display>) {
        let Traffic { bytes_sent, bytes_recv, duration } = traffic;
        let duration = format!("{}ms", duration.as_millis());
        match error.map(ToString::to_string) {
            None => record!(
                INFO,
                self,
                "connection complete",
                "bytes_sent" = bytes_sent,
                "bytes_recv" = bytes_recv,
                "duration" = duration
            ),
            Some(error) => record!(
                ERROR,
                self,
                "connection complete",
                "bytes_sent" = bytes_sent,
                "bytes_recv" = bytes_recv,
                "duration" = duration,
                "error" = error
            ),
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
