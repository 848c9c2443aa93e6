//! The settings as the dump shows them, under the reference's keys.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{AdminAddr, Config, ProxyMode, SourcePolicy};

fn duration(of: Duration) -> Value {
    json!({ "secs": of.as_secs(), "nanos": of.subsec_nanos() })
}

fn address(of: AdminAddr, ipv6: bool) -> Value {
    match of {
        AdminAddr::Localhost(port) => json!({ "Localhost": [ipv6, port] }),
        AdminAddr::Socket(addr) => json!({ "SocketAddr": addr.to_string() }),
    }
}

fn any(port: u16, ipv6: bool) -> Value {
    json!({ "SocketAddr": if ipv6 { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") } })
}

/// Everything that was set; tokens are never part of it.
pub(super) fn view(config: &Config) -> Value {
    let (place, proxy, control) = (&config.place, &config.proxy, &config.control);
    let ipv6 = proxy.ipv6;
    let dns_addr = match config.dns.address {
        Some(ip) => json!({ "SocketAddr": std::net::SocketAddr::new(ip, config.dns.port).to_string() }),
        None => json!({ "Localhost": [ipv6, config.dns.port] }),
    };
    json!({
        "proxy": true,
        "dnsProxy": config.dns.enabled,
        "proxyMode": match proxy.mode { ProxyMode::Shared => "Shared", ProxyMode::Dedicated(_) => "Dedicated" },
        "network": place.network.as_str(),
        "localNode": place.node.as_ref().map(|node| node.as_str()),
        "clusterId": place.cluster.as_str(),
        "clusterDomain": place.cluster_domain,
        "xdsAddress": control.server.as_ref().map(|server| server.address.as_str()),
        "altXdsHostname": control.server.as_ref().and_then(|server| server.alternative_host.as_deref()),
        "xdsOnDemand": control.on_demand,
        "caAddress": config.ca.server.address,
        "altCaHostname": config.ca.server.alternative_host,
        "secretTtl": duration(config.ca.secret_ttl),
        "adminAddr": address(config.admin.admin, ipv6),
        "statsAddr": any(config.admin.stats_port, ipv6),
        "readinessAddr": any(config.admin.ready_port, ipv6),
        "inboundAddr": any(15008, ipv6),
        "inboundPlaintextAddr": any(15006, ipv6),
        "outboundAddr": any(15001, ipv6),
        "socks5Addr": Value::Null,
        "dnsProxyAddr": dns_addr,
        "illegalPorts": crate::pod::ILLEGAL_PORTS,
        "windowSize": proxy.hbone.stream_window,
        "connectionWindowSize": proxy.hbone.connection_window,
        "frameSize": proxy.hbone.frame_size,
        "poolMaxStreamsPerConn": proxy.hbone.streams_max,
        "poolUnusedReleaseTimeout": duration(proxy.hbone.unused_timeout),
        "selfTerminationDeadline": duration(config.drain_timeout),
        "socketConfig": {
            "keepaliveEnabled": proxy.sockets.keepalive,
            "keepaliveTime": duration(proxy.sockets.keepalive_time),
            "keepaliveInterval": duration(proxy.sockets.keepalive_interval),
            "keepaliveRetries": proxy.sockets.keepalive_retries,
            "userTimeoutEnabled": proxy.sockets.user_timeout,
        },
        "requireOriginalSource": match proxy.source {
            SourcePolicy::Required => Some(true),
            SourcePolicy::Off => Some(false),
            SourcePolicy::BestEffort => None,
        },
        "inpodUds": proxy.in_pod.uds,
        "inpodPortReuse": proxy.in_pod.port_reuse,
        "packetMark": proxy.in_pod.mark,
        "numWorkerThreads": config.worker_threads,
        "ipv6Enabled": ipv6,
        "localhostAppTunnel": proxy.localhost_app_tunnel,
        "enableResponseBaggage": proxy.response_baggage,
        "preferedServiceNamespace": config.dns.preferred_namespace.as_ref().map(|namespace| namespace.as_str()),
    })
}
