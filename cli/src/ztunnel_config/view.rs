//! A dump as rows: workloads, services, policies, certificates.
//!
//! In: a dump. Out: tables. Pure. Keys are those of ztunnel's `/config_dump`; a missing one shows as `-`, so that dumps of
//! other versions can be read.

use serde_json::Value;

use crate::table::Table;

/// Text at a key, or `-`.
pub(crate) fn text(value: &Value, key: &str) -> String {
    match value[key].as_str() {
        Some("") | None => "-".to_owned(),
        Some(text) => text.to_owned(),
    }
}

/// The elements of a list at a key; none if it is not there.
pub(crate) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn joined(value: &Value, key: &str) -> String {
    let texts: Vec<&str> = list(value, key).iter().filter_map(Value::as_str).collect();
    if texts.is_empty() { "None".to_owned() } else { texts.join(",") }
}

/// Which workloads are wanted.
pub(crate) struct Keep<'k> {
    pub namespace: &'k Option<String>,
    pub node: &'k Option<String>,
    pub address: &'k Option<String>,
}

impl Keep<'_> {
    /// Every one.
    pub(crate) fn all() -> Self {
        Self { namespace: &None, node: &None, address: &None }
    }

    /// Whether this workload is wanted.
    pub(crate) fn workload(&self, workload: &Value) -> bool {
        let is = |wanted: &Option<String>, key| wanted.as_ref().is_none_or(|wanted| workload[key] == wanted.as_str());
        let has = |address: &String| list(workload, "workloadIps").iter().any(|ip| ip == address.as_str());
        is(self.namespace, "namespace") && is(self.node, "node") && self.address.as_ref().is_none_or(has)
    }
}

/// The test for objects of one namespace, or of any.
pub(crate) fn in_namespace(namespace: &Option<String>) -> impl Fn(&Value) -> bool {
    move |object| namespace.as_ref().is_none_or(|namespace| object["namespace"] == namespace.as_str())
}

/// The raw objects under a key that are wanted.
pub(crate) fn objects(dump: &Value, key: &str, keep: impl Fn(&Value) -> bool) -> Value {
    list(dump, key).iter().filter(|object| keep(object)).cloned().collect()
}

/// NAMESPACE, POD NAME, ADDRESS, NODE, WAYPOINT, PROTOCOL.
pub(crate) fn workloads(dump: &Value, keep: &Keep<'_>) -> Table {
    let mut table = Table::new(&["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"]);
    for workload in list(dump, "workloads").iter().filter(|workload| keep.workload(workload)) {
        table.row([
            text(workload, "namespace"),
            text(workload, "name"),
            joined(workload, "workloadIps"),
            text(workload, "node"),
            waypoint(dump, workload),
            text(workload, "protocol"),
        ]);
    }
    table.sorted()
}

/// NAMESPACE, SERVICE NAME, SERVICE VIP, WAYPOINT, ENDPOINTS (healthy/all).
pub(crate) fn services(dump: &Value, keep: &impl Fn(&Value) -> bool) -> Table {
    let mut table = Table::new(&["NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS"]);
    for service in list(dump, "services").iter().filter(|service| keep(service)) {
        table.row([
            text(service, "namespace"),
            text(service, "name"),
            vips(service),
            waypoint(dump, service),
            endpoints(service),
        ]);
    }
    table.sorted()
}

fn vips(service: &Value) -> String {
    // `network/ip`; the network is shown only where there is one.
    let vip = |vip: &Value| vip.as_str().map(|vip| vip.strip_prefix('/').unwrap_or(vip).to_owned());
    let vips: Vec<String> = list(service, "vips").iter().filter_map(vip).collect();
    if vips.is_empty() { "None".to_owned() } else { vips.join(",") }
}

fn endpoints(service: &Value) -> String {
    let all = service["endpoints"].as_object();
    let healthy = |endpoint: &&Value| endpoint["status"].as_str().is_none_or(|status| status == "Healthy");
    let (up, known) = all.map_or((0, 0), |all| (all.values().filter(healthy).count(), all.len()));
    format!("{up}/{known}")
}

/// The name of the service behind a waypoint reference (`network/ip` or `namespace/hostname`), or `None`.
fn waypoint(dump: &Value, object: &Value) -> String {
    let Some(destination) = object["waypoint"]["destination"].as_str() else { return "None".to_owned() };
    let names = |service: &&Value| {
        let key = format!("{}/{}", text(service, "namespace"), text(service, "hostname"));
        key == destination || list(service, "vips").iter().any(|vip| vip == destination)
    };
    match list(dump, "services").iter().find(names) {
        Some(service) => text(service, "name"),
        None => destination.to_owned(),
    }
}

/// NAMESPACE, POLICY NAME, ACTION, SCOPE.
pub(crate) fn policies(dump: &Value, keep: &impl Fn(&Value) -> bool) -> Table {
    let mut table = Table::new(&["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"]);
    for policy in list(dump, "policies").iter().filter(|policy| keep(policy)) {
        table.row([text(policy, "namespace"), text(policy, "name"), text(policy, "action"), text(policy, "scope")]);
    }
    table.sorted()
}

/// CERTIFICATE NAME, TYPE, STATUS, SERIAL NUMBER, NOT AFTER, NOT BEFORE; one row a certificate, an identity without one has NA.
pub(crate) fn certificates(dump: &Value) -> Table {
    let mut table = Table::new(&["CERTIFICATE NAME", "TYPE", "STATUS", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"]);
    for entry in list(dump, "certificates") {
        let leaves = list(entry, "certChain").iter().enumerate();
        let chain = leaves.map(|(at, cert)| (if at == 0 { "Leaf" } else { "Intermediate" }, cert));
        let roots = list(entry, "rootCerts").iter().map(|cert| ("Root", cert));
        let certs: Vec<(&str, &Value)> = chain.chain(roots).collect();
        for (kind, cert) in &certs {
            table.row([
                text(entry, "identity"),
                (*kind).to_owned(),
                status(entry),
                hexadecimal(&text(cert, "serialNumber")),
                text(cert, "expirationTime"),
                text(cert, "validFrom"),
            ]);
        }
        if certs.is_empty() {
            let na = || "NA".to_owned();
            table.row([text(entry, "identity"), na(), status(entry), na(), na(), na()]);
        }
    }
    table
}

fn status(entry: &Value) -> String {
    let state = text(entry, "state");
    let short = ["Unavailable", "Initializing", "Available"].into_iter().find(|word| state.contains(word));
    short.map_or(state.clone(), str::to_owned)
}

/// A decimal number of any length in hexadecimal, as certificates' serial numbers are usually shown.
fn hexadecimal(decimal: &str) -> String {
    let mut bytes: Vec<u8> = Vec::new();
    for digit in decimal.chars() {
        let Some(digit) = digit.to_digit(10) else { return decimal.to_owned() };
        let mut carry = digit;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 10;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dump() -> Value {
        json!({
            "workloads": [
                {"name": "web-1", "namespace": "shop", "workloadIps": ["10.0.0.1", "fd00::1"], "node": "node-1", "protocol": "HBONE",
                 "waypoint": {"destination": "shop/wp.shop.svc.cluster.local"}},
                {"name": "old", "namespace": "legacy", "workloadIps": [], "node": "node-2", "protocol": "TCP"},
            ],
            "services": [
                {"name": "wp", "namespace": "shop", "hostname": "wp.shop.svc.cluster.local", "vips": ["/10.96.0.9"],
                 "endpoints": {"a": {"status": "Healthy"}, "b": {"status": "Unhealthy"}}},
            ],
            "policies": [{"name": "p", "namespace": "shop", "action": "Deny", "scope": "Namespace"}],
            "certificates": [
                {"identity": "spiffe://td/ns/shop/sa/web", "state": "Available",
                 "certChain": [{"serialNumber": "255", "validFrom": "a", "expirationTime": "b"}],
                 "rootCerts": [{"serialNumber": "340282366920938463463374607431768211456", "validFrom": "c", "expirationTime": "d"}]},
                {"identity": "spiffe://td/ns/shop/sa/late", "state": "Unavailable: no answer", "certChain": []},
            ],
        })
    }

    #[test]
    fn workloads_are_sorted_filtered_and_named_with_their_waypoint() {
        let text = workloads(&dump(), &Keep::all()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("legacy") && lines[1].ends_with("TCP"), "{text}");
        assert!(
            lines[2].contains("10.0.0.1,fd00::1") && lines[2].contains(" wp ") && lines[2].ends_with("HBONE"),
            "{text}"
        );
        let shop = Some("shop".to_owned());
        let keep = Keep { namespace: &shop, ..Keep::all() };
        assert_eq!(workloads(&dump(), &keep).to_string().lines().count(), 2);
        let other = Some("10.0.0.2".to_owned());
        let keep = Keep { address: &other, ..Keep::all() };
        assert_eq!(workloads(&dump(), &keep).to_string().lines().count(), 1);
    }

    #[test]
    fn services_count_their_healthy_endpoints() {
        let text = services(&dump(), &in_namespace(&None)).to_string();
        assert!(text.contains("10.96.0.9") && text.contains("1/2"), "{text}");
    }

    #[test]
    fn certificates_have_a_row_each_and_serials_in_hexadecimal() {
        let text = certificates(&dump()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("Leaf") && lines[1].contains(" ff "), "{text}");
        assert!(lines[2].contains("Root") && lines[2].contains("0100000000000000000000000000000000"), "{text}");
        assert!(
            lines[3].contains("NA") && lines[3].contains("Unavailable") && !lines[3].contains("no answer"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_dump_has_empty_tables() {
        let none = json!({});
        assert_eq!(workloads(&none, &Keep::all()).to_string().lines().count(), 1);
        assert_eq!(certificates(&none).to_string().lines().count(), 1);
    }
}
