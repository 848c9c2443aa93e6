//! Routes that another virtual service decides: one level, its matches within those of the route that includes it.

use std::collections::BTreeMap;

use lateen_cluster::{
    api::{HttpMatch, HttpRoute, StringMatch},
    store::Key,
};

use super::{Asker, expand as each};
use crate::facts::VirtualService;

/// A route with where it stands.
pub(super) struct Part {
    pub(super) owner: Key,
    pub(super) field: String,
    pub(super) route: HttpRoute,
}

/// The routes of a service, with those of its delegates in the place of what includes them.
pub(super) fn expand(
    asker: Asker<'_>,
    (key, service): (&Key, &VirtualService),
    problems: &mut Vec<String>,
) -> Vec<Part> {
    let mut all = Vec::new();
    for (at, route) in service.spec.http.iter().enumerate() {
        let field = format!("spec.http[{at}]");
        let Some(delegate) = &route.delegate else {
            all.push(Part { owner: key.clone(), field, route: route.clone() });
            continue;
        };
        let namespace = if delegate.namespace.is_empty() { &*key.namespace } else { delegate.namespace.as_str() };
        let to = Key::new(namespace, &delegate.name);
        match asker.look.delegate(&to).filter(|found| found.spec.hosts.is_empty()) {
            None => problems.push(format!("{field}.delegate: there is no VirtualService {to} without hosts")),
            Some(found) if !asker.mesh.shown.route(&to, found).by(&key.namespace) => {
                problems.push(format!("{field}.delegate: {to} is not exported to {}", key.namespace));
            }
            Some(found) => all.extend(included(route, (&to, found))),
        }
    }
    all
}

fn included(root: &HttpRoute, (key, delegate): (&Key, &VirtualService)) -> Vec<Part> {
    let parts = delegate.spec.http.iter().enumerate().filter(|(_, route)| route.delegate.is_none());
    let parts = parts.filter_map(|(at, route)| {
        let matches = merge_all(&root.matches, &route.matches)?;
        let field = format!("{key} spec.http[{at}]");
        Some(Part { owner: key.clone(), field, route: HttpRoute { matches, ..inherit(root, route) } })
    });
    parts.collect()
}

/// What the delegate's route does; what it does not say is the root's.
fn inherit(root: &HttpRoute, own: &HttpRoute) -> HttpRoute {
    let mut made = own.clone();
    made.name = joined(&root.name, &own.name);
    made.rewrite = made.rewrite.or_else(|| root.rewrite.clone());
    made.direct_response = made.direct_response.or_else(|| root.direct_response.clone());
    made.timeout = made.timeout.or(root.timeout);
    made.retries = made.retries.or_else(|| root.retries.clone());
    made.fault = made.fault.or_else(|| root.fault.clone());
    made.mirror = made.mirror.or_else(|| root.mirror.clone());
    made.mirror_percent = made.mirror_percent.or(root.mirror_percent);
    made.mirror_percentage = made.mirror_percentage.or_else(|| root.mirror_percentage.clone());
    if made.mirrors.is_empty() {
        made.mirrors.clone_from(&root.mirrors);
    }
    made.cors_policy = made.cors_policy.or_else(|| root.cors_policy.clone());
    made.headers = made.headers.or_else(|| root.headers.clone());
    made
}

fn joined(root: &str, own: &str) -> String {
    match (root.is_empty(), own.is_empty()) {
        (true, _) => own.to_owned(),
        (_, true) => root.to_owned(),
        (false, false) => format!("{root}-{own}"),
    }
}

/// Both at once, of every pair that does not contradict itself; `None` where every pair does.
fn merge_all(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    let mut all = Vec::new();
    for one in each(own) {
        for of_root in each(root) {
            match (of_root, one) {
                (None, None) => return Some(Vec::new()),
                (Some(only), None) | (None, Some(only)) => all.push(only.clone()),
                (Some(of_root), Some(own)) => all.extend(merge(of_root, own)),
            }
        }
    }
    (!all.is_empty()).then_some(all)
}

fn merge(root: &HttpMatch, own: &HttpMatch) -> Option<HttpMatch> {
    if root.ignore_uri_case != own.ignore_uri_case && root.uri.is_some() && own.uri.is_some() {
        return None;
    }
    let within = |gateway: &String| root.gateways.is_empty() || root.gateways.contains(gateway);
    if !own.gateways.iter().all(within) {
        return None;
    }
    Some(HttpMatch {
        name: joined(&root.name, &own.name),
        uri: text(root.uri.as_ref(), own.uri.as_ref())?,
        scheme: text(root.scheme.as_ref(), own.scheme.as_ref())?,
        method: text(root.method.as_ref(), own.method.as_ref())?,
        authority: text(root.authority.as_ref(), own.authority.as_ref())?,
        headers: map(&root.headers, &own.headers),
        without_headers: map(&root.without_headers, &own.without_headers),
        query_params: map(&root.query_params, &own.query_params),
        port: same(root.port, own.port)?,
        source_labels: map(&root.source_labels, &own.source_labels),
        source_namespace: same(non_empty(&root.source_namespace), non_empty(&own.source_namespace))?
            .unwrap_or_default(),
        gateways: if own.gateways.is_empty() { root.gateways.clone() } else { own.gateways.clone() },
        ignore_uri_case: root.ignore_uri_case || own.ignore_uri_case,
        stat_prefix: if own.stat_prefix.is_empty() { root.stat_prefix.clone() } else { own.stat_prefix.clone() },
    })
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// `None` where both say something and differ.
fn same<T: PartialEq>(root: Option<T>, own: Option<T>) -> Option<Option<T>> {
    match (root, own) {
        (Some(root), Some(own)) => (root == own).then_some(Some(own)),
        (root, own) => Some(own.or(root)),
    }
}

/// The narrower of both; `None` where neither lies within the other, or that cannot be seen.
fn text(root: Option<&StringMatch>, own: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    let (Some(root), Some(own)) = (root, own) else { return Some(own.or(root).cloned()) };
    let fits = match (root, own) {
        (StringMatch { regex: Some(_), .. }, _) | (_, StringMatch { regex: Some(_), .. }) => false,
        (StringMatch { exact: Some(root), .. }, own) => own.exact.as_ref() == Some(root),
        (StringMatch { prefix: Some(root), .. }, own) => {
            own.exact.as_ref().or(own.prefix.as_ref()).is_some_and(|own| own.starts_with(root.as_str()))
        }
        _ => true,
    };
    fits.then(|| Some(own.clone()))
}

fn map<V: Clone>(root: &BTreeMap<String, V>, own: &BTreeMap<String, V>) -> BTreeMap<String, V> {
    let mut both = root.clone();
    both.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
    both
}
