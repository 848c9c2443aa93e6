//! `WorkloadGroup`: WG1 to WG3.

use super::{
    at::{At, Report},
    common,
    endpoint::{self, Of},
    field,
};

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let spec = root.get("spec");
    if let Some(template) = spec.as_ref().and_then(|spec| spec.get("template")) {
        endpoint::check(&template, Of::Template, report);
    } else {
        let mend = "add template: {}, with what the workloads have in common";
        report.error("spec.template", "a group without a template says nothing", mend);
    }
    let Some(spec) = spec else { return };
    if let Some(labels) = spec.get("metadata").and_then(|metadata| metadata.get("labels")) {
        common::pairs(&labels, report);
    }
    if let Some(probe) = spec.get("probe") {
        handlers(&probe, report);
    }
}

fn handlers(probe: &At<'_>, report: &mut Report) {
    for name in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        field::not_negative(probe, name, report);
    }
    if field::alternatives(probe, &["httpGet", "tcpSocket", "exec", "grpc"], report) == 0 {
        report.error(&probe.path, "it does not say how to probe", "write httpGet, tcpSocket, exec or grpc");
    }
    for name in ["httpGet", "tcpSocket"] {
        let Some(handler) = probe.get(name) else { continue };
        if handler.number("port").is_none() {
            report.error(handler.field("port"), "there is no port", "write the number of one");
        }
        field::port(&handler, "port", report);
    }
    if let Some(http) = probe.get("httpGet") {
        let scheme = http.text("scheme");
        if !matches!(scheme, "" | "HTTP" | "HTTPS") {
            report.error(http.field("scheme"), format!("there is no scheme {scheme:?}"), "write HTTP or HTTPS");
        }
        for header in field::entries(&http, "httpHeaders", "header", report) {
            if !field::is_header_name(header.text("name")) {
                let reason = format!("{:?} is not the name of a header", header.text("name"));
                report.error(header.field("name"), reason, "use letters, digits and -");
            }
        }
    }
    if let Some(exec) = probe.get("exec").filter(|exec| exec.list("command").is_empty()) {
        report.error(exec.field("command"), "there is no command", "write it and its arguments as a list");
    }
    if let Some(grpc) = probe.get("grpc") {
        field::port(&grpc, "port", report);
    }
}
