//! How endpoints of a cluster are chosen, as configured.
//!
//! In: what `book::compile` made of a resource. Out: plain values. Absent on purpose: endpoints.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;

/// Which endpoint of those that are near enough.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balancing {
    /// The one of two with fewer requests under way; with unequal weights, by weight over requests.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// None: the connection's own destination address.
    Passthrough,
    /// The same for equal keys.
    Hash(Box<ConsistentHash>),
}

/// Equal keys, equal endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// How hashes become endpoints.
    pub table: HashTable,
}

/// What of a request is hashed. Without it the endpoint is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie(HashCookie),
    /// The original client's address.
    SourceIp,
    /// A parameter of the query.
    Query(Box<str>),
}

/// A cookie that is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashCookie {
    /// Its name.
    pub name: Box<str>,
    /// The path of one that is made here.
    pub path: Box<str>,
    /// How long one that is made here lasts.
    pub made: MadeCookie,
    /// Attributes of one that is made here: `; name=value` …, ready to be written.
    pub attributes: Box<str>,
}

/// Whether a cookie is made for a client that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeCookie {
    /// Never.
    Never,
    /// One that lasts as long as the client's session.
    ForSession,
    /// One that lasts so long.
    For(Duration),
}

/// How hashes become endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashTable {
    /// The next of many points on a ring.
    Ring {
        /// How many points at least.
        points_min: usize,
    },
    /// A table whose size is a prime.
    Maglev {
        /// Its size.
        size: usize,
    },
}

/// How new endpoints begin: with a part of their weight, which grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warmup {
    /// How long it takes.
    pub duration: Duration,
    /// The smallest part, of 1.
    pub minimum: f64,
    /// 1 grows evenly, more grows faster at first.
    pub aggression: f64,
}

/// Which endpoints are near.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Locality {
    /// All are alike.
    #[default]
    Off,
    /// Localities have shares.
    Distribute(Box<[Share]>),
    /// Near ones first, by region, zone and subzone; the next region where one is named.
    Failover(BTreeMap<Box<str>, Box<str>>),
    /// Those that share the first labels first.
    Priorities(Box<[Label]>),
}

/// The shares of localities for callers from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Where callers are.
    pub from: LocalityPattern,
    /// Where their requests go, in percent.
    pub to: Box<[(LocalityPattern, u32)]>,
}

/// `*`, `region/*`, `region/zone/*`, `region/zone/subzone`, or shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalityPattern {
    /// The elements before the star; all of them count.
    pub elements: Box<[Box<str>]>,
}

impl LocalityPattern {
    /// Reads a pattern. A locality without star means all that is below it, too.
    pub fn read(text: &str) -> Self {
        let elements = text.split('/').take_while(|element| *element != "*").map(Into::into);
        Self { elements: elements.collect() }
    }

    /// Whether a locality is meant.
    pub fn holds(&self, locality: &lateen_state::workload::Locality) -> bool {
        let parts = [&locality.region, &locality.zone, &locality.subzone];
        self.elements.len() <= parts.len() && self.elements.iter().zip(parts).all(|(element, part)| element == part)
    }
}

/// A label that near endpoints have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub key: Box<str>,
    /// Its value; `None`: the proxy's own.
    pub value: Option<Box<str>>,
}
