//! When a route is taken: paths, headers, queries.

use http::HeaderName;
use lateen_wire::proxy as wire;

use super::error::{DecodeError, Within as _, bad_text, each, required};
use crate::route::{Comparison, Condition, HeaderMatch, HttpMatch, Part, PathMatch, QueryMatch, StringMatch, regexes};

pub(super) fn http_match(from: Option<wire::HttpMatch>) -> Result<HttpMatch, DecodeError> {
    let Some(from) = from else { return Ok(HttpMatch::default()) };
    let path = from.path.map(|path| path_match(path).within("path")).transpose()?;
    let mut conditions = Vec::new();
    let parts = [("method", Part::Method, from.method), ("scheme", Part::Scheme, from.scheme)];
    let authority = ("authority", Part::Authority, from.authority);
    for (field, part, value) in parts.into_iter().chain([authority]) {
        if let Some(value) = value {
            conditions.push(Condition::Part { part, value: text(value).within(field)?, invert: false });
        }
    }
    conditions.extend(each("headers", from.headers, header)?);
    conditions.extend(each("query", from.query, query)?);
    Ok(HttpMatch { path, conditions })
}

/// As much of a match as can be read: it holds for everything that all of it would hold for.
pub(super) fn readable(from: Option<wire::HttpMatch>) -> HttpMatch {
    let Some(from) = from else { return HttpMatch::default() };
    let path = from.path.clone().and_then(|path| path_match(path).ok());
    let alone = |of: wire::HttpMatch| http_match(Some(of)).map(|one| one.conditions).unwrap_or_default();
    let wire::HttpMatch { method, scheme, authority, headers, query, .. } = from;
    let parts = [
        wire::HttpMatch { method, ..Default::default() },
        wire::HttpMatch { scheme, ..Default::default() },
        wire::HttpMatch { authority, ..Default::default() },
    ];
    let headers = headers.into_iter().map(|one| wire::HttpMatch { headers: vec![one], ..Default::default() });
    let query = query.into_iter().map(|one| wire::HttpMatch { query: vec![one], ..Default::default() });
    let conditions = parts.into_iter().chain(headers).chain(query).flat_map(alone).collect();
    HttpMatch { path, conditions }
}

fn path_match(from: wire::PathMatch) -> Result<PathMatch, DecodeError> {
    use wire::path_match::Kind;
    let ignore_case = from.ignore_case;
    Ok(match required("kind", from.kind)? {
        Kind::Exact(path) => PathMatch::Exact { path: path.into(), ignore_case },
        Kind::Prefix(prefix) => PathMatch::Prefix { prefix: prefix.into(), ignore_case },
        Kind::ElementPrefix(prefix) => PathMatch::ElementPrefix { prefix: prefix.into(), ignore_case },
        Kind::Regex(pattern) => {
            // The table compiles them together; alone an error has its place.
            regexes::whole(&pattern).map_err(|error| DecodeError::new("regex", error))?;
            PathMatch::Regex(pattern.into())
        }
    })
}

/// A comparison of one text.
pub(super) fn text(from: wire::StringMatch) -> Result<StringMatch, DecodeError> {
    use wire::string_match::Kind;
    let comparison = match required("kind", from.kind)? {
        Kind::Exact(text) => Comparison::Exact(text.into()),
        Kind::Prefix(text) => Comparison::Prefix(text.into()),
        Kind::Suffix(text) => Comparison::Suffix(text.into()),
        Kind::Regex(pattern) => {
            let regex = regexes::whole(&pattern).map_err(|error| DecodeError::new("regex", error))?;
            Comparison::Regex(Box::new(regex))
        }
        Kind::Present(true) => Comparison::Present,
        Kind::Present(false) => Comparison::Absent,
    };
    Ok(StringMatch::new(comparison, from.ignore_case))
}

fn header(from: wire::HeaderMatch) -> Result<Condition, DecodeError> {
    let value = required("value", from.value).and_then(|value| text(value).within("value"))?;
    let part = match from.name.as_str() {
        ":method" => Some(Part::Method),
        ":scheme" => Some(Part::Scheme),
        // HTTP/1 calls it so; what it says is the authority whatever is spoken.
        ":authority" | "host" => Some(Part::Authority),
        _ => None,
    };
    if let Some(part) = part {
        return Ok(Condition::Part { part, value, invert: from.invert });
    }
    let name = header_name("name", &from.name)?;
    Ok(Condition::Header(HeaderMatch { name, value, invert: from.invert, first_only: from.first_only }))
}

fn query(from: wire::QueryMatch) -> Result<Condition, DecodeError> {
    let value = required("value", from.value).and_then(|value| text(value).within("value"))?;
    Ok(Condition::Query(QueryMatch { name: from.name.into(), value }))
}

/// The name of a header.
pub(super) fn header_name(field: &str, name: &str) -> Result<HeaderName, DecodeError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad_text(field, name, "the name of a header"))
}
