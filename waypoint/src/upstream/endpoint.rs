//! One endpoint and how it is reached.
//!
//! In: what the world knows of a workload, or a bare address. Out: the value that connections are keyed by and dialled
//! with. Absent on purpose: choosing it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lateen_state::{
    service::{self, Service},
    workload::{Tunnel, Workload},
};
use lateen_types::{
    id::SpiffeId,
    name::{Hostname, WorkloadUid},
};

/// Where a request is sent.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What tells its connections apart.
    pub key: EndpointKey,
    /// Who is there; nobody is known behind a bare address.
    pub workload: Option<Arc<Workload>>,
    /// The service it was chosen for.
    pub service: Option<Arc<Service>>,
    /// What its tunnel is asked for, where that is not itself: an address of the service whose waypoint it is.
    pub asked_for: Option<SocketAddr>,
}

/// What tells an endpoint's connections from others. The workload's uid is in it because addresses are reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// The workload; `None` for a bare address.
    pub workload: Option<WorkloadUid>,
    /// Where it listens.
    pub at: At,
    /// Its port there.
    pub port: u16,
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum At {
    /// At this address.
    Ip(IpAddr),
    /// Where DNS says.
    Host(Hostname),
}

/// How an endpoint is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Plain TCP.
    Plain,
    /// Through the mesh.
    Tunnel,
}

impl Endpoint {
    /// The endpoint of `service` at `one`, for calls to the service's `port`; `None` where it cannot be reached on it.
    pub fn of(one: &service::Endpoint, service: &Arc<Service>, port: u16) -> Option<Self> {
        let defined = service.ports.target(port)?;
        let own = one.ports.target(port).filter(|target| *target != 0);
        let port = own.or((defined != 0).then_some(defined))?;
        let workload = &one.workload;
        let address = workload.addresses.iter().find(|ip| service.families.allows(**ip));
        let at = match (address, &workload.hostname) {
            (Some(ip), _) => At::Ip(*ip),
            (None, Some(hostname)) => At::Host(hostname.clone()),
            (None, None) => return None,
        };
        let key = EndpointKey { workload: Some(workload.uid.clone()), at, port };
        Some(Self { key, workload: Some(workload.clone()), service: Some(service.clone()), asked_for: None })
    }

    /// A workload by its own address.
    pub fn workload(workload: &Arc<Workload>, addr: SocketAddr) -> Self {
        let key = EndpointKey { workload: Some(workload.uid.clone()), at: At::Ip(addr.ip()), port: addr.port() };
        Self { key, workload: Some(workload.clone()), service: None, asked_for: None }
    }

    /// A pod of the waypoint of `service`, which is asked for the service's own address.
    pub fn waypoint(workload: &Arc<Workload>, ip: IpAddr, (service, vip): (&Arc<Service>, SocketAddr)) -> Self {
        let key = EndpointKey { workload: Some(workload.uid.clone()), at: At::Ip(ip), port: vip.port() };
        Self { key, workload: Some(workload.clone()), service: Some(service.clone()), asked_for: Some(vip) }
    }

    /// A bare address.
    pub fn bare(addr: SocketAddr) -> Self {
        Self {
            key: EndpointKey { workload: None, at: At::Ip(addr.ip()), port: addr.port() },
            workload: None,
            service: None,
            asked_for: None,
        }
    }

    /// Whoever has a name that a client brings.
    pub fn named(name: Hostname, port: u16, service: Option<Arc<Service>>) -> Self {
        Self { key: EndpointKey { workload: None, at: At::Host(name), port }, workload: None, service, asked_for: None }
    }

    /// How it is reached.
    pub fn way(&self) -> Way {
        if self.asked_for.is_some() {
            return Way::Tunnel;
        }
        match self.workload.as_ref().map(|workload| workload.tunnel) {
            Some(Tunnel::Hbone) => Way::Tunnel,
            Some(Tunnel::None) | None => Way::Plain,
        }
    }

    /// Who may answer at the end of a tunnel.
    pub fn accepted(&self) -> Vec<SpiffeId> {
        // The names of a service are its endpoints', not its waypoint's.
        let own = self.service.iter().filter(|_| self.asked_for.is_none());
        let extra = own.flat_map(|service| service.subject_alt_names.iter().cloned());
        extra.chain(self.workload.iter().map(|workload| workload.identity.clone())).collect()
    }

    /// Its address where that is known without DNS.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self.key.at {
            At::Ip(ip) => Some(SocketAddr::new(ip, self.key.port)),
            At::Host(_) => None,
        }
    }
}
