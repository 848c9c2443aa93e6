//! From the configuration to what each room is told (pure).
//!
//! In: [`Config`]. Out: the settings of the data path and of DNS. Absent on purpose: the environment.

use std::net::SocketAddr;

use lateen_hbone::pool::PoolLimits;
use lateen_net::{listen::Transparent, options::Keepalive};
use lateen_state::workload::PodKey;

use crate::{
    config::{self, Config, SourcePolicy, WorkloadInfo},
    dns::{answer::Rules, forward::nameservers},
    pod::{Names, Settings},
};

/// The data path's.
pub fn data_path(config: &Config) -> Settings {
    let proxy = &config.proxy;
    Settings {
        network: config.place.network.clone(),
        mark: proxy.in_pod.mark,
        reuse_port: proxy.in_pod.port_reuse,
        transparent: match proxy.source {
            SourcePolicy::Required => Transparent::Required,
            SourcePolicy::BestEffort => Transparent::BestEffort,
            SourcePolicy::Off => Transparent::Off,
        },
        ipv6: proxy.ipv6,
        keepalive: keepalive(&proxy.sockets),
        localhost_app_tunnel: proxy.localhost_app_tunnel,
        same_node: proxy.same_node,
        use_baggage: proxy.response_baggage,
        policy_info_logging: proxy.policy_info_logging,
        hbone: lateen_hbone::settings::Settings {
            stream_window: proxy.hbone.stream_window,
            connection_window: proxy.hbone.connection_window,
            frame_size: proxy.hbone.frame_size,
            client_streams_max: proxy.hbone.streams_max.into(),
            ..lateen_hbone::settings::Settings::default()
        },
        pool: PoolLimits {
            streams_max: proxy.hbone.streams_max.into(),
            idle_timeout: proxy.hbone.unused_timeout,
            ..PoolLimits::default()
        },
    }
}

fn keepalive(sockets: &config::Sockets) -> Option<Keepalive> {
    let silence = sockets.keepalive_time + sockets.keepalive_interval * sockets.keepalive_retries;
    sockets.keepalive.then(|| Keepalive {
        idle: sockets.keepalive_time,
        interval: sockets.keepalive_interval,
        probes: sockets.keepalive_retries,
        user_timeout: sockets.user_timeout.then_some(silence),
    })
}

/// DNS's, with the nameservers of this process's own `resolv.conf`.
pub fn names(config: &Config, resolv_conf: &str) -> Option<Names> {
    let mut servers: Vec<SocketAddr> = nameservers(resolv_conf);
    if !config.proxy.ipv6 {
        servers.retain(SocketAddr::is_ipv4);
    }
    config.dns.enabled.then(|| Names {
        listen: config.dns.clone(),
        rules: Rules {
            domain: config.place.cluster_domain.clone(),
            ipv6: config.proxy.ipv6,
            preferred: config.dns.preferred_namespace.clone(),
        },
        servers,
    })
}

/// A pod as the ledger names it.
pub fn pod_key(info: &WorkloadInfo) -> PodKey {
    PodKey {
        name: info.name.as_str().into(),
        namespace: info.namespace.as_str().into(),
        service_account: info.service_account.as_str().into(),
    }
}
