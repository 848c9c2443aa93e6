//! What is done with the requests of an HTTP route: V22 to V30.

use crate::{
    api::GRPC_STATUSES,
    validate::{
        at::{At, Report},
        duration::{self, Least},
        field,
    },
};

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
const BODY_MAX: usize = 1 << 20;
const BODY_LARGE: usize = 100 << 10;

pub(super) fn check(route: &At<'_>, report: &mut Report) {
    duration::check(route, "timeout", Least::Zero, report);
    let mut each = |name: &str, check: fn(&At<'_>, &mut Report)| {
        if let Some(part) = route.get(name) {
            check(&part, report);
        }
    };
    each("corsPolicy", cors);
    each("fault", fault);
    each("directResponse", direct_response);
    each("rewrite", rewrite);
    each("retries", retries);
    if let Some(part) = route.get("redirect") {
        redirect(route, &part, report);
    }
}

/// V22.
fn cors(cors: &At<'_>, report: &mut Report) {
    for origin in field::entries(cors, "allowOrigins", "origin", report) {
        field::text_match(&origin, false, report);
    }
    for method in cors.list("allowMethods").iter().filter(|method| !METHODS.contains(&method.word())) {
        // Not of the list, but what users write for all of them.
        if method.word() != "*" {
            let reason = format!("there is no method {:?}", method.word());
            report.error(&method.path, reason, format!("write {}", METHODS.join(", ")));
        }
    }
    duration::check(cors, "maxAge", Least::ZeroSeconds, report);
}

/// V23 to V25.
fn fault(fault: &At<'_>, report: &mut Report) {
    if !fault.has("delay") && !fault.has("abort") {
        report.error(&fault.path, "it neither delays nor aborts", "write delay or abort");
    }
    if let Some(abort) = fault.get("abort") {
        let kinds = field::alternatives(&abort, &["httpStatus", "grpcStatus", "http2Error"], report);
        if kinds == 0 {
            report.warn(
                &abort.path,
                "it does not say how to abort, so nothing is aborted",
                "write httpStatus or grpcStatus",
            );
        }
        if let Some(status) = abort.number("httpStatus").filter(|status| !(200..=599).contains(status)) {
            let reason = format!("{status} is not a status of an answer");
            report.error(abort.field("httpStatus"), reason, "write a number from 200 to 599");
        }
        if let Some(status) = abort.get("grpcStatus").filter(|status| !GRPC_STATUSES.contains(&status.word())) {
            let reason = format!("there is no {:?}", status.word());
            report.error(&status.path, reason, "write a word such as UNAVAILABLE");
        }
        if abort.has("http2Error") {
            report.error(abort.field("http2Error"), "no proxy can do that", "use httpStatus or grpcStatus");
        }
        field::percentage(&abort, "percentage", report);
    }
    if let Some(delay) = fault.get("delay") {
        if delay.has("exponentialDelay") {
            report.error(delay.field("exponentialDelay"), "no proxy can do that", "use fixedDelay");
        } else if !delay.has("fixedDelay") {
            report.error(delay.field("fixedDelay"), "it does not say how long", "write for example 5s");
        }
        duration::check(&delay, "fixedDelay", Least::Millisecond, report);
        field::percentage(&delay, "percentage", report);
        field::share(&delay, "percent", report);
    }
}

/// V26.
fn redirect(route: &At<'_>, redirect: &At<'_>, report: &mut Report) {
    field::alternatives(redirect, &["uri", "prefixRewrite"], report);
    if redirect.has("prefixRewrite") {
        let uris = route.list("match");
        let others = uris.iter().any(|one| one.get("uri").is_none_or(|uri| !uri.has("prefix")));
        if others || uris.is_empty() {
            let reason = "only the prefix a match names can be replaced";
            report.error(redirect.field("prefixRewrite"), reason, "give every match a uri.prefix, or use uri");
        }
    }
    if let Some(code) = redirect.number("redirectCode").filter(|code| !(300..=399).contains(code)) {
        let reason = format!("{code} is not a redirect");
        report.error(redirect.field("redirectCode"), reason, "write 301, 302, 303, 307 or 308");
    }
    let scheme = redirect.text("scheme");
    if !matches!(scheme, "" | "http" | "https") {
        report.error(redirect.field("scheme"), format!("there is no scheme {scheme:?}"), "write http or https");
    }
    field::alternatives(redirect, &["port", "derivePort"], report);
    field::port(redirect, "port", report);
    let parts = ["uri", "prefixRewrite", "authority", "scheme", "port", "derivePort"];
    if !parts.into_iter().any(|part| redirect.has(part) && redirect.get(part).is_some_and(|it| it.value != "")) {
        report.error(&redirect.path, "it leads back to where it came from", "write uri, authority, scheme or port");
    }
}

/// V27.
fn direct_response(response: &At<'_>, report: &mut Report) {
    if response.number("status").is_none_or(|status| !(200..=599).contains(&status)) {
        let given = response.get("status").map(|status| format!("{} is not a status of an answer", status.value));
        let reason = given.unwrap_or_else(|| "there is no status".to_owned());
        report.error(response.field("status"), reason, "write a number from 200 to 599");
    }
    let Some(body) = response.get("body") else { return };
    field::alternatives(&body, &["string", "bytes"], report);
    for (kind, length) in [("string", body.text("string").len()), ("bytes", body.text("bytes").len() / 4 * 3)] {
        if length > BODY_MAX {
            report.error(body.field(kind), "the body is longer than 1 MiB", "let a service answer");
        } else if length > BODY_LARGE {
            report.warn(
                body.field(kind),
                "the body is longer than 100 KiB, and every proxy holds it",
                "let a service answer",
            );
        }
    }
}

/// V28.
fn rewrite(rewrite: &At<'_>, report: &mut Report) {
    field::alternatives(rewrite, &["uri", "uriRegexRewrite"], report);
    if !["uri", "uriRegexRewrite", "authority"].into_iter().any(|part| rewrite.has(part)) {
        report.error(&rewrite.path, "it rewrites nothing", "write uri, uriRegexRewrite or authority");
    }
    let Some(regex) = rewrite.get("uriRegexRewrite") else { return };
    match regex.get("match") {
        Some(pattern) if !pattern.word().is_empty() => field::pattern(&pattern, report),
        Some(_) | None => report.error(regex.field("match"), "it does not say what is replaced", "write a pattern"),
    }
    field::required(&regex, "rewrite", "it does not say what is put in its place", "write it; \\1 is a group", report);
}

/// V29.
fn retries(retries: &At<'_>, report: &mut Report) {
    field::not_negative(retries, "attempts", report);
    let others = ["perTryTimeout", "retryOn", "retryRemoteLocalities", "backoff"];
    if retries.number("attempts").unwrap_or_default() == 0
        && let Some(other) = others.into_iter().find(|other| retries.has(other))
    {
        let reason = format!("nothing is tried again, so {other} says nothing");
        report.error(retries.field("attempts"), reason, format!("write 1 or more, or remove {other}"));
    }
    duration::check(retries, "perTryTimeout", Least::Millisecond, report);
    duration::check(retries, "backoff", Least::Millisecond, report);
    let Some(on) = retries.get("retryOn") else { return };
    let status = |word: &str| word.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status));
    for word in on.word().split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if !RETRY_ON.contains(&word) && !status(word) {
            let reason = format!("there is no {word:?}");
            report.error(&on.path, reason, format!("write {}, or a status", RETRY_ON.join(", ")));
        }
    }
}
