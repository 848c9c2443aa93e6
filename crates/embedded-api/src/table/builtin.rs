//! Columns and cells of built-in kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    object,
    ops::scale::selector_text,
    resource::Resource,
    table::{Column, age, column, pod},
};

/// The headings of a kind. `+` in front marks a column of `-o wide`.
pub fn columns(resource: &Resource) -> Vec<Column> {
    let headings = headings(&resource.group, &resource.plural);
    headings.iter().enumerate().map(|(at, heading)| shaped(at, heading)).collect()
}

fn shaped(at: usize, heading: &str) -> Column {
    let (name, priority) = heading.strip_prefix('+').map_or((heading, 0), |name| (name, 1));
    let kind = match name {
        "Desired" | "Current" | "Up-To-Date" | "Available" | "Data" | "Secrets" => "integer",
        _ => "string",
    };
    column(name, kind, if at == 0 && name == "Name" { "name" } else { "" }, priority)
}

fn headings(group: &str, plural: &str) -> &'static [&'static str] {
    match (group, plural) {
        ("", "pods") => {
            &["Name", "Ready", "Status", "Restarts", "Age", "+IP", "+Node", "+Nominated Node", "+Readiness Gates"]
        }
        ("apps", "deployments") => {
            &["Name", "Ready", "Up-To-Date", "Available", "Age", "+Containers", "+Images", "+Selector"]
        }
        ("apps", "replicasets") => {
            &["Name", "Desired", "Current", "Ready", "Age", "+Containers", "+Images", "+Selector"]
        }
        ("apps", "daemonsets") => &[
            "Name",
            "Desired",
            "Current",
            "Ready",
            "Up-To-Date",
            "Available",
            "Node Selector",
            "Age",
            "+Containers",
            "+Images",
            "+Selector",
        ],
        ("apps", "statefulsets") => &["Name", "Ready", "Age", "+Containers", "+Images"],
        ("batch", "jobs") => {
            &["Name", "Status", "Completions", "Duration", "Age", "+Containers", "+Images", "+Selector"]
        }
        ("batch", "cronjobs") => &["Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"],
        ("", "services") => &["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"],
        ("", "endpoints") => &["Name", "Endpoints", "Age"],
        ("discovery.k8s.io", "endpointslices") => &["Name", "AddressType", "Ports", "Endpoints", "Age"],
        ("", "nodes") => &[
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ],
        ("", "namespaces") => &["Name", "Status", "Age"],
        ("", "serviceaccounts") => &["Name", "Secrets", "Age"],
        ("", "configmaps") => &["Name", "Data", "Age"],
        ("", "secrets") => &["Name", "Type", "Data", "Age"],
        (_, "events") => &[
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "+Subobject",
            "+Source",
            "Message",
            "+First Seen",
            "+Count",
            "+Name",
        ],
        ("coordination.k8s.io", "leases") => &["Name", "Holder", "Age"],
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => &["Name", "Created At"],
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => &["Name", "Role", "Age"],
        ("apiextensions.k8s.io", _) => &["Name", "Created At"],
        ("networking.k8s.io", "networkpolicies") => &["Name", "Pod-Selector", "Age"],
        ("policy", "poddisruptionbudgets") => {
            &["Name", "Min Available", "Max Unavailable", "Allowed Disruptions", "Age"]
        }
        _ => &["Name", "Age"],
    }
}

/// The cells of one object, in the order of its headings.
pub fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let place = (resource.group.as_str(), resource.plural.as_str());
    let age = || Value::from(age::since(object::text(object, "/metadata/creationTimestamp"), now));
    let text = |pointer: &str| Value::from(object::text(object, pointer));
    let size = |field: &str| object.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let mut cells = vec![json!(object::name(object))];
    match place {
        ("", "pods") => return pod::cells(object, now),
        (_, "events") => return event(object, now),
        ("apps" | "batch", _) => cells.extend(workload(&resource.plural, object, age(), now)),
        ("", "services") => cells.extend(service(object, age())),
        ("", "endpoints") => cells.extend([endpoints(object), age()]),
        ("discovery.k8s.io", "endpointslices") => {
            cells.extend([text("/addressType"), slice_ports(object), slice_addresses(object), age()]);
        }
        ("", "nodes") => cells.extend(node(object, age())),
        ("", "namespaces") => cells.extend([text("/status/phase"), age()]),
        ("", "serviceaccounts") => cells.extend([json!(object::list(object, "/secrets").len()), age()]),
        ("", "configmaps") => cells.extend([json!(size("data") + size("binaryData")), age()]),
        ("", "secrets") => cells.extend([text("/type"), json!(size("data")), age()]),
        ("coordination.k8s.io", "leases") => cells.extend([text("/spec/holderIdentity"), age()]),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") | ("apiextensions.k8s.io", _) => {
            cells.push(text("/metadata/creationTimestamp"));
        }
        ("rbac.authorization.k8s.io", _) => {
            let role = format!("{}/{}", object::text(object, "/roleRef/kind"), object::text(object, "/roleRef/name"));
            cells.extend([json!(role), age()]);
        }
        ("networking.k8s.io", "networkpolicies") => {
            let selector = selector_text(object.pointer("/spec/podSelector").unwrap_or(&Value::Null));
            cells.extend([or_none(&selector), age()]);
        }
        ("policy", "poddisruptionbudgets") => cells.extend(budget(object, age())),
        _ => cells.push(age()),
    }
    cells
}

fn number(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0).into()
}

/// The cells after the name of an object of `apps` or `batch`.
fn workload(plural: &str, object: &Value, age: Value, now: Timestamp) -> Vec<Value> {
    let number = |pointer: &str| number(object, pointer);
    let of = |wanted: &str, ready: &str| json!(format!("{}/{}", number(ready), number(wanted)));
    let text = |pointer: &str| or_none(object::text(object, pointer));
    let mut cells = match plural {
        "deployments" => vec![
            of("/spec/replicas", "/status/readyReplicas"),
            number("/status/updatedReplicas"),
            number("/status/availableReplicas"),
            age,
        ],
        "replicasets" => {
            vec![number("/spec/replicas"), number("/status/replicas"), number("/status/readyReplicas"), age]
        }
        "daemonsets" => vec![
            number("/status/desiredNumberScheduled"),
            number("/status/currentNumberScheduled"),
            number("/status/numberReady"),
            number("/status/updatedNumberScheduled"),
            number("/status/numberAvailable"),
            labels_text(object.pointer("/spec/template/spec/nodeSelector")),
            age,
        ],
        "statefulsets" => vec![of("/spec/replicas", "/status/readyReplicas"), age],
        "jobs" => {
            vec![job_status(object), of("/spec/completions", "/status/succeeded"), job_duration(object, now), age]
        }
        "cronjobs" => {
            let suspended = object.pointer("/spec/suspend") == Some(&json!(true));
            let active = object::list(object, "/status/active").len();
            let suspended = json!(if suspended { "True" } else { "False" });
            let last = text("/status/lastScheduleTime");
            return vec![text("/spec/schedule"), text("/spec/timeZone"), suspended, json!(active), last, age];
        }
        _ => return vec![age],
    };
    cells.extend(template(object, plural != "statefulsets"));
    cells
}

fn budget(budget: &Value, age: Value) -> Vec<Value> {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let either = |pointer: &str| json!(budget.pointer(pointer).map_or("N/A".to_owned(), shown));
    let allowed = number(budget, "/status/disruptionsAllowed");
    vec![either("/spec/minAvailable"), either("/spec/maxUnavailable"), allowed, age]
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn labels_text(labels: Option<&Value>) -> Value {
    let pairs = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    or_none(&pairs.join(","))
}

/// Containers, images, selector.
fn template(object: &Value, selector: bool) -> Vec<Value> {
    let containers = object::list(object, "/spec/template/spec/containers");
    let all =
        |field: &str| containers.iter().map(|container| object::text(container, field)).collect::<Vec<_>>().join(",");
    let mut cells = vec![json!(all("/name")), json!(all("/image"))];
    if selector {
        cells.push(or_none(&selector_text(object.pointer("/spec/selector").unwrap_or(&Value::Null))));
    }
    cells
}

fn job_status(job: &Value) -> Value {
    let is =
        |kind: &str| object::list(job, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True");
    json!(["Complete", "Failed", "Suspended"].into_iter().find(|kind| is(kind)).unwrap_or("Running"))
}

fn job_duration(job: &Value, now: Timestamp) -> Value {
    let start = object::text(job, "/status/startTime");
    if start.is_empty() {
        return json!("");
    }
    let end = object::text(job, "/status/completionTime").parse().unwrap_or(now);
    json!(age::since(start, end))
}

fn service(service: &Value, age: Value) -> Vec<Value> {
    let kind = object::text(service, "/spec/type");
    let ingress: Vec<&str> = object::list(service, "/status/loadBalancer/ingress")
        .iter()
        .map(|entry| match object::text(entry, "/ip") {
            "" => object::text(entry, "/hostname"),
            ip => ip,
        })
        .collect();
    let mut outside = object::texts(service, "/spec/externalIPs");
    outside.extend(ingress);
    let external = match kind {
        "ExternalName" => object::text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" if outside.is_empty() => "<pending>".to_owned(),
        _ => outside.join(","),
    };
    let port = |port: &Value| {
        let protocol = object::text(port, "/protocol");
        match port["nodePort"].as_i64() {
            Some(node) => format!("{}:{node}/{protocol}", port["port"]),
            None => format!("{}/{protocol}", port["port"]),
        }
    };
    let ports: Vec<String> = object::list(service, "/spec/ports").iter().map(port).collect();
    let selector = labels_text(service.pointer("/spec/selector"));
    vec![
        json!(kind),
        or_none(object::text(service, "/spec/clusterIP")),
        or_none(&external),
        or_none(&ports.join(",")),
        age,
        selector,
    ]
}

/// The first three and how many more.
fn shortened(mut all: Vec<String>) -> Value {
    if all.is_empty() {
        return json!("<none>");
    }
    let more = all.len().saturating_sub(3);
    all.truncate(3);
    let text = all.join(",");
    json!(if more > 0 { format!("{text} + {more} more...") } else { text })
}

fn endpoints(endpoints: &Value) -> Value {
    let mut all = Vec::new();
    for subset in object::list(endpoints, "/subsets") {
        let ports = object::list(subset, "/ports");
        for address in object::list(subset, "/addresses") {
            let ip = object::text(address, "/ip");
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            if ports.is_empty() {
                all.push(host.clone());
            }
            all.extend(ports.iter().map(|port| format!("{host}:{}", port["port"])));
        }
    }
    shortened(all)
}

fn slice_ports(slice: &Value) -> Value {
    let ports = object::list(slice, "/ports");
    if ports.is_empty() {
        return json!("<unset>");
    }
    shortened(ports.iter().map(|port| port["port"].to_string()).collect())
}

fn slice_addresses(slice: &Value) -> Value {
    let each = object::list(slice, "/endpoints").iter().flat_map(|endpoint| object::texts(endpoint, "/addresses"));
    let all: Vec<String> = each.map(str::to_owned).collect();
    if all.is_empty() { json!("<unset>") } else { shortened(all) }
}

fn node(node: &Value, age: Value) -> Vec<Value> {
    let ready = object::list(node, "/status/conditions").iter().find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|condition| object::text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.pointer("/spec/unschedulable") == Some(&json!(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    let address = |kind: &str| {
        let found = object::list(node, "/status/addresses").iter().find(|address| address["type"] == kind);
        or_none(found.map_or("", |address| object::text(address, "/address")))
    };
    let info = |field: &str| {
        let text = object::text(node, &format!("/status/nodeInfo/{field}"));
        json!(if text.is_empty() { "<unknown>" } else { text })
    };
    vec![
        json!(status),
        or_none(&roles.join(",")),
        age,
        json!(object::text(node, "/status/nodeInfo/kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |pointers: &[&str]| {
        pointers.iter().map(|pointer| object::text(event, pointer)).find(|text| !text.is_empty()).unwrap_or("")
    };
    let about = if event.get("regarding").is_some() { "regarding" } else { "involvedObject" };
    let part = |field: &str| object::text(event, &format!("/{about}/{field}"));
    let last = first_of(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]);
    let first =
        first_of(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime", "/metadata/creationTimestamp"]);
    let object = format!("{}/{}", part("kind").to_lowercase(), part("name"));
    let source =
        first_of(&["/source/component", "/deprecatedSource/component", "/reportingComponent", "/reportingController"]);
    let count = ["/series/count", "/count", "/deprecatedCount"]
        .into_iter()
        .find_map(|pointer| event.pointer(pointer)?.as_i64());
    vec![
        json!(age::since(last, now)),
        json!(object::text(event, "/type")),
        json!(object::text(event, "/reason")),
        json!(object),
        json!(part("fieldPath")),
        json!(source),
        json!(first_of(&["/message", "/note"]).trim()),
        json!(age::since(first, now)),
        json!(count.unwrap_or(1)),
        json!(object::name(event)),
    ]
}
