//! Which requests a rule is for, and its place among others: exact paths before longer prefixes before shorter ones before
//! patterns, then whoever asks for a method, for more headers, for more parameters.

use lateen_cluster::api::{GrpcMethod, Method, NamedMatch, RouteMatch};
use lateen_wire::proxy::{self as wire, path_match, string_match};

use super::{Context, Problem};

/// The greater is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    path: PathRank,
    length: usize,
    has_method: bool,
    headers: usize,
    parameters: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Pattern,
    Prefix,
    Exact,
}

pub(super) struct Matched {
    pub(super) rank: Rank,
    /// None where nothing is asked.
    pub(super) wire: Option<wire::HttpMatch>,
    /// The prefix that a rewrite may replace; empty where there is none.
    pub(super) prefix: String,
}

pub(super) fn derive(context: &Context<'_>, one: &RouteMatch) -> Result<Matched, Problem> {
    let path = match &one.method {
        Some(Method::Call(call)) => grpc(call),
        Some(Method::Word(_)) | None => path_of(context, one)?,
    };
    let method = match &one.method {
        Some(Method::Word(word)) => Some(text(string_match::Kind::Exact(word.clone()))),
        Some(Method::Call(_)) | None => None,
    };
    let rank = Rank {
        path: path.rank,
        length: path.length,
        has_method: method.is_some(),
        headers: one.headers.len(),
        parameters: one.query_params.len(),
    };
    // Of headers that are named twice the first counts.
    let mut headers: Vec<wire::HeaderMatch> = Vec::new();
    for header in &one.headers {
        let name = header.name.to_ascii_lowercase();
        if !headers.iter().any(|known| known.name == name) {
            headers.push(wire::HeaderMatch { name, value: Some(named(header)), invert: false, first_only: true });
        }
    }
    let mut query: Vec<wire::QueryMatch> = Vec::new();
    for parameter in &one.query_params {
        if !query.iter().any(|known| known.name == parameter.name) {
            query.push(wire::QueryMatch { name: parameter.name.clone(), value: Some(named(parameter)) });
        }
    }
    let path_match = path.kind.map(|kind| wire::PathMatch { kind: Some(kind), ignore_case: false });
    let made = wire::HttpMatch { path: path_match, method, headers, query, ..wire::HttpMatch::default() };
    Ok(Matched { rank, wire: (made != wire::HttpMatch::default()).then_some(made), prefix: path.prefix })
}

struct Path {
    rank: PathRank,
    length: usize,
    /// None matches every path.
    kind: Option<path_match::Kind>,
    prefix: String,
}

fn path_of(context: &Context<'_>, one: &RouteMatch) -> Result<Path, Problem> {
    let written = one.path.clone().unwrap_or_default();
    let value = written.value.unwrap_or_else(|| "/".to_owned());
    let length = value.chars().count();
    match written.kind.as_deref() {
        Some("Exact") => Ok(exact(value)),
        None | Some("PathPrefix") => {
            let prefix = match value.trim_end_matches('/') {
                "" => "/",
                shorter => shorter,
            };
            let kind = (prefix != "/").then(|| path_match::Kind::ElementPrefix(prefix.to_owned()));
            Ok(Path { rank: PathRank::Prefix, length, kind, prefix: prefix.to_owned() })
        }
        Some("RegularExpression") => Ok(pattern(value)),
        Some(other) => Err(context.problem("UnsupportedValue", &format!(".matches: there is no path type {other:?}"))),
    }
}

fn exact(value: String) -> Path {
    let length = value.chars().count();
    Path { rank: PathRank::Exact, length, kind: Some(path_match::Kind::Exact(value)), prefix: String::new() }
}

fn pattern(value: String) -> Path {
    let length = value.chars().count();
    Path { rank: PathRank::Pattern, length, kind: Some(path_match::Kind::Regex(value)), prefix: String::new() }
}

/// The path a call has: `/<service>/<method>`.
fn grpc(call: &GrpcMethod) -> Path {
    let is_pattern = call.kind.as_deref() == Some("RegularExpression");
    let service = call.service.as_deref().filter(|text| !text.is_empty());
    let method = call.method.as_deref().filter(|text| !text.is_empty());
    match (service, method) {
        (None, None) => Path { rank: PathRank::Prefix, length: 1, kind: None, prefix: "/".to_owned() },
        (Some(service), Some(method)) if !is_pattern => exact(format!("/{service}/{method}")),
        (Some(service), None) if !is_pattern => {
            let prefix = format!("/{service}");
            let kind = Some(path_match::Kind::ElementPrefix(prefix.clone()));
            Path { rank: PathRank::Prefix, length: prefix.chars().count() + 1, kind, prefix }
        }
        (service, method) => {
            let method = method.map(|method| if is_pattern { method.to_owned() } else { escaped(method) });
            pattern(format!("/{}/{}", service.unwrap_or("[^/]+"), method.as_deref().unwrap_or("[^/]+")))
        }
    }
}

/// As a pattern that matches this text only.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}

fn named(written: &NamedMatch) -> wire::StringMatch {
    match written.kind.as_deref() {
        Some("RegularExpression") => text(string_match::Kind::Regex(written.value.clone())),
        Some(_) | None => text(string_match::Kind::Exact(written.value.clone())),
    }
}

fn text(kind: string_match::Kind) -> wire::StringMatch {
    wire::StringMatch { kind: Some(kind), ignore_case: false }
}
