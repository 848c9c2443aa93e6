//! What becomes of the requests of a route.

use base64::Engine as _;
use lateen_cluster::api::{
    Delay, DirectResponse, Fault, GRPC_STATUSES, HttpMatch, HttpRoute, HttpTarget, Percent, Redirect, Rewrite,
};
use lateen_wire::proxy::{self as wire, fault, http_route::Action, redirect, redirect::PortSource, rewrite};

use super::{Context, headers, place, retry};
use crate::derive::destination::on_wire;

/// What is answered where nothing is said that can be done.
const NO_DESTINATION: u32 = 503;
const REDIRECTS: [u32; 5] = [301, 302, 303, 307, 308];

pub(super) fn derive(
    context: &Context<'_>,
    route: &HttpRoute,
    one: Option<&HttpMatch>,
    problems: &mut Vec<String>,
) -> Action {
    if let Some(written) = &route.redirect {
        return redirect(context, (written, one), problems);
    }
    if let Some(written) = &route.direct_response {
        return Action::Direct(direct(written));
    }
    let mut asked = rewrite(context, (route.rewrite.as_ref(), one), problems).unwrap_or_default();
    if asked.authority.is_empty() {
        asked.authority = headers::authority(route.headers.as_ref()).unwrap_or_default();
    }
    let shares = place::shares(&route.route, |target| target.weight);
    let destinations = shares.into_iter().map(|share| target(context, share, &asked, problems)).collect();
    Action::Forward(wire::Forward {
        destinations,
        timeout: route.timeout.filter(|length| !length.0.is_zero()).map(|length| on_wire(length.0)),
        retry: retry::derive(route.retries.as_ref()),
        mirrors: mirrors(context, route, problems),
        session: None,
        empty_status: NO_DESTINATION,
        rewrite: Some(asked).filter(|asked| *asked != wire::Rewrite::default()),
    })
}

/// The host that the route says counts before the destination's own.
fn target(
    context: &Context<'_>,
    (written, weight): (&HttpTarget, u32),
    of_route: &wire::Rewrite,
    problems: &mut Vec<String>,
) -> wire::Weighted {
    let edits = headers::of(written.headers.as_ref());
    let own = headers::authority(written.headers.as_ref()).filter(|_| of_route.authority.is_empty());
    wire::Weighted {
        request_headers: edits.request,
        response_headers: edits.response,
        rewrite: own.map(|authority| wire::Rewrite { authority, ..of_route.clone() }),
        ..place::weighted(context, (&written.destination, weight), problems)
    }
}

/// The prefix a match names; one that says nothing of the path names all of it.
fn prefix_of(one: Option<&HttpMatch>) -> Option<&str> {
    match one.and_then(|one| one.uri.as_ref()) {
        None => Some("/"),
        Some(uri) => uri.prefix.as_deref(),
    }
}

fn rewrite(
    context: &Context<'_>,
    (written, one): (Option<&Rewrite>, Option<&HttpMatch>),
    problems: &mut Vec<String>,
) -> Option<wire::Rewrite> {
    let written = written?;
    let mut made = wire::Rewrite { authority: written.authority.clone(), ..wire::Rewrite::default() };
    let is_exact = one.and_then(|one| one.uri.as_ref()).is_some_and(|uri| uri.exact.is_some());
    match (&written.uri_regex_rewrite, &written.uri, prefix_of(one)) {
        (Some(regex), ..) => {
            made.path = Some(rewrite::Path::Regex(wire::RegexRewrite {
                pattern: regex.pattern.clone(),
                substitution: regex.rewrite.clone(),
            }));
        }
        (None, Some(uri), _) if is_exact => made.path = Some(rewrite::Path::Full(uri.clone())),
        (None, Some(uri), Some(prefix)) => {
            made.path = Some(rewrite::Path::Prefix(uri.clone()));
            made.matched_prefix = prefix.to_owned();
        }
        (None, Some(_), None) => problems.push(format!(
            "{}.rewrite.uri: a path that was matched by a pattern has no prefix to replace; use uriRegexRewrite",
            context.field
        )),
        (None, None, _) => {}
    }
    Some(made)
}

fn redirect(
    context: &Context<'_>,
    (written, one): (&Redirect, Option<&HttpMatch>),
    problems: &mut Vec<String>,
) -> Action {
    let status = written.redirect_code.filter(|code| *code != 0).unwrap_or(REDIRECTS[0]);
    if !REDIRECTS.contains(&status) {
        problems
            .push(format!("{}.redirect.redirectCode: {status} is not done; use one of {REDIRECTS:?}", context.field));
        return Action::Direct(wire::DirectResponse { status: NO_DESTINATION, body: Vec::new() });
    }
    let prefix = prefix_of(one).unwrap_or_default();
    let path = match &written.prefix_rewrite {
        Some(prefix) => Some(redirect::Path::Prefix(prefix.clone())),
        None => Some(written.uri.clone()).filter(|uri| !uri.is_empty()).map(redirect::Path::Full),
    };
    let port_source = match written.derive_port.as_deref() {
        Some("FROM_REQUEST_PORT") => PortSource::Listener,
        Some("FROM_PROTOCOL_DEFAULT") => PortSource::ProtocolDefault,
        Some(_) | None => PortSource::Keep,
    };
    Action::Redirect(wire::Redirect {
        status,
        scheme: written.scheme.clone(),
        authority: written.authority.clone(),
        port: written.port.unwrap_or_default(),
        port_source: port_source.into(),
        matched_prefix: if written.prefix_rewrite.is_some() { prefix.to_owned() } else { String::new() },
        path,
    })
}

fn direct(written: &DirectResponse) -> wire::DirectResponse {
    let body = written.body.as_ref().map(|body| match (&body.string, &body.bytes) {
        (Some(text), _) => text.clone().into_bytes(),
        // Admission refuses what is no base64.
        (None, Some(text)) => base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default(),
        (None, None) => Vec::new(),
    });
    wire::DirectResponse { status: written.status, body: body.unwrap_or_default() }
}

/// Whoever says nothing of the share means all.
fn mirrors(context: &Context<'_>, route: &HttpRoute, problems: &mut Vec<String>) -> Vec<wire::Mirror> {
    const ALL: u32 = 1_000_000;
    let older = route.mirror_percent.map(|percent| percent.min(100) * (ALL / 100));
    let share = route.mirror_percentage.as_ref().map(per_million).or(older).unwrap_or(ALL);
    let first = route.mirror.iter().map(|to| (to, share));
    let others = route.mirrors.iter().map(|one| (&one.destination, one.percentage.as_ref().map_or(ALL, per_million)));
    let mut made = Vec::new();
    for (to, per_million) in first.chain(others).filter(|(_, share)| *share > 0) {
        match place::upstream(context, to) {
            Ok(to) => made.push(wire::Mirror { to: Some(to), per_million }),
            Err(problem) => problems.push(format!("{problem}; nothing is mirrored there")),
        }
    }
    made
}

/// None of a hundredth of a percent is rounded up.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits before")]
fn per_million(percent: &Percent) -> u32 {
    (percent.value.clamp(0.0, 100.0) * 10_000.0) as u32
}

/// Whoever says nothing of the share means none.
pub(super) fn fault(written: &Fault) -> Option<wire::Fault> {
    let delay = written.delay.as_ref().and_then(|delay| {
        let made = fault::Delay { fixed: Some(on_wire(delay.fixed_delay?.0)), per_million: delay_share(delay) };
        Some(made).filter(|made| made.per_million > 0)
    });
    let abort = written.abort.as_ref().and_then(|abort| {
        let status = match (&abort.grpc_status, abort.http_status) {
            (Some(word), _) => fault::abort::Status::Grpc(grpc(word)?),
            (None, status) => fault::abort::Status::Http(status?),
        };
        let per_million = abort.percentage.as_ref().map_or(0, per_million);
        Some(fault::Abort { status: Some(status), per_million }).filter(|made| made.per_million > 0)
    });
    (delay.is_some() || abort.is_some()).then_some(wire::Fault { delay, abort })
}

fn delay_share(delay: &Delay) -> u32 {
    let older = delay.percent.map(|percent| percent.min(100) * 10_000);
    delay.percentage.as_ref().map(per_million).or(older).unwrap_or_default()
}

fn grpc(word: &str) -> Option<u32> {
    GRPC_STATUSES.iter().position(|known| *known == word).and_then(|place| u32::try_from(place).ok())
}
