//! Which endpoints are near: the tier of each, and the shares of localities within one.
//!
//! In: where endpoints and the proxy are, and the policy. Out: for each endpoint its tier and group, or nothing for one
//! that gets no traffic. Absent on purpose: health.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use lateen_state::workload::{Locality as At, Workload};
use lateen_types::name::WorkloadUid;

use super::policy::{Label, Locality, LocalityPattern};
use crate::upstream::health::EndpointHealth;

/// An endpoint that may be chosen.
#[derive(Debug, Clone)]
pub struct Candidate<E> {
    /// What is handed back when it is chosen.
    pub endpoint: E,
    /// Its name.
    pub uid: WorkloadUid,
    /// Its address, by which sessions and rings know it.
    pub address: SocketAddr,
    /// Its weight; 0 is never chosen.
    pub weight: u32,
    /// Where it is.
    pub spot: Spot,
    /// Since when it is there, for warming up.
    pub since: Duration,
    /// Its health, which outlives the chooser.
    pub health: Arc<EndpointHealth>,
}

/// Where something is: an endpoint, or the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spot {
    /// Region, zone, subzone.
    pub locality: At,
    /// The network.
    pub network: Box<str>,
    /// The cluster.
    pub cluster: Box<str>,
    /// The node.
    pub node: Box<str>,
    /// Its labels, as far as they are known.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// The place of one candidate: smaller tiers first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) tier: u32,
    /// Which of the shares; 0 where there are none.
    pub(super) group: u32,
}

/// What the policy makes of where things are, before health counts.
#[derive(Debug)]
pub(super) struct Ranks {
    /// Of each spot, in their order; `None`: no traffic.
    pub(super) ranks: Vec<Option<Rank>>,
    /// The share of each group.
    pub(super) shares: Vec<u32>,
}

/// Ranks `spots` as seen from `here`.
pub(super) fn ranks<'s>(policy: &Locality, here: &Spot, spots: impl Iterator<Item = &'s Spot>) -> Ranks {
    match policy {
        Locality::Off => even(spots, |_| 0),
        Locality::Failover(regions) => even(spots, |spot| distance(here, spot, regions)),
        Locality::Priorities(labels) => even(spots, |spot| unlike(here, spot, labels)),
        Locality::Distribute(shares) => match shares.iter().find(|share| share.from.holds(&here.locality)) {
            Some(share) => distributed(spots, &share.to),
            None => even(spots, |_| 0),
        },
    }
}

/// One group; tiers are made to follow each other without gaps.
fn even<'s>(spots: impl Iterator<Item = &'s Spot>, tier: impl Fn(&Spot) -> u32) -> Ranks {
    let given: Vec<u32> = spots.map(tier).collect();
    let mut sorted = given.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let compact =
        |tier: u32| (0..).zip(&sorted).find(|(_, one)| **one == tier).map(|(at, _)| Rank { tier: at, group: 0 });
    Ranks { ranks: given.into_iter().map(compact).collect(), shares: vec![1] }
}

/// 0 in the same subzone, 1 in the same zone, 2 in the same region, 3 elsewhere; 4 where another region comes first.
fn distance(here: &Spot, spot: &Spot, regions: &BTreeMap<Box<str>, Box<str>>) -> u32 {
    let (from, at) = (&here.locality, &spot.locality);
    if from.region != at.region {
        let comes_first = regions.get(&from.region).is_none_or(|next| *next == at.region);
        return if comes_first { 3 } else { 4 };
    }
    match (from.zone == at.zone, from.subzone == at.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// How many labels are left from the first that does not match; 0 where all match.
fn unlike(here: &Spot, spot: &Spot, labels: &[Label]) -> u32 {
    let alike = |label: &&Label| match &label.value {
        Some(value) => spot.label(&label.key) == Some(&**value),
        None => spot.label(&label.key).is_some() && spot.label(&label.key) == here.label(&label.key),
    };
    let matched = labels.iter().take_while(alike).count();
    u32::try_from(labels.len() - matched).unwrap_or(u32::MAX)
}

impl Spot {
    /// The label `key`; some are facts that need no label.
    fn label(&self, key: &str) -> Option<&str> {
        let fact = match key {
            "topology.istio.io/network" => &self.network,
            "topology.istio.io/cluster" => &self.cluster,
            "topology.kubernetes.io/region" => &self.locality.region,
            "topology.kubernetes.io/zone" => &self.locality.zone,
            "topology.istio.io/subzone" => &self.locality.subzone,
            "kubernetes.io/hostname" => &self.node,
            _ => return self.labels.get(key).map(AsRef::as_ref),
        };
        Some(fact)
    }
}

/// Each locality belongs to the pattern that says most about it.
fn distributed<'s>(spots: impl Iterator<Item = &'s Spot>, to: &[(LocalityPattern, u32)]) -> Ranks {
    let group = |spot: &Spot| {
        let holding = (0..).zip(to).filter(|(_, (pattern, percent))| *percent > 0 && pattern.holds(&spot.locality));
        holding.max_by_key(|(_, (pattern, _))| pattern.elements.len()).map(|(group, _)| Rank { tier: 0, group })
    };
    Ranks { ranks: spots.map(group).collect(), shares: to.iter().map(|(_, percent)| *percent).collect() }
}

impl Spot {
    /// Where a workload is.
    pub fn of(workload: &Workload) -> Self {
        Self {
            locality: workload.place.locality.clone(),
            network: workload.network.as_str().into(),
            cluster: workload.cluster.as_str().into(),
            node: workload.place.node.as_str().into(),
            labels: workload.labels.iter().map(|(key, value)| (key.into(), value.into())).collect(),
        }
    }
}
