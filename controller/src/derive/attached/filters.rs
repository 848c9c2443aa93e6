//! What a rule, or one of its backends, changes.

use lateen_cluster::api::{
    Filter, HeaderModifier, NamedMatch, PathModifier, RequestMirror, RequestRedirect, RouteCors, UrlRewrite,
};
use lateen_wire::proxy::{self as wire, redirect::PortSource, string_match};

use super::{Context, Problem, backends, matching::escaped};

/// All of it; a second of a kind is refused by the API.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters<'a> {
    pub(super) request: Option<wire::HeaderEdits>,
    pub(super) response: Option<wire::HeaderEdits>,
    pub(super) redirect: Option<&'a RequestRedirect>,
    pub(super) rewrite: Option<&'a UrlRewrite>,
    pub(super) mirrors: Vec<wire::Mirror>,
    pub(super) cors: Option<wire::Cors>,
}

pub(super) fn derive<'a>(
    context: &Context<'_>,
    filters: &'a [Filter],
    unresolved: &mut Vec<Problem>,
) -> Result<Filters<'a>, Problem> {
    let mut made = Filters::default();
    for filter in filters {
        match filter.kind.as_str() {
            "RequestHeaderModifier" => made.request = filter.request_header_modifier.as_ref().map(edits),
            "ResponseHeaderModifier" => made.response = filter.response_header_modifier.as_ref().map(edits),
            "RequestRedirect" => made.redirect = filter.request_redirect.as_ref(),
            "URLRewrite" => made.rewrite = filter.url_rewrite.as_ref(),
            "RequestMirror" => {
                let mirrors = filter.request_mirror.iter();
                made.mirrors.extend(mirrors.filter_map(|one| mirror(context, one, unresolved)));
            }
            "CORS" => made.cors = filter.cors.as_ref().map(cors),
            other => {
                let what = format!(".filters: {other} is not supported; without it the rule would not do what it says");
                return Err(context.problem("UnsupportedValue", &what));
            }
        }
    }
    Ok(made)
}

fn edits(written: &HeaderModifier) -> wire::HeaderEdits {
    let header = |one: &NamedMatch| wire::Header {
        name: one.name.to_ascii_lowercase(),
        value: one.value.clone(),
        literal: true,
    };
    wire::HeaderEdits {
        set: written.set.iter().map(header).collect(),
        add: written.add.iter().map(header).collect(),
        remove: written.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    }
}

pub(super) fn redirect(written: &RequestRedirect, matched: &str) -> wire::Redirect {
    let path = written.path.as_ref().map(|path| match prefix(path) {
        Some(prefix) => wire::redirect::Path::ElementPrefix(prefix.to_owned()),
        None => wire::redirect::Path::Full(path.replace_full_path.clone().unwrap_or_default()),
    });
    let port_source = match (written.port, &written.scheme) {
        (None, Some(_)) => PortSource::ProtocolDefault,
        (Some(_), _) | (None, None) => PortSource::Listener,
    };
    wire::Redirect {
        status: written.status_code.unwrap_or(302),
        scheme: written.scheme.clone().unwrap_or_default(),
        authority: written.hostname.clone().unwrap_or_default(),
        port: written.port.unwrap_or_default(),
        port_source: port_source.into(),
        matched_prefix: matched.to_owned(),
        path,
    }
}

pub(super) fn rewrite(written: &UrlRewrite, matched: &str) -> wire::Rewrite {
    let path = written.path.as_ref().map(|path| match prefix(path) {
        Some(prefix) => wire::rewrite::Path::ElementPrefix(prefix.to_owned()),
        None => wire::rewrite::Path::Full(path.replace_full_path.clone().unwrap_or_default()),
    });
    wire::Rewrite { path, authority: written.hostname.clone().unwrap_or_default(), matched_prefix: matched.to_owned() }
}

fn prefix(path: &PathModifier) -> Option<&str> {
    (path.kind == "ReplacePrefixMatch").then(|| path.replace_prefix_match.as_deref().unwrap_or_default())
}

fn mirror(context: &Context<'_>, written: &RequestMirror, unresolved: &mut Vec<Problem>) -> Option<wire::Mirror> {
    const ALL: u64 = 1_000_000;
    let share = match (&written.fraction, written.percent) {
        (Some(part), _) => u64::from(part.numerator) * ALL / u64::from(part.denominator.unwrap_or(100).max(1)),
        (None, Some(percent)) => u64::from(percent) * (ALL / 100),
        (None, None) => ALL,
    };
    let per_million = u32::try_from(share.min(ALL)).unwrap_or_default();
    match backends::upstream(context, &written.backend_ref) {
        Ok(to) => (per_million > 0).then_some(wire::Mirror { to: Some(to), per_million }),
        Err(problem) => {
            unresolved.push(problem);
            None
        }
    }
}

/// How long an answer to a preflight holds where nothing is said.
const MAX_AGE: u32 = 5;

fn cors(written: &RouteCors) -> wire::Cors {
    let origin = |text: &String| {
        let kind = match text.split_once('*') {
            None => string_match::Kind::Exact(text.clone()),
            Some((before, after)) => string_match::Kind::Regex(format!("{}.*{}", escaped(before), escaped(after))),
        };
        wire::StringMatch { kind: Some(kind), ignore_case: false }
    };
    wire::Cors {
        any_origin: written.allow_origins.iter().any(|text| text == "*"),
        allow_origins: written.allow_origins.iter().filter(|text| *text != "*").map(origin).collect(),
        allow_methods: written.allow_methods.clone(),
        allow_headers: written.allow_headers.clone(),
        expose_headers: written.expose_headers.clone(),
        max_age: Some(prost_types::Duration { seconds: written.max_age.unwrap_or(MAX_AGE).into(), nanos: 0 }),
        allow_credentials: written.allow_credentials.unwrap_or_default(),
        answer_unmatched_preflights: true,
    }
}
