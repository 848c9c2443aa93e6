//! Which requests a route is for.

use lateen_cluster::{
    api::{HttpMatch, StringMatch},
    store::Key,
};
use lateen_wire::proxy::{self as wire, path_match, string_match::Kind};

use super::{Asker, names};

/// Keys of this kind speak of a token's claims, which no proxy of ours looks into yet.
const CLAIM: &str = "@request.auth.claims";
/// Keys that the API says mean nothing among headers.
const NO_HEADERS: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// Whether a match can hold where it is asked at, and then whether it holds always.
pub(super) fn applies(asker: Asker<'_>, key: &Key, one: &HttpMatch) -> Option<bool> {
    let named = names(asker.at, key, &one.gateways);
    let claims = one.headers.keys().chain(one.without_headers.keys()).any(|name| name.starts_with(CLAIM));
    // What is asked of the client is not known where routes are decided for all clients at once.
    let of_client =
        !one.source_labels.is_empty() || !one.source_namespace.is_empty() && one.source_namespace != asker.namespace;
    let elsewhere = one.port.is_some_and(|port| port != u32::from(asker.port));
    if named == Some(false) || claims || elsewhere || named.is_none() && of_client {
        return None;
    }
    Some(is_catch_all(one))
}

fn is_catch_all(one: &HttpMatch) -> bool {
    let path = match &one.uri {
        None => true,
        Some(uri) => uri.prefix.as_deref() == Some("/") || uri.regex.as_deref() == Some(".*") || is_any(uri),
    };
    let asks = one.method.is_some() || one.scheme.is_some() || one.authority.is_some();
    path && !asks && one.headers.is_empty() && one.without_headers.is_empty() && one.query_params.is_empty()
}

fn is_any(text: &StringMatch) -> bool {
    text.exact.is_none() && text.prefix.is_none() && text.regex.as_deref().is_none_or(|pattern| pattern == "*")
}

/// The match; none where nothing is asked.
pub(super) fn derive(one: &HttpMatch) -> Option<wire::HttpMatch> {
    let mut made = wire::HttpMatch {
        path: one.uri.as_ref().and_then(|uri| path(uri, one.ignore_uri_case)),
        method: one.method.as_ref().map(text),
        scheme: one.scheme.as_ref().map(text),
        authority: one.authority.as_ref().map(text),
        ..wire::HttpMatch::default()
    };
    for (name, value) in one.headers.iter().filter(|(name, _)| !NO_HEADERS.contains(&name.as_str())) {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            ":method" => made.method = Some(text(value)),
            ":scheme" => made.scheme = Some(text(value)),
            ":authority" => made.authority = Some(text(value)),
            _ => made.headers.push(header(name, value, false)),
        }
    }
    for (name, value) in one.without_headers.iter().filter(|(name, _)| !NO_HEADERS.contains(&name.as_str())) {
        made.headers.push(header(name.to_ascii_lowercase(), value, true));
    }
    made.query = one
        .query_params
        .iter()
        .map(|(name, value)| wire::QueryMatch { name: name.clone(), value: Some(text(value)) })
        .collect();
    (made != wire::HttpMatch::default()).then_some(made)
}

fn header(name: String, value: &StringMatch, invert: bool) -> wire::HeaderMatch {
    wire::HeaderMatch { name, value: Some(text(value)), invert, first_only: false }
}

fn path(uri: &StringMatch, ignore_case: bool) -> Option<wire::PathMatch> {
    let kind = match (&uri.exact, &uri.prefix, &uri.regex) {
        (Some(exact), ..) => path_match::Kind::Exact(exact.clone()),
        (_, Some(prefix), _) => path_match::Kind::Prefix(prefix.clone()),
        (.., Some(regex)) if regex != "*" => path_match::Kind::Regex(regex.clone()),
        (..) => return None,
    };
    let ignore_case = ignore_case && !matches!(kind, path_match::Kind::Regex(_));
    Some(wire::PathMatch { kind: Some(kind), ignore_case })
}

/// Nothing asked, and the pattern `*`, mean "there".
pub(super) fn text(asked: &StringMatch) -> wire::StringMatch {
    let kind = match (&asked.exact, &asked.prefix, &asked.regex) {
        (Some(exact), ..) => Kind::Exact(exact.clone()),
        (_, Some(prefix), _) => Kind::Prefix(prefix.clone()),
        (.., Some(regex)) if regex != "*" => Kind::Regex(regex.clone()),
        (..) => Kind::Present(true),
    };
    wire::StringMatch { kind: Some(kind), ignore_case: false }
}
