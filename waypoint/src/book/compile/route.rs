//! What routes do: forward, redirect, answer, and the filters on the way.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use lateen_types::retry::{RetryOn, grpc};
use lateen_wire::proxy as wire;

use super::{
    edits::{edits, header_value},
    error::{DecodeError, Within as _, Wrong, bad_text, each, known, port, required, some_text, time},
    matches::{self, header_name},
    service::{required_upstream, status, upstream},
};
use crate::{
    book::route::{Action, Forward, HttpRoute, Target, Weighted},
    filter::{
        cors::Cors,
        direct::DirectResponse,
        fault::{Abort, Fault, MILLION, Share},
        mirror::Mirror,
        redirect::{Redirect, RedirectPort},
        rewrite::{PathRewrite, RegexRewrite, Rewrite},
        session::{Carrier, Session},
    },
    retry::{BACKOFF, Retry},
    route::{HttpMatch, RouteTable},
};

/// Answered where a destination is not known and nobody says otherwise.
pub(super) const NO_CLUSTER: u16 = 503;
/// Answered in the place of a route that cannot be used.
const UNUSABLE: u16 = 500;

pub(super) fn http_route(from: wire::HttpRoute) -> Result<(HttpMatch, Arc<HttpRoute>), DecodeError> {
    use wire::http_route::Action as Given;
    let matched = matches::http_match(from.r#match).within("match")?;
    let request = edits(from.request_headers).within("request_headers")?;
    let response = edits(from.response_headers).within("response_headers")?;
    let action = match required("action", from.action)? {
        Given::Forward(given) => Action::Forward(Box::new(forward(given, request.authority).within("forward")?)),
        Given::Redirect(given) => Action::Redirect(Box::new(redirect(given).within("redirect")?)),
        Given::Direct(given) => Action::Direct(Box::new(direct(given).within("direct")?)),
    };
    let route = HttpRoute {
        name: from.name.into(),
        action,
        request_headers: request.headers,
        response_headers: response.headers,
        cors: from.cors.map(|given| cors(given).within("cors")).transpose()?.map(Box::new),
        fault: from.fault.map(|given| fault(given).within("fault")).transpose()?.map(Box::new),
    };
    Ok((matched, Arc::new(route)))
}

/// Routes of a host, among others of a proxy. One that cannot be used is answered with 500 in its place, and all others go on:
/// whoever writes a pattern that nobody can read must not keep everybody's configuration from changing. What its match says
/// and can be read holds, so that it never takes less than it was meant to: a route may be there to refuse.
pub(super) fn shared_routes(host: &str, from: Vec<wire::HttpRoute>) -> RouteTable {
    let one = |route: wire::HttpRoute| {
        let (name, matched) = (route.name.clone(), route.r#match.clone());
        http_route(route).unwrap_or_else(|error| {
            tracing::warn!(host, route = name, %error, "a route cannot be used: what it matches is answered with 500");
            (matches::readable(matched), unusable(&name))
        })
    };
    RouteTable::new(from.into_iter().map(one).collect()).unwrap_or_else(|error| {
        tracing::warn!(host, %error, "the routes of a host cannot be used together: all of it is answered with 500");
        RouteTable::new(vec![(HttpMatch::default(), unusable(""))]).unwrap_or_default()
    })
}

fn unusable(name: &str) -> Arc<HttpRoute> {
    let forward = Forward::new(vec![(1, Weighted::new(Target::Invalid(UNUSABLE)))], UNUSABLE);
    Arc::new(HttpRoute {
        name: name.into(),
        action: Action::Forward(Box::new(forward)),
        request_headers: None,
        response_headers: None,
        cors: None,
        fault: None,
    })
}

/// `authority` is what the route's own edits make of the host. A rewrite outranks it, and it outranks the destinations'.
fn forward(from: wire::Forward, authority: Option<HeaderValue>) -> Result<Forward, DecodeError> {
    let mut rewrite = from.rewrite.map(|given| self::rewrite(given).within("rewrite")).transpose()?;
    if let Some(authority) = authority {
        rewrite.get_or_insert_default().authority.get_or_insert(authority);
    }
    let destinations = each("destinations", from.destinations, |one| weighted(one, rewrite.as_ref()))?;
    let empty = if from.empty_status == 0 { u32::from(NO_CLUSTER) } else { from.empty_status };
    let mut forward = Forward::new(destinations, status("empty_status", empty)?.as_u16());
    forward.rewrite = rewrite.map(Box::new);
    forward.timeout = time("timeout", from.timeout)?.filter(|timeout| !timeout.is_zero());
    forward.retry = from.retry.map(|given| retry(given).within("retry")).transpose()?.map(Box::new);
    forward.mirrors = each("mirrors", from.mirrors, mirror)?.into();
    forward.session = from.session.map(|given| session(given).within("session")).transpose()?.map(Box::new);
    Ok(forward)
}

/// One destination with its weight. Where it rewrites anything itself, it gets the whole of it: its own path before the
/// route's, the route's host before its own.
pub(super) fn weighted(from: wire::Weighted, of_route: Option<&Rewrite>) -> Result<(u32, Weighted), DecodeError> {
    use wire::weighted::To;
    let to = match required("to", from.to)? {
        To::Upstream(given) => Target::Upstream(Arc::new(upstream(given).within("upstream")?)),
        To::InvalidStatus(given) => Target::Invalid(status("invalid_status", given)?.as_u16()),
        To::Redirect(given) => Target::Redirect(Box::new(redirect(given).within("redirect")?)),
    };
    let request = edits(from.request_headers).within("request_headers")?;
    let response = edits(from.response_headers).within("response_headers")?;
    let own = from.rewrite.map(|given| self::rewrite(given).within("rewrite")).transpose()?;
    let mut weighted = Weighted::new(to);
    if own.is_some() || request.authority.is_some() {
        let (own, of_route) = (own.unwrap_or_default(), of_route.cloned().unwrap_or_default());
        let authority = of_route.authority.or(own.authority).or(request.authority);
        weighted.rewrite = Some(Box::new(Rewrite { path: own.path.or(of_route.path), authority }));
    }
    weighted.request_headers = request.headers;
    weighted.response_headers = response.headers;
    Ok((from.weight, weighted))
}

fn rewrite(from: wire::Rewrite) -> Result<Rewrite, DecodeError> {
    use wire::rewrite::Path;
    let matched: Box<str> = if from.matched_prefix.is_empty() { "/".into() } else { from.matched_prefix.into() };
    let path = match from.path {
        None => None,
        Some(Path::Prefix(to)) => Some(PathRewrite::Prefix { matched, to: to.into() }),
        Some(Path::ElementPrefix(to)) => Some(PathRewrite::Elements { matched, to: to.into() }),
        Some(Path::Full(to)) => Some(PathRewrite::Full(to.into())),
        Some(Path::Regex(given)) => {
            let regex = RegexRewrite::new(&given.pattern, &given.substitution);
            Some(PathRewrite::Regex(Box::new(regex.map_err(|error| DecodeError::new("regex", error))?)))
        }
    };
    let authority = (!from.authority.is_empty()).then(|| header_value("authority", &from.authority)).transpose()?;
    Ok(Rewrite { path, authority })
}

fn redirect(from: wire::Redirect) -> Result<Redirect, DecodeError> {
    use wire::redirect::{Path, PortSource};
    let code = status("status", from.status)?;
    if !matches!(code.as_u16(), 301 | 302 | 303 | 307 | 308) {
        let expected = "301, 302, 303, 307 or 308";
        return Err(DecodeError::new("status", Wrong::Number { given: from.status.into(), expected }));
    }
    if !matches!(from.scheme.as_str(), "" | "http" | "https") {
        return Err(bad_text("scheme", &from.scheme, "http or https"));
    }
    let source: PortSource = known("port_source", from.port_source)?;
    let matched: Box<str> = if from.matched_prefix.is_empty() { "/".into() } else { from.matched_prefix.into() };
    Ok(Redirect {
        status: code,
        scheme: some_text(&from.scheme),
        authority: some_text(&from.authority),
        port: match (from.port, source) {
            (0, PortSource::Keep) => RedirectPort::Keep,
            (0, PortSource::ProtocolDefault) => RedirectPort::OfScheme,
            (0, PortSource::Listener) => RedirectPort::OfListener,
            (given, _) => RedirectPort::Exactly(port("port", given)?),
        },
        path: from.path.map(|path| match path {
            Path::Full(to) => PathRewrite::Full(to.into()),
            Path::Prefix(to) => PathRewrite::Prefix { matched, to: to.into() },
            Path::ElementPrefix(to) => PathRewrite::Elements { matched, to: to.into() },
        }),
    })
}

fn direct(from: wire::DirectResponse) -> Result<DirectResponse, DecodeError> {
    Ok(DirectResponse { status: status("status", from.status)?, body: from.body.into() })
}

fn retry(from: wire::Retry) -> Result<Retry, DecodeError> {
    let on = from.on.unwrap_or_default();
    let code = |code: u32| status("", code).map(|status| status.as_u16());
    Ok(Retry {
        attempts: from.attempts,
        per_try_timeout: time("per_try_timeout", from.per_try_timeout)?.filter(|timeout| !timeout.is_zero()),
        on: RetryOn {
            server_error: on.server_error,
            gateway_error: on.gateway_error,
            reset: on.reset,
            reset_before_request: on.reset_before_request,
            connect_failure: on.connect_failure,
            retriable_4xx: on.retriable_4xx,
            refused_stream: on.refused_stream,
            status_codes: on.status_codes,
            headers: on.headers,
            rate_limited: on.rate_limited,
        },
        status_codes: each("status_codes", from.status_codes, code)?.into(),
        response_headers: each("response_headers", from.response_headers, |name| header_name("", &name))?.into(),
        grpc: on.grpc.into(),
        backoff: time("backoff", from.backoff)?.unwrap_or(BACKOFF),
        avoid_previous: from.avoid_previous,
        other_localities: from.other_localities,
    })
}

/// What holds for a port without routes, as the reference has it.
pub(super) fn default_retry() -> Retry {
    Retry {
        attempts: 2,
        per_try_timeout: None,
        on: RetryOn { connect_failure: true, refused_stream: true, ..RetryOn::default() },
        status_codes: Box::default(),
        response_headers: Box::default(),
        grpc: Box::new([grpc::CANCELLED, grpc::UNAVAILABLE]),
        backoff: BACKOFF,
        avoid_previous: true,
        other_localities: false,
    }
}

fn mirror(from: wire::Mirror) -> Result<Mirror, DecodeError> {
    let to = Arc::new(required_upstream("to", from.to)?);
    Ok(Mirror { to, share: Share { what: (), per_million: share("per_million", from.per_million)? } })
}

/// Of a million.
fn share(field: &str, given: u32) -> Result<u32, DecodeError> {
    let expected = "at most 1000000 (of a million)";
    match given <= MILLION {
        true => Ok(given),
        false => Err(DecodeError::new(field, Wrong::Number { given: given.into(), expected })),
    }
}

fn session(from: wire::SessionPersistence) -> Result<Session, DecodeError> {
    use wire::session_persistence::By;
    let carrier = match required("by", from.by)? {
        By::Cookie(name) if name.is_empty() => return Err(bad_text("cookie", "", "the name of a cookie")),
        By::Cookie(name) => {
            Carrier::Cookie { name: name.into(), path: from.path.into(), says_lifetime: !from.session_cookie }
        }
        By::Header(name) => Carrier::Header(header_name("header", &name)?),
    };
    Ok(Session { carrier, lifetime: time("lifetime", from.lifetime)?, key: from.key.into() })
}

fn cors(from: wire::Cors) -> Result<Cors, DecodeError> {
    let list = |field: &str, list: Vec<String>| match list.is_empty() {
        true => Ok(None),
        false => header_value(field, &list.join(",")).map(Some),
    };
    let max_age = time("max_age", from.max_age)?;
    Ok(Cors {
        origins: each("allow_origins", from.allow_origins, matches::text)?.into(),
        any_origin: from.any_origin,
        methods: list("allow_methods", from.allow_methods)?,
        headers: list("allow_headers", from.allow_headers)?,
        exposed: list("expose_headers", from.expose_headers)?,
        max_age: max_age.map(|age: Duration| HeaderValue::from(age.as_secs())),
        credentials: from.allow_credentials,
        answers_unmatched_preflights: from.answer_unmatched_preflights,
    })
}

fn fault(from: wire::Fault) -> Result<Fault, DecodeError> {
    use wire::fault::abort::Status;
    let delay = |given: wire::fault::Delay| {
        let what = required("fixed", time("fixed", given.fixed)?)?;
        Ok(Share { what, per_million: share("per_million", given.per_million)? })
    };
    let abort = |given: wire::fault::Abort| {
        let what = match required("status", given.status)? {
            Status::Http(code) => Abort::Http(status("http", code)?),
            Status::Grpc(code) => Abort::Grpc(code),
        };
        Ok(Share { what, per_million: share("per_million", given.per_million)? })
    };
    Ok(Fault {
        delay: from.delay.map(|given| delay(given).within("delay")).transpose()?,
        abort: from.abort.map(|given| abort(given).within("abort")).transpose()?,
    })
}
