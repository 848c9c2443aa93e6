//! What came in at a door: who calls, and what for.
//!
//! In: what the door has proven. Out: values that requests and connections are served with. Absent on purpose: bytes.

use std::{net::SocketAddr, sync::Arc};

use http::HeaderValue;
use lateen_hbone::request::Baggage;
use lateen_rt::drain::Drain;
use lateen_state::workload::Workload;
use lateen_types::{
    id::SpiffeId,
    name::{NamespacedHostname, WorkloadUid},
};

use crate::book::{
    Book, Credential,
    proxy::{ClientCertificate, Terms},
};

/// One stream of bytes that somebody opened.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// What for.
    pub target: Target,
}

impl Arrival {
    /// What was dialled.
    pub fn destination(&self) -> SocketAddr {
        match &self.target {
            Target::Service { dialled: Some(addr), .. } | Target::Workload { addr, .. } => *addr,
            Target::Service { port, dialled: None, .. } => SocketAddr::new(self.caller.local.ip(), *port),
            Target::Port { port, .. } => SocketAddr::new(self.caller.local.ip(), *port),
        }
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its proven identity.
    pub peer: Option<SpiffeId>,
    /// The original client's address.
    pub client: SocketAddr,
    /// The other end of the connection itself.
    pub hop: SocketAddr,
    /// Our end of it.
    pub local: SocketAddr,
    /// What the ClientHello named.
    pub server_name: Option<Arc<str>>,
    /// The workload that calls, where its address and its identity agree.
    pub workload: Option<Arc<Workload>>,
    /// Who the client says it is; only labels are made of it.
    pub baggage: Baggage,
    /// What TLS agreed on that ended here, at a gateway.
    pub tls: Option<Arc<Ended>>,
    /// Begins to end when the port it came on is no longer served; `None`: ends with the process.
    pub door: Option<Drain>,
}

/// TLS with somebody outside the mesh, that ended here.
#[derive(Debug, Clone)]
pub struct Ended {
    /// How hands were shaken.
    pub terms: Arc<Terms>,
    /// By what the client was proven.
    pub proof: Proof,
    /// `TLSv1.3` …
    pub version: &'static str,
    /// What x-forwarded-client-cert says of the client's certificate, where that was verified.
    pub certificate: Option<HeaderValue>,
}

/// What proved the client's certificate, where clients are asked for one.
#[derive(Debug, Clone)]
pub struct Proof(Option<(Arc<str>, Arc<Credential>)>);

impl Proof {
    /// By `terms`, for which `credentials` are those that they name, and last the client's authority where that is named.
    pub fn of(terms: &Terms, credentials: &[Arc<Credential>]) -> Self {
        let asks = !matches!(terms.client_certificate, ClientCertificate::Ignored | ClientCertificate::Mesh);
        let by = match &terms.client_ca {
            Some(name) => Some(name).zip(credentials.last()),
            None => terms.credentials.first().zip(credentials.first()),
        };
        Self(by.filter(|_| asks).map(|(name, credential)| (name.clone(), credential.clone())))
    }

    /// Whether the same authorities prove clients still, with the same exceptions.
    pub fn holds(&self, book: &Book) -> bool {
        let Some((name, held)) = &self.0 else { return true };
        book.credential(name).is_ok_and(|now| {
            Arc::ptr_eq(now, held) || (now.authorities == held.authorities && now.revocations == held.revocations)
        })
    }
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A service's port.
    Service {
        /// The service.
        key: NamespacedHostname,
        /// The service's port.
        port: u16,
        /// The address that was dialled, where it was not called by name.
        dialled: Option<SocketAddr>,
    },
    /// A workload itself.
    Workload {
        /// The workload.
        uid: WorkloadUid,
        /// What was dialled.
        addr: SocketAddr,
    },
    /// A gateway's port.
    Port {
        /// What we are bound to.
        bind: u16,
        /// What clients call it.
        port: u16,
        /// The server name whose TLS ended here, empty where none was named; `None`: none ended here.
        tls: Option<Arc<str>>,
    },
}

impl Target {
    /// The port as clients call it.
    pub fn port(&self) -> u16 {
        match self {
            Self::Service { port, .. } | Self::Port { port, .. } => *port,
            Self::Workload { addr, .. } => addr.port(),
        }
    }
}
