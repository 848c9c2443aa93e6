//! Where policies with targets are sent: each to the Gateways that enforce it, perhaps several times.
//!
//! In: what is published. Out: the Gateways of a policy, and which resources there name it. Absent on purpose: why it is
//! sent there (see `graph::guards`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use lateen_cluster::store::Key;
use lateen_wire::type_url;
use lateen_xds::server::Publish;

/// Where each policy is sent.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Key, BTreeMap<Arc<str>, Key>>);

/// What one batch changes of it.
#[derive(Debug, Default, Clone)]
pub struct Moves(Vec<Move>);

#[derive(Debug, Clone)]
struct Move {
    resource: Arc<str>,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A policy is sent.
    Sent,
    /// It is sent no more.
    Gone,
    /// What names policies is sent anew: a service, or a proxy itself.
    Namer,
}

impl Moves {
    /// Of a batch that is about to be published.
    pub fn of(batch: &[Publish]) -> Self {
        let moves = batch.iter().filter_map(|one| match one {
            Publish::Put(type_url::POLICY, entry) => Some(Move { resource: entry.name.clone(), what: What::Sent }),
            Publish::Remove(type_url::POLICY, name) => Some(Move { resource: name.clone(), what: What::Gone }),
            Publish::Put(type_url::SERVICE | type_url::PROXY, entry) => {
                Some(Move { resource: entry.name.clone(), what: What::Namer })
            }
            Publish::Put(..) | Publish::Remove(..) => None,
        });
        Self(moves.collect())
    }

    /// Whatever names policies and is sent anew.
    pub(super) fn namers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|one| one.what == What::Namer).map(|one| &*one.resource)
    }
}

impl Places {
    /// Takes a batch in; gives the policies whose resources changed.
    pub(super) fn take(&mut self, moves: Moves) -> BTreeSet<Key> {
        let mut changed = BTreeSet::new();
        for Move { resource, what } in moves.0.into_iter().filter(|one| one.what != What::Namer) {
            let Some((gateway, policy)) = read(&resource) else { continue };
            let places = self.0.entry(policy.clone()).or_default();
            if what == What::Sent {
                places.insert(resource, gateway);
            } else {
                places.remove(&resource);
            }
            if places.is_empty() {
                self.0.remove(&policy);
            }
            changed.insert(policy);
        }
        changed
    }

    /// The policies that a resource names: `ns/gateway` or `ns/gateway/ns/service`.
    pub(super) fn named_by<'a>(&'a self, namer: &'a str) -> impl Iterator<Item = &'a Key> {
        let all = self.0.iter();
        all.filter(move |(_, places)| places.keys().any(|resource| namer_of(resource) == Some(namer)))
            .map(|(key, _)| key)
    }

    /// Whether `namer` names `policy`.
    pub(super) fn names(&self, namer: &str, policy: &Key) -> bool {
        let places = self.0.get(policy).into_iter().flat_map(BTreeMap::keys);
        places.into_iter().any(|resource| namer_of(resource) == Some(namer))
    }

    /// The Gateways a policy is sent to.
    pub(super) fn of(&self, policy: &Key) -> BTreeSet<&Key> {
        self.0.get(policy).into_iter().flat_map(BTreeMap::values).collect()
    }
}

/// What names a policy that is sent as `resource`: the part before the policy's own place.
fn namer_of(resource: &str) -> Option<&str> {
    let (before, _) = resource.rsplit_once('/')?;
    before.rsplit_once('/').map(|(namer, _)| namer)
}

/// The Gateway and the policy in a resource's name: `ns/gateway/…/ns/policy`.
pub(super) fn read(resource: &str) -> Option<(Key, Key)> {
    let parts: Vec<&str> = resource.split('/').collect();
    match *parts.as_slice() {
        [of, gateway, namespace, policy] | [of, gateway, _, _, namespace, policy] => {
            Some((Key::new(of, gateway), Key::new(namespace, policy)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_where_any_of_its_resources_is() {
        let mut places = Places::default();
        let put = |name: &str| Move { resource: name.into(), what: What::Sent };
        let gone = |name: &str| Move { resource: name.into(), what: What::Gone };
        let policy = Key::new("shop", "p");
        let changed = places.take(Moves(vec![put("shop/w/shop/p"), put("shop/w/shop/a.shop.svc/shop/p"), put("x/y")]));
        assert_eq!(changed, [policy.clone()].into());
        assert!(places.names("shop/w", &policy) && places.names("shop/w/shop/a.shop.svc", &policy));
        assert!(!places.names("shop/w/shop/b.shop.svc", &policy));
        assert_eq!(places.named_by("shop/w").collect::<Vec<_>>(), [&policy]);
        places.take(Moves(vec![gone("shop/w/shop/p")]));
        assert_eq!(places.of(&policy), [&Key::new("shop", "w")].into());
        places.take(Moves(vec![put("infra/v/shop/b.shop.svc/shop/p"), gone("shop/w/shop/a.shop.svc/shop/p")]));
        assert_eq!(places.of(&policy), [&Key::new("infra", "v")].into());
        places.take(Moves(vec![gone("infra/v/shop/b.shop.svc/shop/p")]));
        assert!(places.of(&policy).is_empty() && places.0.is_empty());
    }
}
