//! What is done with a request: forwarded, redirected or answered, with everything that is done on the way.
//!
//! In: what `compile` made of a resource. Out: plain values. Absent on purpose: matching (see `crate::route`), doing it
//! (see `crate::filter`, `crate::balance`, `crate::retry`).

use std::{sync::Arc, time::Duration};

use super::cluster::Upstream;
use crate::{
    filter::{
        cors::Cors, direct::DirectResponse, fault::Fault, headers::HeaderEdits, mirror::Mirror, redirect::Redirect,
        rewrite::Rewrite, session::Session,
    },
    retry::Retry,
};

/// One route. What is seldom there is boxed: thousands of routes are little more than their names and destinations.
#[derive(Debug)]
pub struct HttpRoute {
    /// What the access log calls it.
    pub name: Arc<str>,
    /// What to do.
    pub action: Action,
    /// Edits of the request, before those of the destination.
    pub request_headers: Option<Box<HeaderEdits>>,
    /// Edits of every answer, ours included, before those of the destination.
    pub response_headers: Option<Box<HeaderEdits>>,
    /// Who may call from other origins.
    pub cors: Option<Box<Cors>>,
    /// What goes wrong on purpose.
    pub fault: Option<Box<Fault>>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Action {
    /// Send it to an endpoint.
    Forward(Box<Forward>),
    /// Send the client elsewhere.
    Redirect(Box<Redirect>),
    /// Answer.
    Direct(Box<DirectResponse>),
}

/// Sends a request to one of several destinations.
#[derive(Debug)]
pub struct Forward {
    /// Of several the dice choose one.
    destinations: Box<[Weighted]>,
    /// What becomes of path and authority.
    pub rewrite: Option<Box<Rewrite>>,
    /// Of the whole request with its retries; `None`: none.
    pub timeout: Option<Duration>,
    /// When to try again; `None`: never.
    pub retry: Option<Box<Retry>>,
    /// Who else gets a copy.
    pub mirrors: Box<[Mirror]>,
    /// Whether a client stays with its endpoint.
    pub session: Option<Box<Session>>,
    /// What is answered where no destination is left.
    pub empty_status: u16,
}

/// One destination and its share.
#[derive(Debug)]
pub struct Weighted {
    /// The weights of this and all before it.
    until: u64,
    /// Where it leads.
    pub to: Target,
    /// Edits of the request, after those of the route.
    pub request_headers: Option<Box<HeaderEdits>>,
    /// Edits of the answer, after those of the route.
    pub response_headers: Option<Box<HeaderEdits>>,
    /// In the place of the route's rewrite (see [`Forward::rewrite_for`]).
    pub rewrite: Option<Box<Rewrite>>,
}

/// Where a share of requests goes.
#[derive(Debug)]
pub enum Target {
    /// To endpoints; `book.usable` says how, or why not (503, flag NC).
    Upstream(Arc<Upstream>),
    /// Nowhere: the reference cannot be resolved. Answer with this status, flag NC.
    Invalid(u16),
    /// Elsewhere.
    Redirect(Box<Redirect>),
}

impl Weighted {
    /// A destination; its share is given when it becomes part of a [`Forward`].
    pub fn new(to: Target) -> Self {
        Self { until: 0, to, request_headers: None, response_headers: None, rewrite: None }
    }
}

impl Forward {
    /// To these destinations with these weights; one with weight 0 is never chosen, unless it is the only one.
    pub fn new(destinations: Vec<(u32, Weighted)>, empty_status: u16) -> Self {
        Self {
            destinations: shares(destinations),
            rewrite: None,
            timeout: None,
            retry: None,
            mirrors: Box::default(),
            session: None,
            empty_status,
        }
    }

    /// The destination that `dice`, evenly thrown, chooses; `None`: there is none, answer with `empty_status`.
    pub fn choose(&self, dice: u64) -> Option<&Weighted> {
        choose(&self.destinations, dice)
    }

    /// The dice that choose the first destination for which `asked` holds.
    pub fn dice_of(&self, asked: impl FnMut(&&Weighted) -> bool) -> Option<u64> {
        self.destinations.iter().find(asked).map(|found| found.until.saturating_sub(1))
    }

    /// What becomes of path and authority on the way to `destination`.
    pub fn rewrite_for<'a>(&'a self, destination: &'a Weighted) -> Option<&'a Rewrite> {
        destination.rewrite.as_deref().or(self.rewrite.as_deref())
    }

    /// All destinations.
    pub fn destinations(&self) -> &[Weighted] {
        &self.destinations
    }
}

/// Turns weights into shares.
pub(super) fn shares(destinations: Vec<(u32, Weighted)>) -> Box<[Weighted]> {
    let is_only = destinations.len() == 1;
    let mut until = 0;
    let counted = destinations.into_iter().map(|(weight, one)| (if is_only { 1 } else { weight }, one));
    let kept = counted.filter(|(weight, _)| *weight > 0).map(|(weight, one)| {
        until += u64::from(weight);
        Weighted { until, ..one }
    });
    kept.collect()
}

/// Of those that share, the one that `dice` falls on.
pub(super) fn choose(shared: &[Weighted], dice: u64) -> Option<&Weighted> {
    let total = match shared {
        [] => return None,
        [only] => return Some(only),
        [.., last] => last.until,
    };
    let point = dice % total;
    shared.get(shared.partition_point(|one| one.until <= point))
}
