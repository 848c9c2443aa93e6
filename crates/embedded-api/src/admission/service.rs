//! Services: addresses, node ports, defaults and rules.
//!
//! Addresses are taken in the write itself, under the server's write lock, so none is given twice.

use std::{collections::HashSet, net::IpAddr};

use serde_json::{Value, json};

use crate::{
    admission::pod_spec::{check_one_of, check_port},
    api::Api,
    ipam, object,
    status::FieldError,
    store::GroupResource,
};

/// Fills in a service.
pub fn complete(api: &Api, old: Option<&Value>, service: &mut Value) -> Result<(), Vec<FieldError>> {
    object::set_default(service, &["spec", "type"], "ClusterIP");
    object::set_default(service, &["spec", "sessionAffinity"], "None");
    for port in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        object::set_default(port, &["protocol"], "TCP");
        if let Some(number) = port.get("port").cloned() {
            object::set_default(port, &["targetPort"], number);
        }
    }
    let kind = object::text(service, "/spec/type").to_owned();
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            object::remove(service, &["spec", field]);
        }
        return Ok(());
    }
    object::set_default(service, &["spec", "internalTrafficPolicy"], "Cluster");
    complete_addresses(api, old, service).map_err(|error| vec![error])?;
    if kind == "NodePort" || kind == "LoadBalancer" {
        object::set_default(service, &["spec", "externalTrafficPolicy"], "Cluster");
        if kind == "LoadBalancer" {
            object::set_default(service, &["spec", "allocateLoadBalancerNodePorts"], true);
        }
        complete_node_ports(api, old, service).map_err(|error| vec![error])?;
    } else {
        object::remove(service, &["spec", "externalTrafficPolicy"]);
        drop_node_ports(old, service);
    }
    if old.is_none() {
        object::set_default(service, &["status", "loadBalancer"], json!({}));
    }
    Ok(())
}

/// A service that stops being a NodePort gives the ports it was given back.
fn drop_node_ports(old: Option<&Value>, service: &mut Value) {
    let before: Vec<Value> = old.map_or(Vec::new(), |old| {
        object::list(old, "/spec/ports").iter().filter_map(|p| p.get("nodePort").cloned()).collect()
    });
    for port in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.get("nodePort").is_some_and(|number| before.contains(number)) {
            object::remove(port, &["nodePort"]);
        }
    }
}

fn complete_addresses(api: &Api, old: Option<&Value>, service: &mut Value) -> Result<(), FieldError> {
    if let Some(old) = old.filter(|old| !object::text(old, "/spec/clusterIP").is_empty()) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.pointer(&format!("/spec/{field}")) {
                object::set_default(service, &["spec", field], value.clone());
            }
        }
    }
    object::set_default(service, &["spec", "ipFamilyPolicy"], "SingleStack");
    let wanted = wanted_addresses(service);
    if wanted.first().is_some_and(|first| first == "None") {
        let families = families(api, service, 0);
        object::set(service, &["spec", "ipFamilies"], families);
        object::set(service, &["spec", "clusterIP"], "None");
        object::set(service, &["spec", "clusterIPs"], json!(["None"]));
        return Ok(());
    }
    let families = match given_families(&wanted) {
        given if given.is_empty() => families(api, service, 1),
        given if given.len() < 2 && object::text(service, "/spec/ipFamilyPolicy") != "SingleStack" => {
            let other = if given[0] == "IPv4" { "IPv6" } else { "IPv4" };
            vec![given[0].clone(), other.to_owned()]
        }
        given => given,
    };
    let taken = taken_addresses(api, service);
    let mut addresses = Vec::new();
    for (at, family) in families.iter().enumerate() {
        let address = match wanted.get(at) {
            Some(text) => chosen_address(api, text, at, &taken)?,
            None => {
                let range = if family == "IPv4" { api.options.service_range_v4 } else { api.options.service_range_v6 };
                ipam::free_address(range, &taken).ok_or_else(|| {
                    FieldError::invalid("spec.clusterIPs", json!([]), "failed to allocate IP: range is full")
                })?
            }
        };
        addresses.push(address.to_string());
    }
    object::set(service, &["spec", "clusterIP"], addresses.first().cloned().unwrap_or_default());
    object::set(service, &["spec", "clusterIPs"], addresses);
    object::set(service, &["spec", "ipFamilies"], families);
    Ok(())
}

/// The addresses the user (or the past) asks for.
fn wanted_addresses(service: &Value) -> Vec<String> {
    let list = object::texts(service, "/spec/clusterIPs");
    let one = object::text(service, "/spec/clusterIP");
    match (one, list.is_empty()) {
        ("", true) => Vec::new(),
        (one, true) => vec![one.to_owned()],
        _ => list.into_iter().map(str::to_owned).collect(),
    }
}

fn given_families(wanted: &[String]) -> Vec<String> {
    let family = |text: &String| match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => "IPv6".to_owned(),
        _ => "IPv4".to_owned(),
    };
    wanted.iter().map(family).collect()
}

/// The families of a service without addresses. `least` keeps a headless service's own list.
fn families(_api: &Api, service: &Value, least: usize) -> Vec<String> {
    let mut families: Vec<String> = object::texts(service, "/spec/ipFamilies").into_iter().map(str::to_owned).collect();
    if families.is_empty() {
        families.push("IPv4".to_owned());
    }
    let dual = matches!(object::text(service, "/spec/ipFamilyPolicy"), "PreferDualStack" | "RequireDualStack");
    if dual && families.len() < 2 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    if !dual && least > 0 {
        families.truncate(1);
    }
    families
}

fn taken_addresses(api: &Api, service: &Value) -> HashSet<IpAddr> {
    let others = api.store.list(&GroupResource::new("", "services"), None).objects;
    let uid = object::uid(service);
    let others = others.iter().filter(|other| object::uid(other) != uid);
    others
        .flat_map(|other| {
            object::texts(other, "/spec/clusterIPs").into_iter().filter_map(|t| t.parse().ok()).collect::<Vec<IpAddr>>()
        })
        .collect()
}

fn chosen_address(api: &Api, text: &str, at: usize, taken: &HashSet<IpAddr>) -> Result<IpAddr, FieldError> {
    let field = format!("spec.clusterIPs[{at}]");
    let address: IpAddr = text.parse().map_err(|_| {
        FieldError::invalid(&*field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
    })?;
    let range = if address.is_ipv4() { api.options.service_range_v4 } else { api.options.service_range_v6 };
    if !range.contains(address) {
        let why = format!(
            "failed to allocate IP {text}: the provided IP ({text}) is not in the valid range. The range of valid IPs is {range}"
        );
        return Err(FieldError::invalid("spec.clusterIPs", json!([text]), why));
    }
    if taken.contains(&address) {
        let why = format!("failed to allocate IP {text}: provided IP is already allocated");
        return Err(FieldError::invalid("spec.clusterIPs", json!([text]), why));
    }
    Ok(address)
}

fn complete_node_ports(api: &Api, old: Option<&Value>, service: &mut Value) -> Result<(), FieldError> {
    let others = api.store.list(&GroupResource::new("", "services"), None).objects;
    let uid = object::uid(service).to_owned();
    let mut taken: HashSet<i64> = others
        .iter()
        .filter(|other| object::uid(other) != uid)
        .flat_map(|other| {
            object::list(other, "/spec/ports")
                .iter()
                .filter_map(|port| port.get("nodePort")?.as_i64())
                .collect::<Vec<_>>()
        })
        .collect();
    let kept = |port: &Value| {
        let same =
            |other: &&Value| other.get("port") == port.get("port") && other.get("protocol") == port.get("protocol");
        old.and_then(|old| object::list(old, "/spec/ports").iter().find(same)?.get("nodePort")?.as_i64())
    };
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for (at, port) in ports.into_iter().flatten().enumerate() {
        let asked = port.get("nodePort").and_then(Value::as_i64).filter(|number| *number != 0).or_else(|| kept(port));
        let number = match asked {
            Some(number) => {
                let field = format!("spec.ports[{at}].nodePort");
                if !ipam::NODE_PORTS.contains(&number) {
                    let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                    return Err(FieldError::invalid(field, number, why));
                }
                if taken.contains(&number) {
                    return Err(FieldError::invalid(field, number, "provided port is already allocated"));
                }
                number
            }
            None => ipam::NODE_PORTS.into_iter().find(|number| !taken.contains(number)).ok_or_else(|| {
                FieldError::invalid(
                    format!("spec.ports[{at}].nodePort"),
                    0,
                    "failed to allocate a nodePort: range is full",
                )
            })?,
        };
        taken.insert(number);
        object::set(port, &["nodePort"], number);
    }
    Ok(())
}

/// Checks a service.
pub fn check(old: Option<&Value>, service: &Value, errors: &mut Vec<FieldError>) {
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    check_one_of(&service["spec"], "spec", "type", &kinds, errors);
    check_one_of(&service["spec"], "spec", "sessionAffinity", &["ClientIP", "None"], errors);
    check_one_of(
        &service["spec"],
        "spec",
        "ipFamilyPolicy",
        &["SingleStack", "PreferDualStack", "RequireDualStack"],
        errors,
    );
    let external = object::text(service, "/spec/type") == "ExternalName";
    let ports = object::list(service, "/spec/ports");
    if external && object::text(service, "/spec/externalName").is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    }
    if ports.is_empty() && !external && object::text(service, "/spec/clusterIP") != "None" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    check_ports(ports, errors);
    if let Some(old) = old {
        let before = object::text(old, "/spec/clusterIP");
        let now = object::text(service, "/spec/clusterIP");
        if !before.is_empty() && !external && before != now {
            let value = service.pointer("/spec/clusterIPs").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("spec.clusterIPs[0]", value, "may not change once set"));
        }
    }
}

fn check_ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    let mut seen_names = HashSet::new();
    let mut seen_ports = HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let place = format!("spec.ports[{at}]");
        let name = object::text(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(format!("{place}.name"), ""));
        } else if !name.is_empty() {
            if let Err(why) = crate::names::label(name) {
                errors.push(FieldError::invalid(format!("{place}.name"), name, why));
            } else if !seen_names.insert(name) {
                errors.push(FieldError::duplicate(format!("{place}.name"), name));
            }
        }
        match port.get("port").and_then(Value::as_i64) {
            None => errors.push(FieldError::required(format!("{place}.port"), "")),
            Some(number) => {
                check_port(number, &format!("{place}.port"), errors);
                let protocol = object::text(port, "/protocol");
                if !seen_ports.insert((number, protocol)) {
                    errors.push(FieldError::duplicate(place.clone(), json!({ "port": number, "protocol": protocol })));
                }
            }
        }
        if let Some(number) = port.get("targetPort").and_then(Value::as_i64) {
            check_port(number, &format!("{place}.targetPort"), errors);
        }
        check_one_of(port, &place, "protocol", &["SCTP", "TCP", "UDP"], errors);
    }
}
