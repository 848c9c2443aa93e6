//! Where connections go that are not HTTP.
//!
//! In: what `compile` made of a resource; a server name and an address. Out: the route of one connection. Absent on
//! purpose: reading the server name.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::route::{Weighted, choose, shares};
use crate::route::{HostMap, HostPattern};

/// Routes in order: the first that matches counts.
#[derive(Debug, Default)]
pub struct TcpRoutes {
    routes: Box<[TcpRoute]>,
    /// Whether any of them asks for a server name.
    has_names: bool,
}

/// One route.
#[derive(Debug)]
pub struct TcpRoute {
    /// What the access log calls it.
    pub name: Arc<str>,
    /// `None`: any server name, or none at all.
    server_names: Option<HostMap<()>>,
    /// Empty: any address.
    subnets: Box<[IpNet]>,
    destinations: Box<[Weighted]>,
}

impl TcpRoutes {
    /// Routes in the order they are asked.
    pub fn new(routes: Vec<TcpRoute>) -> Self {
        let has_names = routes.iter().any(|route| route.server_names.is_some());
        Self { routes: routes.into(), has_names }
    }

    /// The route of a connection to `address` whose ClientHello names `server_name`.
    pub fn select(&self, server_name: Option<&str>, address: IpAddr) -> Option<&TcpRoute> {
        self.routes.iter().find(|route| route.matches(server_name, address))
    }

    /// Whether the ClientHello must be read before [`Self::select`] can answer.
    pub fn need_server_name(&self) -> bool {
        self.has_names
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &TcpRoute> {
        self.routes.iter()
    }
}

impl TcpRoute {
    /// A route; no server names and no subnets match everything.
    pub fn new(
        name: Arc<str>,
        server_names: Vec<HostPattern>,
        subnets: Vec<IpNet>,
        destinations: Vec<(u32, Weighted)>,
    ) -> Self {
        let names = HostMap::new(server_names.into_iter().map(|name| (name, ())));
        let server_names = (!names.is_empty()).then_some(names);
        Self { name, server_names, subnets: subnets.into(), destinations: shares(destinations) }
    }

    /// The destination that `dice`, evenly thrown, chooses for a connection; `None`: refuse it.
    pub fn choose(&self, dice: u64) -> Option<&Weighted> {
        choose(&self.destinations, dice)
    }

    fn matches(&self, server_name: Option<&str>, address: IpAddr) -> bool {
        let named = |names: &HostMap<()>| server_name.is_some_and(|name| names.find(name).is_some());
        self.server_names.as_ref().is_none_or(named)
            && (self.subnets.is_empty() || self.subnets.iter().any(|subnet| subnet.contains(&address)))
    }
}
