//! What extends or sets up proxies: `ProxyConfig`, `WasmPlugin`, `TrafficExtension`, `EnvoyFilter`: X10 to X13.

use super::{
    at::{At, Report},
    common, field,
};

const NAME_MAX: usize = 254;
const SECRET_MAX: usize = 252;
const SCHEMES: [&str; 4] = ["oci://", "http://", "https://", "file://"];
const LUA_MAX: usize = 64 << 10;

pub(super) fn proxy_config(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else { return };
    common::selector(&spec, report);
    field::not_negative(&spec, "concurrency", report);
}

pub(super) fn wasm_plugin(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else {
        return report.error("spec.url", "there is no module", "write for example oci://registry.example/plugin:1");
    };
    common::scope(&spec, report);
    wasm(&spec, report);
    traffic(&spec, report);
}

pub(super) fn traffic_extension(root: &At<'_>, report: &mut Report) {
    let spec = root.get("spec");
    let kinds = spec.as_ref().map(|spec| field::alternatives(spec, &["wasm", "lua"], report));
    if kinds.unwrap_or_default() == 0 {
        report.error("spec", "there is no code", "write wasm or lua");
    }
    let Some(spec) = spec else { return };
    common::scope(&spec, report);
    traffic(&spec, report);
    if let Some(module) = spec.get("wasm") {
        wasm(&module, report);
    }
    if let Some(lua) = spec.get("lua") {
        let code = lua.text("inlineCode");
        if code.trim().is_empty() {
            report.error(lua.field("inlineCode"), "there is no code", "write it");
        } else if code.len() > LUA_MAX {
            report.error(lua.field("inlineCode"), "the code is longer than 64 KiB", "write a WebAssembly module");
        }
    }
}

fn wasm(at: &At<'_>, report: &mut Report) {
    let url = at.text("url");
    let has_scheme = url.contains("://");
    if url.is_empty() {
        report.error(at.field("url"), "there is no module", "write for example oci://registry.example/plugin:1");
    } else if has_scheme && !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        report.error(at.field("url"), format!("{url:?} cannot be fetched"), "use oci, https, http or file");
    }
    let sum = at.text("sha256");
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if !sum.is_empty() && (sum.len() != 64 || !sum.chars().all(hex)) {
        report.error(at.field("sha256"), format!("{sum:?} is not a SHA-256"), "write 64 lower-case hexadecimal digits");
    }
    for (name, max) in [("imagePullSecret", SECRET_MAX), ("pluginName", NAME_MAX)] {
        longest(at, name, max, report);
    }
    variables(at, report);
}

fn longest(at: &At<'_>, name: &str, max: usize, report: &mut Report) {
    if at.text(name).len() > max {
        report.error(at.field(name), format!("it is longer than {max} characters"), "write a shorter name");
    }
}

fn variables(at: &At<'_>, report: &mut Report) {
    let Some(machine) = at.get("vmConfig") else { return };
    let mut seen: Vec<&str> = Vec::new();
    for variable in field::entries(&machine, "env", "variable", report) {
        let name = variable.text("name");
        if name.is_empty() {
            report.error(variable.field("name"), "the variable has no name", "name it");
        } else if seen.contains(&name) {
            report.error(variable.field("name"), format!("the variable {name:?} is there twice"), "remove one");
        }
        seen.push(name);
        longest(&variable, "name", NAME_MAX, report);
        if !variable.text("value").is_empty() && variable.text("valueFrom") == "HOST" {
            let reason = "a value of the host is not written here";
            report.error(variable.field("value"), reason, "remove it, or use valueFrom: INLINE");
        }
    }
}

/// Which connections it is for.
fn traffic(spec: &At<'_>, report: &mut Report) {
    for one in field::entries(spec, "match", "match", report) {
        for port in field::entries(&one, "ports", "port", report) {
            if port.number("number").is_none() {
                report.error(port.field("number"), "there is no port", "write the number of one");
            }
            field::port(&port, "number", report);
        }
    }
}

pub(super) fn envoy_filter(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else { return };
    field::alternatives(&spec, &["workloadSelector", "targetRefs"], report);
    if let Some(labels) = spec.get("workloadSelector").and_then(|selector| selector.get("labels")) {
        common::pairs(&labels, report);
    }
    for target in spec.list("targetRefs") {
        common::target_ref(&target, report);
    }
    for one in field::entries(&spec, "configPatches", "patch", report) {
        let place = one.text("applyTo");
        if matches!(place, "" | "INVALID") {
            report.error(one.field("applyTo"), "it does not say what is changed", "write for example HTTP_FILTER");
        }
        let Some(change) = one.get("patch").filter(|change| !change.members().is_empty()) else {
            report.error(one.field("patch"), "it changes nothing", "write operation and value");
            continue;
        };
        let operation = change.text("operation");
        let Some((wrong, instead)) = misused(operation, place) else { continue };
        report.error(change.field("operation"), wrong, instead);
    }
}

/// Operations that the place they name does not know.
fn misused(operation: &str, place: &str) -> Option<(String, &'static str)> {
    let relative = matches!(operation, "INSERT_BEFORE" | "INSERT_AFTER" | "INSERT_FIRST");
    let ordered = matches!(
        place,
        "NETWORK_FILTER" | "HTTP_FILTER" | "LISTENER_FILTER" | "FILTER_CHAIN" | "LISTENER" | "HTTP_ROUTE"
    );
    if relative && !ordered && !matches!(place, "" | "INVALID") {
        return Some((format!("{place} has no order for {operation}"), "use ADD or MERGE"));
    }
    if operation == "REPLACE" && !matches!(place, "NETWORK_FILTER" | "HTTP_FILTER" | "LISTENER_FILTER" | "" | "INVALID")
    {
        return Some((format!("{place} cannot be replaced"), "use MERGE, or REMOVE and ADD"));
    }
    None
}
