//! Routes of VirtualServices as proxies take them: one match each, in order, with every default filled in.
//!
//! ```text
//! virtual services of a host ─► choose ─► delegate (one level) ─► one route for each match ─► what lies behind
//!                                                                 a catch-all is cut off
//! ```
//! In: the services, where they are asked at, a [`Look`] at what they name. Out: routes, and problems in words.
//! What is named and missing is answered with 503; nothing is sent elsewhere instead.

mod action;
mod cors;
mod delegate;
mod headers;
mod layer4;
mod matching;
mod place;
mod retry;
#[cfg(test)]
mod tests;

use lateen_cluster::{
    api::{HttpMatch, HttpRoute, VirtualServiceSpec},
    store::Key,
};
use lateen_wire::proxy as wire;

pub use self::layer4::{tcp, tls};
pub use self::retry::usual as usual_retry;
use super::{
    Mesh,
    backend::{Backend, ServiceName},
    host_matches, patterns,
};
use crate::facts::VirtualService;

/// What routes name.
pub trait Look {
    /// The service of this full name, as the proxy sees it.
    fn service(&self, hostname: &str) -> Option<Backend>;
    /// Whether proxies find this subset of it.
    fn has_subset(&self, service: &ServiceName, subset: &str) -> bool;
    /// A virtual service others delegate to.
    fn delegate(&self, key: &Key) -> Option<&VirtualService>;
}

/// Where routes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At<'a> {
    /// At a waypoint.
    Mesh,
    /// At this gateway, `namespace/name`.
    Gateway(&'a str),
}

/// Who asks, for which port.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// What holds for the whole mesh.
    pub mesh: &'a Mesh,
    /// The proxy's namespace.
    pub namespace: &'a str,
    /// Where.
    pub at: At<'a>,
    /// The port that was called.
    pub port: u16,
    /// What routes name.
    pub look: &'a dyn Look,
}

/// Of services that name `hostname` those that count: of the most specific host, the oldest first.
pub fn choose<'a>(
    mesh: &Mesh,
    hostname: &str,
    candidates: impl IntoIterator<Item = (&'a Key, &'a VirtualService)>,
) -> Vec<(&'a Key, &'a VirtualService)> {
    let best = |key: &Key, service: &VirtualService| {
        let hosts = service.spec.hosts.iter().map(|host| mesh.fqdn(host, &key.namespace));
        hosts.filter(|host| host_matches(host, hostname)).map(|host| (!host.starts_with('*'), host.len())).max()
    };
    let mut named: Vec<_> = candidates
        .into_iter()
        .filter_map(|(key, service)| best(key, service).map(|specific| (specific, key, service)))
        .collect();
    let most = named.iter().map(|(specific, ..)| *specific).max();
    named.retain(|(specific, ..)| Some(*specific) == most);
    named.sort_by(|(_, one, first), (_, other, second)| (&first.age, *one).cmp(&(&second.age, *other)));
    named.into_iter().map(|(_, key, service)| (key, service)).collect()
}

/// Whether a virtual service is for the mesh, or for this gateway.
pub fn is_for(at: At<'_>, key: &Key, spec: &VirtualServiceSpec) -> bool {
    names(at, key, &spec.gateways).unwrap_or(at == At::Mesh)
}

/// Whether a list of gateways names the place; nothing is said by an empty one.
fn names(at: At<'_>, key: &Key, gateways: &[String]) -> Option<bool> {
    let one = |written: &String| match at {
        At::Mesh => written == "mesh",
        At::Gateway(name) if written.contains('/') => written == name,
        At::Gateway(name) => name.split_once('/') == Some((&key.namespace, written)),
    };
    (!gateways.is_empty()).then(|| gateways.iter().any(one))
}

/// The routes of requests, and what of them cannot work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Made<R> {
    /// In order.
    pub routes: Vec<R>,
    /// For the author.
    pub problems: Vec<String>,
}

/// The routes for requests of one virtual service.
pub fn http(asker: Asker<'_>, key: &Key, service: &VirtualService) -> Made<wire::HttpRoute> {
    let mut made = Made { routes: Vec::new(), problems: Vec::new() };
    let routes = delegate::expand(asker, (key, service), &mut made.problems);
    for delegate::Part { owner, field, route } in &routes {
        let context = Context { asker, owner, field };
        for one in expand(&route.matches) {
            let Some(is_all) = one.map_or(Some(true), |one| matching::applies(asker, key, one)) else { continue };
            let route = wire_route(&context, route, one, &mut made.problems);
            if let Err(why) = patterns::check(&route) {
                made.problems.push(format!("{field}: {why}; the route is left out"));
                continue;
            }
            made.routes.push(route);
            if is_all {
                return made;
            }
        }
    }
    made
}

/// What a route's parts are read in.
struct Context<'a> {
    asker: Asker<'a>,
    /// The object it stands in, whose namespace short names are of.
    owner: &'a Key,
    /// Where it stands there.
    field: &'a str,
}

/// Each match alone; a route without any matches everything.
fn expand(matches: &[HttpMatch]) -> impl Iterator<Item = Option<&HttpMatch>> {
    let everything = matches.is_empty().then_some(None);
    matches.iter().map(Some).chain(everything)
}

fn wire_route(
    context: &Context<'_>,
    route: &HttpRoute,
    one: Option<&HttpMatch>,
    problems: &mut Vec<String>,
) -> wire::HttpRoute {
    let matched = one.map(|one| one.name.as_str()).filter(|name| !name.is_empty());
    let edits = headers::of(route.headers.as_ref());
    wire::HttpRoute {
        name: matched.map_or_else(|| route.name.clone(), |name| format!("{}.{name}", route.name)),
        r#match: one.and_then(matching::derive),
        action: Some(action::derive(context, route, one, problems)),
        request_headers: edits.request,
        response_headers: edits.response,
        cors: route.cors_policy.as_ref().map(cors::derive),
        fault: route.fault.as_ref().and_then(action::fault),
    }
}
