//! Stand-ins for workloads and services that cannot be read: what they claim is refused, not taken for unknown.
//!
//! In: what could be told of a resource that was refused (see `decode`). Out: who claims an address. Absent on purpose:
//! whether a claim counts beside what is known there (see `lookup`).

use std::{collections::BTreeMap, sync::Arc};

use lateen_types::{addr::NetworkAddress, id::Namespace};

use crate::{service::NetworkCidr, shards::Shards};

/// A workload or a service of which only (some of) the addresses are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// A workload's uid or a service's `namespace/hostname`; a good version or a removal under it ends the stand-in.
    pub key: Arc<str>,
    /// Why it cannot be used.
    pub reason: Arc<str>,
    /// The single addresses it claims.
    pub addresses: Vec<NetworkAddress>,
    /// The ranges it claims.
    pub ranges: Vec<NetworkCidr>,
    /// The only namespace that sees it; `None`: all do.
    pub only_for: Option<Namespace>,
    /// How strong its claim is, as [`crate::workload::Workload::address_claim`]; a stronger workload is reached anyway.
    pub claim: u8,
}

/// Of something that is no workload, or may be none.
pub(crate) const NO_WORKLOAD_IS_STRONGER: u8 = u8::MAX;

/// All stand-ins; none in a healthy mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unusables {
    by_key: Arc<BTreeMap<Arc<str>, Arc<Unusable>>>,
    by_address: Shards<NetworkAddress, Vec<Arc<Unusable>>>,
    with_ranges: Arc<Vec<Arc<Unusable>>>,
}

impl Unusables {
    pub(crate) fn put(&mut self, one: Arc<Unusable>) {
        self.remove(&one.key);
        for address in &one.addresses {
            self.by_address.edit(address, |list| list.push(one.clone()), Vec::is_empty);
        }
        if !one.ranges.is_empty() {
            Arc::make_mut(&mut self.with_ranges).push(one.clone());
        }
        Arc::make_mut(&mut self.by_key).insert(one.key.clone(), one);
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if !self.by_key.contains_key(key) {
            return;
        }
        let Some(one) = Arc::make_mut(&mut self.by_key).remove(key) else { return };
        let others = |list: &mut Vec<Arc<Unusable>>| list.retain(|other| other.key != one.key);
        for address in &one.addresses {
            self.by_address.edit(address, others, Vec::is_empty);
        }
        if !one.ranges.is_empty() {
            others(Arc::make_mut(&mut self.with_ranges));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Those that name the address itself.
    pub(crate) fn at(&self, address: &NetworkAddress) -> &[Arc<Unusable>] {
        self.by_address.get(address).map(Vec::as_slice).unwrap_or_default()
    }

    /// Those with a range that holds the address.
    pub(crate) fn around<'w>(&'w self, address: &'w NetworkAddress) -> impl Iterator<Item = &'w Arc<Unusable>> {
        let holds = |range: &NetworkCidr| range.network == address.network && range.cidr.contains(&address.ip);
        self.with_ranges.iter().filter(move |one| one.ranges.iter().any(holds))
    }
}
