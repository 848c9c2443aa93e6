//! `WorkloadEntry`, alone, as an endpoint of a `ServiceEntry` or as a group's template: W1 to W5.

use super::{
    at::{At, Report},
    common, words,
};

/// Where the entry stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// An object of its own.
    Entry,
    /// An endpoint that is an address.
    Static,
    /// An endpoint whose address may be a name.
    Named,
    /// What entries of a group begin with; each has an address of its own.
    Template,
}

pub(super) fn check(spec: &At<'_>, of: Of, report: &mut Report) {
    let address = spec.text("address");
    match address.strip_prefix("unix://") {
        Some(path) => unix(spec, path, report),
        None if address.is_empty() && of == Of::Template => {}
        None if address.is_empty() && spec.text("network").is_empty() => {
            report.error(spec.field("address"), "there is no address", "write an IP address, or name a network");
        }
        None if address.is_empty() => {
            let mend = "write an IP address if there is one";
            report.warn(spec.field("address"), "without an address only other networks reach it", mend);
        }
        None => valid(spec, address, of, report),
    }
    ports(spec, report);
    if let Some(labels) = spec.get("labels") {
        common::pairs(&labels, report);
    }
    let locality = spec.text("locality");
    if !locality.is_empty() && (locality.split('/').count() > 3 || locality.split('/').any(str::is_empty)) {
        let reason = format!("{locality:?} is not a locality");
        report.error(spec.field("locality"), reason, "write <region>/<zone>/<subzone>, or less from the end");
    }
}

fn unix(spec: &At<'_>, path: &str, report: &mut Report) {
    if !path.starts_with(['/', '@']) || path.len() == 1 || path.ends_with('/') {
        let mend = "write unix:// and an absolute path of a socket";
        report.error(spec.field("address"), format!("{path:?} is not the path of a socket"), mend);
    }
    if spec.get("ports").is_some_and(|ports| !ports.members().is_empty()) {
        report.error(spec.field("ports"), "a unix socket has no ports", "remove them");
    }
}

fn valid(spec: &At<'_>, address: &str, of: Of, report: &mut Report) {
    if words::is_ip(address) {
        return;
    }
    let field = spec.field("address");
    let only_digits = address.split('.').all(|part| part.parse::<u32>().is_ok());
    match of {
        Of::Static => {
            let mend = "write an IP address, or use resolution: DNS";
            report.error(field, format!("{address:?} is not an IP address"), mend);
        }
        Of::Entry | Of::Named | Of::Template if !words::is_fqdn(address) || only_digits => {
            let reason = format!("{address:?} is neither an IP address nor a host name");
            report.error(field, reason, "write for example 10.0.0.1 or db.example.com");
        }
        Of::Entry | Of::Named | Of::Template => {}
    }
}

fn ports(spec: &At<'_>, report: &mut Report) {
    for (name, port) in spec.get("ports").map(|ports| ports.members()).unwrap_or_default() {
        if !words::is_port_name(name) {
            report.error(&port.path, format!("{name:?} is not the name of a port"), "use letters, digits and -");
        }
        if let Some(number) = port.value.as_i64().filter(|number| !(1..=65535).contains(number)) {
            report.error(&port.path, format!("{number} is not a port"), "write a number from 1 to 65535");
        }
    }
}
