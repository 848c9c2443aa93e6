//! Which route a request takes: the first of a list whose match holds, found without asking the whole list.
//!
//! ```text
//!           exact path? ── hash ──┐
//! path ──►  prefix? ────── trie ──┼─► numbers of routes ─► their other conditions ─► the smallest number that holds
//!           regex? ── regex set ──┘
//! ```
//! In: routes with their matches, in order; one request's [`View`]. Out: a route. Absent on purpose: normalising paths,
//! carrying the route out.

mod condition;
mod hosts;
mod paths;
pub mod regexes;
#[cfg(test)]
mod tests;
mod text;
mod trie;

use std::sync::Arc;

use self::paths::Paths;
pub(crate) use self::{condition::query_value, hosts::without_port};
pub use self::{
    condition::{Condition, HeaderMatch, Part, QueryMatch},
    hosts::{HostMap, HostPattern},
    paths::PathMatch,
    text::{Comparison, StringMatch},
};
use crate::book::HttpRoute;

/// What of a request routes look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The method.
    pub method: &'a str,
    /// The normalised path, without the query.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// The host, with its port if there is one.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The headers.
    pub headers: &'a http::HeaderMap,
}

/// When a route is taken: all of it must hold.
#[derive(Debug, Default)]
pub struct HttpMatch {
    /// Of the path; `None`: any.
    pub path: Option<PathMatch>,
    /// Of everything else.
    pub conditions: Vec<Condition>,
}

/// Routes in order, indexed by their paths.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Box<[Entry]>,
    paths: Paths,
}

#[derive(Debug)]
struct Entry {
    /// All must hold, beside the path.
    conditions: Box<[Condition]>,
    route: Arc<HttpRoute>,
}

impl RouteTable {
    /// Routes in the order in which they are tried.
    pub fn new(routes: Vec<(HttpMatch, Arc<HttpRoute>)>) -> Result<Self, regexes::PatternError> {
        let mut entries = Vec::with_capacity(routes.len());
        let mut matches = Vec::with_capacity(routes.len());
        for (matched, route) in routes {
            matches.push(matched.path);
            entries.push(Entry { conditions: matched.conditions.into(), route });
        }
        Ok(Self { routes: entries.into(), paths: Paths::new(&matches)? })
    }

    /// The first route whose match holds; `None`: answer with 404, flag NR.
    pub fn select(&self, view: &View<'_>) -> Option<&Arc<HttpRoute>> {
        let holds = |number: u32| self.holds(number, view);
        let number = self.paths.first(view.path, holds)?;
        Some(&self.routes[number as usize].route)
    }

    /// All routes, in order.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &Arc<HttpRoute>> {
        self.routes.iter().map(|entry| &entry.route)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    fn holds(&self, number: u32, view: &View<'_>) -> bool {
        self.routes[number as usize].conditions.iter().all(|condition| condition.holds(view))
    }
}
