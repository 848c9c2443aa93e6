//! Which destination rules count for a proxy that sends to a service, and what they say together.
//!
//! The first tier that names the host counts alone: rules of the proxy's namespace, of the service's, of the root
//! namespace. Within it the most specific host does. Several rules for that host are merged: subsets of all, the policy
//! of the oldest that has one.

use lateen_cluster::{
    api::{Subset, TrafficPolicy},
    store::Key,
};
use lateen_types::label::Labels;

use crate::{
    derive::{Mesh, backend::ServiceName, host_matches},
    facts::{self, DestinationRule},
};

/// Who sends where.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// What holds for the whole mesh.
    pub mesh: &'a Mesh,
    /// The proxy's namespace.
    pub namespace: &'a str,
    /// The labels of the proxy's pods.
    pub labels: &'a Labels,
    /// Where it sends to.
    pub service: &'a ServiceName,
}

/// What the rules say together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged<'a> {
    /// The policy for all subsets.
    pub policy: Option<&'a TrafficPolicy>,
    /// The subsets, each name once.
    pub subsets: Vec<&'a Subset>,
    /// The rules it comes from, oldest first.
    pub rules: Vec<&'a Key>,
}

impl Merged<'_> {
    /// Whether there is a subset of this name.
    pub fn has(&self, subset: &str) -> bool {
        self.subsets.iter().any(|one| one.name == subset)
    }
}

/// What counts of `rules`, which all name the service's host.
pub fn lookup<'a>(asker: Asker<'_>, rules: &[(&'a Key, &'a DestinationRule)]) -> Option<Merged<'a>> {
    let root = &*asker.mesh.root_namespace;
    // What the root namespace says for all is the last tier, for its own proxies too.
    let mine = |(key, rule): &(&Key, &DestinationRule)| {
        let counts = *asker.namespace != *root || asker.mesh.shown.rule(key, rule).is_only(root);
        *key.namespace == *asker.namespace && counts && selects(asker, key, rule)
    };
    let of = |namespace: &str, key: &Key, rule: &DestinationRule| {
        let is_seen = asker.mesh.shown.rule(key, rule).by(asker.namespace);
        *key.namespace == *namespace && is_seen && selects(asker, key, rule)
    };
    let tiers: [Vec<(&Key, &DestinationRule)>; 3] = [
        rules.iter().copied().filter(mine).collect(),
        rules.iter().copied().filter(|(key, rule)| of(&asker.service.namespace, key, rule)).collect(),
        rules.iter().copied().filter(|(key, rule)| of(root, key, rule)).collect(),
    ];
    tiers.into_iter().find_map(|tier| merge(asker, tier))
}

/// A rule that is only for some proxies is for those of its own namespace.
fn selects(asker: Asker<'_>, key: &Key, rule: &DestinationRule) -> bool {
    let asked = rule.spec.workload_selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
    asked.is_none_or(|asked| *key.namespace == *asker.namespace && facts::selects(asked, asker.labels))
}

fn merge<'a>(asker: Asker<'_>, tier: Vec<(&'a Key, &'a DestinationRule)>) -> Option<Merged<'a>> {
    let host = |key: &Key, rule: &DestinationRule| asker.mesh.fqdn(&rule.spec.host, &key.namespace);
    let mut named: Vec<(String, &Key, &DestinationRule)> =
        tier.into_iter().map(|(key, rule)| (host(key, rule), key, rule)).collect();
    named.retain(|(host, ..)| host_matches(host, &asker.service.hostname));
    let best = named.iter().map(|(host, ..)| specificity(host)).max()?;
    named.retain(|(host, ..)| specificity(host) == best);
    named.sort_by(|(_, one, first), (_, other, second)| (&first.age, *one).cmp(&(&second.age, *other)));
    // A rule for this very proxy goes before those for all, and only rules for the same proxies and readers are one.
    let selector = |rule: &'a DestinationRule| rule.spec.workload_selector.as_ref();
    let first = named.iter().find(|(.., rule)| selector(rule).is_some()).or(named.first())?.2;
    named.retain(|(.., rule)| selector(rule) == selector(first) && rule.seen == first.seen);
    let mut merged = Merged::default();
    for (_, key, rule) in named {
        merged.rules.push(key);
        merged.policy = merged.policy.or(rule.spec.traffic_policy.as_ref());
        for subset in &rule.spec.subsets {
            if !merged.has(&subset.name) {
                merged.subsets.push(subset);
            }
        }
    }
    Some(merged)
}

/// Exact names before wildcards, longer ones of those before shorter.
fn specificity(host: &str) -> (bool, usize) {
    (!host.starts_with('*'), host.len())
}
