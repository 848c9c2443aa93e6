//! The blocks of a traffic policy that hold for one port and one subset.
//!
//! A subset's block replaces the one for all. An entry for the port then replaces four blocks as a whole: those it leaves
//! out are back at their defaults, not at what the rule says for other ports.

use lateen_cluster::api::{
    ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, ProxyProtocol, RetryBudget, TrafficPolicy, Tunnel,
};

/// They.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Blocks<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancer>,
    pub(super) connection_pool: Option<&'a ConnectionPool>,
    pub(super) outlier_detection: Option<&'a OutlierDetection>,
    pub(super) tls: Option<&'a ClientTls>,
    pub(super) tunnel: Option<&'a Tunnel>,
    pub(super) proxy_protocol: Option<&'a ProxyProtocol>,
    pub(super) retry_budget: Option<&'a RetryBudget>,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(whole: Option<&'a TrafficPolicy>, subset: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let both = || subset.into_iter().chain(whole);
        let mut blocks = Self {
            load_balancer: both().find_map(|policy| policy.load_balancer.as_ref()),
            connection_pool: both().find_map(|policy| policy.connection_pool.as_ref()),
            outlier_detection: both().find_map(|policy| policy.outlier_detection.as_ref()),
            tls: both().find_map(|policy| policy.tls.as_ref()),
            tunnel: both().find_map(|policy| policy.tunnel.as_ref()),
            proxy_protocol: both().find_map(|policy| policy.proxy_protocol.as_ref()),
            retry_budget: both().find_map(|policy| policy.retry_budget.as_ref()),
        };
        let mut entries = both().flat_map(|policy| &policy.port_level_settings);
        if let Some(entry) = entries.find(|entry| entry.port.number == u32::from(port)) {
            blocks.load_balancer = entry.load_balancer.as_ref();
            blocks.connection_pool = entry.connection_pool.as_ref();
            blocks.outlier_detection = entry.outlier_detection.as_ref();
            blocks.tls = entry.tls.as_ref();
        }
        blocks
    }
}
