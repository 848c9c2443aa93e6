//! The lists of a policy in a form where a question costs a binary search instead of a walk.
//!
//! In: list entries in any order, collected. Out: sets that answer `hits`, and give their entries back for dumps.
//! Absent on purpose: what an empty list means; that differs between positive and negative use (see [`crate::decide`]).

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lateen_types::id::SpiffeId;

use crate::model::{Account, StringMatch};

/// What every list can say of itself.
pub trait List {
    /// Whether there is no entry.
    fn is_empty(&self) -> bool;
}

/// A list of [`StringMatch`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strings {
    /// Sorted, without repeats.
    exact: Box<[Arc<str>]>,
    /// Prefixes, suffixes and presence, sorted, without repeats. Few in practice, so they are walked.
    patterns: Box<[StringMatch]>,
}

impl List for Strings {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty()
    }
}

impl Strings {
    /// Whether any entry hits `text`.
    pub fn hits(&self, text: &str) -> bool {
        self.exact.binary_search_by(|entry| (**entry).cmp(text)).is_ok()
            || self.patterns.iter().any(|pattern| pattern.hits(text))
    }

    /// The entries, for dumps.
    pub fn iter(&self) -> impl Iterator<Item = StringMatch> + '_ {
        self.exact.iter().cloned().map(StringMatch::Exact).chain(self.patterns.iter().cloned())
    }
}

impl FromIterator<StringMatch> for Strings {
    fn from_iter<I: IntoIterator<Item = StringMatch>>(entries: I) -> Self {
        let (mut exact, mut patterns) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                StringMatch::Exact(text) => exact.push(text),
                pattern @ (StringMatch::Prefix(_) | StringMatch::Suffix(_) | StringMatch::Presence) => {
                    patterns.push(pattern);
                }
            }
        }
        Self { exact: sorted(exact), patterns: sorted(patterns) }
    }
}

/// A list of service accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts(Box<[Account]>);

impl List for Accounts {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Accounts {
    /// Whether the account of `identity` is in the list; its trust domain is not looked at.
    pub fn hits(&self, identity: &SpiffeId) -> bool {
        let wanted = (identity.namespace(), identity.service_account());
        self.0.binary_search_by(|entry| (&entry.namespace, &entry.service_account).cmp(&wanted)).is_ok()
    }

    /// The entries, for dumps.
    pub fn iter(&self) -> impl Iterator<Item = &Account> + '_ {
        self.0.iter()
    }
}

impl FromIterator<Account> for Accounts {
    fn from_iter<I: IntoIterator<Item = Account>>(entries: I) -> Self {
        Self(sorted(entries.into_iter().collect()))
    }
}

/// A list of address blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocks {
    /// What was written, for dumps.
    written: Box<[IpNet]>,
    /// Disjoint and sorted, host bits cleared: the invariant the search in `hits` rests on.
    v4: Box<[Ipv4Net]>,
    /// As `v4`.
    v6: Box<[Ipv6Net]>,
}

impl List for Blocks {
    fn is_empty(&self) -> bool {
        self.written.is_empty()
    }
}

impl Blocks {
    /// Whether `ip` is in any block. Families never mix; an IPv4-mapped IPv6 address is the IPv4 address it means.
    pub fn hits(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let after = self.v4.partition_point(|block| block.network() <= ip);
                after.checked_sub(1).is_some_and(|at| self.v4[at].contains(&ip))
            }
            IpAddr::V6(ip) => {
                let after = self.v6.partition_point(|block| block.network() <= ip);
                after.checked_sub(1).is_some_and(|at| self.v6[at].contains(&ip))
            }
        }
    }

    /// The entries as they were written, for dumps.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.written.iter().copied()
    }
}

impl FromIterator<IpNet> for Blocks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(entries: I) -> Self {
        let written = sorted(entries.into_iter().collect());
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for block in &written {
            match block {
                IpNet::V4(block) => v4.push(block.trunc()),
                IpNet::V6(block) => v6.push(block.trunc()),
            }
        }
        Self { v4: Ipv4Net::aggregate(&v4).into(), v6: Ipv6Net::aggregate(&v6).into(), written }
    }
}

/// A list of ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports(Box<[u16]>);

impl List for Ports {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Ports {
    /// Whether `port` is in the list.
    pub fn hits(&self, port: u16) -> bool {
        self.0.binary_search(&port).is_ok()
    }

    /// The entries, for dumps.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<u16> for Ports {
    fn from_iter<I: IntoIterator<Item = u16>>(entries: I) -> Self {
        Self(sorted(entries.into_iter().collect()))
    }
}

/// Sorted, without repeats.
fn sorted<T: Ord>(mut entries: Vec<T>) -> Box<[T]> {
    entries.sort_unstable();
    entries.dedup();
    entries.into()
}
