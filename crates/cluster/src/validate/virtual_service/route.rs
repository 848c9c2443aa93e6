//! One HTTP route, as a whole and where it leads: V8 to V17, V36.

use super::{Service, action, alter, matching};
use crate::validate::{
    at::{At, Report},
    field, words,
};

pub(super) fn check(route: &At<'_>, service: &Service<'_>, report: &mut Report) {
    kinds(route, service, report);
    for one in field::entries(route, "match", "match", report) {
        matching::http(&one, service, report);
    }
    targets(route, report);
    mirrors(route, report);
    authority(route, report);
    action::check(route, report);
    alter::headers(route, report);
}

/// What a route does, of which most things exclude each other.
fn kinds(route: &At<'_>, service: &Service<'_>, report: &mut Report) {
    let given = |name: &str| route.has(name) && (name != "route" || !route.list("route").is_empty());
    let mut exclude = |one: &str, others: &[&str]| {
        for other in others.iter().filter(|other| given(one) && given(other)) {
            let reason = format!("{one} and {other} cannot stand together");
            report.error(
                route.field(other),
                reason,
                format!("keep one of them, or move {other} to a route of its own"),
            );
        }
    };
    exclude("redirect", &["route", "fault", "rewrite"]);
    exclude("directResponse", &["route", "redirect", "rewrite", "fault", "mirror", "mirrors"]);
    exclude("delegate", &["route", "redirect", "directResponse"]);
    exclude("mirror", &["mirrors"]);
    if !["route", "redirect", "directResponse", "delegate"].into_iter().any(given) {
        let mend = "write route, redirect, directResponse or delegate";
        report.error(&route.path, "it does not say what becomes of requests", mend);
    }
    if let Some(delegate) = route.get("delegate") {
        if service.is_delegate {
            let reason = "what is included by others cannot include others itself";
            report.error(&delegate.path, reason, "write the routes here, or name a host");
        }
        field::required(&delegate, "name", "the delegate has no name", "name a VirtualService without hosts", report);
    }
}

/// V15.
fn targets(route: &At<'_>, report: &mut Report) {
    let targets = field::entries(route, "route", "destination", report);
    for one in &targets {
        destination(one, "destination", report);
        alter::headers(one, report);
    }
    weights(route, &targets, report);
}

pub(super) fn weights(route: &At<'_>, targets: &[At<'_>], report: &mut Report) {
    for one in targets {
        field::not_negative(one, "weight", report);
    }
    let any = targets.iter().any(|one| one.number("weight").unwrap_or_default() != 0);
    if targets.len() > 1 && !any {
        let reason = "of several destinations none has a weight";
        report.error(route.field("route"), reason, "give each its share in weight");
    }
}

/// V16.
pub(super) fn destination(of: &At<'_>, name: &str, report: &mut Report) {
    let Some(destination) = of.get(name) else {
        return report.error(of.field(name), "there is no destination", "write destination: {host: <service>}");
    };
    let host = destination.text("host");
    if host.is_empty() {
        report.error(destination.field("host"), "there is no host", "name a service");
    } else if !words::is_fqdn(host) {
        let mend = "write the name of a service, without wildcards";
        report.error(destination.field("host"), format!("{host:?} is not a host name"), mend);
    }
    let subset = destination.text("subset");
    if !subset.is_empty() && !words::is_dns_label(subset) {
        let reason = format!("{subset:?} is not the name of a subset");
        report.error(destination.field("subset"), reason, "use lower-case letters, digits and -");
    }
    if let Some(port) = destination.get("port") {
        if port.number("number").is_none() {
            report.error(port.field("number"), "there is no port", "write the number of one");
        }
        field::port(&port, "number", report);
    }
}

/// V13, V36.
fn mirrors(route: &At<'_>, report: &mut Report) {
    if route.has("mirror") {
        destination(route, "mirror", report);
    }
    field::percentage(route, "mirrorPercentage", report);
    for name in ["mirrorPercent", "mirror_percent"] {
        field::share(route, name, report);
    }
    for mirror in field::entries(route, "mirrors", "mirror", report) {
        destination(&mirror, "destination", report);
        field::percentage(&mirror, "percentage", report);
    }
}

/// V17: the host a request carries on with can be said once.
fn authority(route: &At<'_>, report: &mut Report) {
    let rewritten = route.get("rewrite").is_some_and(|rewrite| rewrite.has("authority"));
    let targets = route.list("route");
    for request in of_request(route).into_iter().chain(targets.iter().filter_map(of_request)) {
        let edits = ["set", "add"].into_iter().filter_map(|edit| request.get(edit));
        let named: Vec<String> = edits
            .flat_map(|edit| edit.members())
            .filter(|(name, _)| matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority"))
            .map(|(_, value)| value.path)
            .collect();
        let allowed = if rewritten { 0 } else { 1 };
        for path in named.into_iter().skip(allowed) {
            let reason = "the host of requests is set elsewhere too";
            report.error(path, reason, "set it once, in rewrite.authority or in one header");
        }
    }
}

fn of_request<'a>(of: &At<'a>) -> Option<At<'a>> {
    of.get("headers")?.get("request")
}
