//! A dump's live connections as rows, with names instead of addresses where they are known.
//!
//! In: a dump. Out: a table. Pure.

use std::net::SocketAddr;

use serde_json::Value;

use super::{
    Direction,
    view::{list, text},
};
use crate::table::Table;

/// Which connections are wanted, and how they are shown.
pub(crate) struct Wanted<'w> {
    pub namespace: &'w Option<String>,
    pub direction: Option<Direction>,
    pub raw: bool,
}

/// WORKLOAD, DIRECTION, LOCAL, REMOTE, REMOTE TARGET, PROTOCOL.
pub(crate) fn table(dump: &Value, wanted: &Wanted<'_>) -> Table {
    let mut table = Table::new(&["WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL"]);
    let states = dump["workloadState"].as_object().into_iter().flat_map(serde_json::Map::values);
    for state in states {
        let info = &state["info"];
        if wanted.namespace.as_ref().is_some_and(|namespace| info["namespace"] != namespace.as_str()) {
            continue;
        }
        let workload = format!("{}.{}", text(info, "name"), text(info, "namespace"));
        // The local end of an inbound connection is where it really went, of an outbound one where it came from.
        let directions = [
            (Direction::Inbound, "Inbound", "inbound", ["actualDst", "src", "originalDst"]),
            (Direction::Outbound, "Outbound", "outbound", ["src", "actualDst", "originalDst"]),
        ];
        for (direction, title, key, ends) in directions {
            if wanted.direction.is_some_and(|only| only != direction) {
                continue;
            }
            for connection in list(&state["connections"], key) {
                let [local, remote, target] = ends.map(|end| shown(dump, connection, end, wanted.raw));
                table.row([workload.clone(), title.to_owned(), local, remote, target, text(connection, "protocol")]);
            }
        }
    }
    table.sorted()
}

/// An address as `name.namespace:port` where a service or workload has it, services first.
fn shown(dump: &Value, connection: &Value, key: &str, raw: bool) -> String {
    let shown = text(connection, key);
    let Ok(addr) = shown.parse::<SocketAddr>() else { return shown };
    if raw {
        return shown;
    }
    let ip = addr.ip().to_string();
    let has_vip = |service: &&Value| {
        let vips = list(service, "vips").iter().filter_map(Value::as_str);
        vips.filter_map(|vip| vip.rsplit('/').next()).any(|vip| vip == ip)
    };
    let has_ip = |workload: &&Value| list(workload, "workloadIps").iter().any(|own| own == ip.as_str());
    let service = list(dump, "services").iter().find(has_vip);
    let named = service.or_else(|| list(dump, "workloads").iter().find(has_ip));
    named.map_or(shown, |object| format!("{}.{}:{}", text(object, "name"), text(object, "namespace"), addr.port()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_direction_shows_its_own_end_first_and_names_win() {
        let dump = json!({
            "workloads": [{"name": "web-1", "namespace": "shop", "workloadIps": ["10.0.0.1"]}],
            "services": [{"name": "web", "namespace": "shop", "vips": ["/10.96.0.9"]}],
            "workloadState": {"u1": {"info": {"name": "cli", "namespace": "shop"}, "connections": {
                "inbound": [{"src": "10.0.0.7:1", "originalDst": "10.0.0.1:15008", "actualDst": "10.0.0.1:80", "protocol": "HBONE"}],
                "outbound": [{"src": "10.0.0.1:2", "originalDst": "10.96.0.9:80", "actualDst": "10.0.0.7:15008", "protocol": "HBONE"}],
            }}},
        });
        let everything = Wanted { namespace: &None, direction: None, raw: false };
        let text = table(&dump, &everything).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["cli.shop", "Inbound", "web-1.shop:80", "10.0.0.7:1", "web-1.shop:15008", "HBONE"]);
        assert_eq!(lines[2], ["cli.shop", "Outbound", "web-1.shop:2", "10.0.0.7:15008", "web.shop:80", "HBONE"]);
        let raw = Wanted { raw: true, direction: Some(Direction::Outbound), ..everything };
        let text = table(&dump, &raw).to_string();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("10.96.0.9:80"), "{text}");
    }
}
