//! Limits of connections and requests: D6 to D8.

use crate::validate::{
    at::{At, Report},
    duration::{self, Least},
    field,
};

pub(in crate::validate) fn check(pool: &At<'_>, report: &mut Report) {
    let (tcp, http) = (pool.get("tcp"), pool.get("http"));
    if tcp.is_none() && http.is_none() {
        report.error(&pool.path, "it limits nothing", "write tcp or http");
    }
    if let Some(tcp) = tcp {
        field::not_negative(&tcp, "maxConnections", report);
        for name in ["connectTimeout", "maxConnectionDuration"] {
            duration::check(&tcp, name, Least::Millisecond, report);
        }
        // 0s means that idle connections stay.
        duration::check(&tcp, "idleTimeout", Least::Zero, report);
        if let Some(alive) = tcp.get("tcpKeepalive") {
            for name in ["time", "interval"] {
                duration::check(&alive, name, Least::Second, report);
            }
        }
    }
    if let Some(http) = http {
        limits(&http, report);
    }
}

fn limits(http: &At<'_>, report: &mut Report) {
    let numbers = [
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "maxConcurrentStreams",
    ];
    for name in numbers {
        field::not_negative(http, name, report);
    }
    duration::check(http, "idleTimeout", Least::Millisecond, report);
    let same = http.get("useClientProtocol").is_some_and(|it| it.value.as_bool() == Some(true));
    if same && http.text("h2UpgradePolicy") == "UPGRADE" {
        let reason = "what the client speaks cannot be kept and be upgraded";
        report.error(http.field("h2UpgradePolicy"), reason, "remove it, or useClientProtocol");
    }
    let Some(pings) = http.get("http2KeepAlive") else { return };
    for name in ["interval", "timeout"] {
        if pings.has(name) {
            duration::check(&pings, name, Least::Millisecond, report);
        } else {
            report.error(pings.field(name), format!("there is no {name}"), "write interval and timeout");
        }
    }
}
