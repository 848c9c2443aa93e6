//! Routes of the Gateway API as proxies take them: sorted by what they match, of all routes of one place together.
//!
//! In: the routes attached to a service or a listener, a [`Look`] at what they name. Out: routes, and what their authors
//! are told. A filter that is not known fails its route as a whole; a backend that is not there, or may not be named,
//! keeps its share, which is answered with 500.

mod backends;
mod filters;
mod matching;
mod session;

use lateen_cluster::{api::RouteRule, store::Key};
use lateen_wire::proxy as wire;

use self::matching::Rank;
use super::{backend::Backend, destination::on_wire, patterns, route::usual_retry};
use crate::facts::{Age, Route, RouteKind};

/// What routes name.
pub trait Look {
    /// A Kubernetes service.
    fn service(&self, key: &Key) -> Option<Backend>;
    /// The service of this full name, as the proxy sees it.
    fn host(&self, hostname: &str) -> Option<Backend>;
    /// The name under which the proxy is sent what seals sessions; or why there is none.
    fn session_key(&self) -> (String, Option<Problem>);
    /// Whether a grant in the namespace of `to` lets routes of `kind` in `namespace` name it: group, kind and place.
    fn lets(&self, from: (RouteKind, &str), to: (&str, &str, &Key)) -> bool;
}

/// Something that is wrong: a word for programs, and one for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// One word.
    pub reason: &'static str,
    /// Sentences.
    pub message: String,
}

/// What a route becomes.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// For requests.
    pub http: Vec<Ranked>,
    /// For connections.
    pub tcp: Vec<wire::TcpRoute>,
    /// What is named and is not there, or may not be named.
    pub unresolved: Vec<Problem>,
}

/// A route for requests with its place among others.
#[derive(Debug, Clone)]
pub struct Ranked {
    rank: Rank,
    age: Age,
    owner: Key,
    place: usize,
    /// It.
    pub route: wire::HttpRoute,
}

/// The routes of one place in the order in which they are tried.
pub fn sorted(mut all: Vec<Ranked>) -> Vec<wire::HttpRoute> {
    all.sort_by(|one, other| {
        let ties = (&one.age, &one.owner, one.place).cmp(&(&other.age, &other.owner, other.place));
        other.rank.cmp(&one.rank).then(ties)
    });
    all.into_iter().map(|ranked| ranked.route).collect()
}

/// What becomes of a route; or why none of it is accepted.
pub fn derive(look: &dyn Look, key: &Key, route: &Route) -> Result<Made, Problem> {
    let mut made = Made::default();
    for (at, rule) in route.spec.rules.iter().enumerate() {
        let context = Context { look, key, kind: route.kind, field: format!("spec.rules[{at}]") };
        if route.kind.is_of_requests() {
            requests(&context, (at, rule), route, &mut made)?;
        } else {
            made.tcp.push(connections(&context, (rule, route), &mut made.unresolved));
        }
    }
    Ok(made)
}

/// What a rule's parts are read in.
struct Context<'a> {
    look: &'a dyn Look,
    key: &'a Key,
    kind: RouteKind,
    field: String,
}

impl Context<'_> {
    fn problem(&self, reason: &'static str, what: &str) -> Problem {
        Problem { reason, message: format!("{}{what}", self.field) }
    }
}

fn requests(
    context: &Context<'_>,
    (at, rule): (usize, &RouteRule),
    route: &Route,
    made: &mut Made,
) -> Result<(), Problem> {
    let filters = filters::derive(context, &rule.filters, &mut made.unresolved)?;
    let backends = backends::derive(context, &rule.backend_refs, &mut made.unresolved)?;
    let name = match rule.name.as_str() {
        "" => format!("{}.{}.{at}", context.key.namespace, context.key.name),
        name => name.to_owned(),
    };
    let session = session_of(context, rule, (at, &mut made.unresolved))?;
    let everything = lateen_cluster::api::RouteMatch::default();
    let matches = if rule.matches.is_empty() { std::slice::from_ref(&everything) } else { &rule.matches };
    for one in matches {
        let matched = matching::derive(context, one)?;
        let (request_headers, response_headers, cors) =
            (filters.request.clone(), filters.response.clone(), filters.cors.clone());
        let action = match filters.redirect.as_ref() {
            Some(redirect) => wire::http_route::Action::Redirect(filters::redirect(redirect, &matched.prefix)),
            None => {
                let destinations = backends.iter().map(|one| one.weighted(&matched.prefix)).collect();
                let rewrite = filters.rewrite.as_ref().map(|rewrite| filters::rewrite(rewrite, &matched.prefix));
                wire::http_route::Action::Forward(wire::Forward {
                    destinations,
                    rewrite,
                    mirrors: filters.mirrors.clone(),
                    empty_status: backends::INVALID,
                    session: session.clone(),
                    ..timing(rule)
                })
            }
        };
        let one = wire::HttpRoute {
            name: name.clone(),
            r#match: matched.wire,
            action: Some(action),
            request_headers,
            response_headers,
            cors,
            fault: None,
        };
        patterns::check(&one).map_err(|why| context.problem("UnsupportedValue", &format!(": {why}")))?;
        made.http.push(Ranked {
            rank: matched.rank,
            age: route.age.clone(),
            owner: context.key.clone(),
            place: made.http.len(),
            route: one,
        });
    }
    Ok(())
}

/// Whether clients stay with their endpoints. While there is nothing to seal their sessions with, requests are refused,
/// and the author is told.
fn session_of(
    context: &Context<'_>,
    rule: &RouteRule,
    (at, unresolved): (usize, &mut Vec<Problem>),
) -> Result<Option<wire::SessionPersistence>, Problem> {
    let Some(written) = &rule.session_persistence else { return Ok(None) };
    let (key, problem) = context.look.session_key();
    unresolved.extend(problem);
    let place = format!("{}/{}/{at}", context.kind.as_str(), context.key);
    session::derive(context, written, (key, &place)).map(Some)
}

/// A backend's own time is that of each try where there are others, else of the request.
fn timing(rule: &RouteRule) -> wire::Forward {
    let written = rule.timeouts.as_ref();
    let some = |length: Option<lateen_cluster::api::Duration>| length.filter(|length| !length.0.is_zero());
    let (request, backend) =
        (written.and_then(|timeouts| timeouts.request), written.and_then(|timeouts| timeouts.backend_request));
    let mut forward = wire::Forward { retry: Some(usual_retry()), ..wire::Forward::default() };
    forward.timeout = some(request).map(|length| on_wire(length.0));
    match &rule.retry {
        None if backend.is_some() => forward.timeout = some(backend).map(|length| on_wire(length.0)),
        None => {}
        Some(retry) => {
            let mut made = usual_retry();
            made.attempts = retry.attempts.unwrap_or(made.attempts);
            made.status_codes.clone_from(&retry.codes);
            made.per_try_timeout = some(backend).map(|length| on_wire(length.0));
            made.backoff = some(retry.backoff).map(|length| on_wire(length.0));
            if let Some(on) = &mut made.on {
                on.reset = true;
            }
            forward.retry = Some(made).filter(|made| made.attempts > 0);
        }
    }
    forward
}

fn connections(
    context: &Context<'_>,
    (rule, route): (&RouteRule, &Route),
    unresolved: &mut Vec<Problem>,
) -> wire::TcpRoute {
    let names = if route.kind == RouteKind::Tls { route.spec.hostnames.as_slice() } else { &[] };
    let backends = rule.backend_refs.iter().filter(|backend| backend.weight != Some(0));
    wire::TcpRoute {
        name: rule.name.clone(),
        server_names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        destination_subnets: Vec::new(),
        destinations: backends.map(|backend| backends::plain(context, backend, unresolved)).collect(),
    }
}
