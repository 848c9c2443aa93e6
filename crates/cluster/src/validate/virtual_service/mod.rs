//! `VirtualService`: V1 to V7 here; its routes, matches and what is done with requests in modules of their own.

mod action;
mod alter;
mod layer4;
mod matching;
mod order;
mod route;

use super::{
    at::{At, Report},
    common, field,
    words::{self, Host},
};

/// The word for the proxies of the mesh, in place of a gateway.
const MESH: &str = "mesh";

/// What routes are judged with.
struct Service<'a> {
    spec: &'a At<'a>,
    /// Whether it is included by others, since it has no host.
    is_delegate: bool,
}

impl Service<'_> {
    /// Whether rules that name these gateways, or none, hold in the mesh.
    fn is_of_mesh(&self, of: &At<'_>) -> bool {
        let own = of.list("gateways");
        let named = if own.is_empty() { self.spec.list("gateways") } else { own };
        named.is_empty() || named.iter().any(|gateway| gateway.word() == MESH)
    }
}

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else {
        return report.error("spec.hosts", "there is no host", "name one");
    };
    let service = Service { spec: &spec, is_delegate: spec.list("hosts").is_empty() };
    if service.is_delegate {
        for other in ["gateways", "tls", "tcp"].into_iter().filter(|other| spec.has(other)) {
            let reason = format!("without a host it is included by others, which take no {other} from it");
            report.error(spec.field("hosts"), reason, format!("name a host, or remove {other}"));
        }
    }
    hosts(root, &service, report);
    gateways(&spec, report);
    if !["http", "tls", "tcp"].into_iter().any(|routes| !spec.list(routes).is_empty()) {
        report.error(spec.field("http"), "there is no route", "write http, tls or tcp routes");
    }
    for one in field::entries(&spec, "http", "route", report) {
        route::check(&one, &service, report);
    }
    for one in field::entries(&spec, "tls", "route", report) {
        layer4::tls(&one, &service, report);
    }
    for one in field::entries(&spec, "tcp", "route", report) {
        layer4::tcp(&one, report);
    }
    for routes in ["http", "tls", "tcp"] {
        order::check(&spec, routes, report);
    }
    common::export_to(root, &spec, false, report);
}

/// V3 to V5.
fn hosts(root: &At<'_>, service: &Service<'_>, report: &mut Report) {
    let namespace = root.get("metadata").map(|metadata| metadata.text("namespace")).unwrap_or_default();
    let full = |text: &str| {
        let text = text.to_ascii_lowercase();
        if text.contains(['.', '*', ':']) { text } else { format!("{text}.{namespace}.svc.cluster.local") }
    };
    let in_mesh = service.is_of_mesh(service.spec);
    let mut seen: Vec<(String, &str)> = Vec::new();
    for host in service.spec.list("hosts") {
        let text = host.word();
        let kind = words::host(text);
        if kind == Host::All && in_mesh {
            let mend = "name hosts, or gateways other than mesh";
            report.error(&host.path, "in the mesh a rule cannot be for all hosts", mend);
        } else if words::is_ip(text) && in_mesh {
            let mend = "name the host, or gateways other than mesh";
            report.error(&host.path, "in the mesh a rule is for a name, not for an address", mend);
        } else if !words::is_ip(text) && (kind == Host::Malformed || kind == Host::Partial && !text.starts_with('*')) {
            let mend = "write a host name, or one with *. at the front";
            report.error(&host.path, format!("{text:?} is not a host name"), mend);
        }
        if let Some((_, other)) = seen.iter().find(|(name, _)| *name == full(text)) {
            let reason = match *other == text {
                true => format!("{text:?} is there twice"),
                false => format!("{text:?} is the same host as {other:?}"),
            };
            report.error(&host.path, reason, "remove one of them");
        }
        seen.push((full(text), text));
    }
}

/// V2.
fn gateways(of: &At<'_>, report: &mut Report) {
    let name = |text: &str| text.split('.').all(words::is_dns_label);
    for gateway in of.list("gateways") {
        let text = gateway.word();
        let fine = match text.split_once('/') {
            Some((namespace, inner)) => words::is_dns_label(namespace) && name(inner),
            None => name(text),
        };
        if !fine {
            let reason = format!("{text:?} is not a gateway");
            report.error(&gateway.path, reason, "write <gateway>, <namespace>/<gateway> or mesh");
        }
    }
}
