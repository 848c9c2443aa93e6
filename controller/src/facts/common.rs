//! What pods have in common is kept once: labels, ports, accounts, nodes, owners.
//!
//! In: a pod as it was read. Out: the same, sharing its parts with the pods before it. Of 50,000 pods each has some twenty
//! others with the same labels, and forty on its node. What nobody holds any more is forgotten as the tables grow.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use lateen_types::label::Labels;

use super::{NamedPort, Owner, Pod};

/// Parts seen before.
#[derive(Debug, Default)]
pub struct Common {
    labels: Known<Labels>,
    ports: Known<Vec<NamedPort>>,
    owners: Known<Owner>,
    /// Nodes and accounts.
    names: Known<str>,
}

impl Common {
    /// The same pod.
    pub fn share(&mut self, mut pod: Pod) -> Pod {
        self.labels.share(&mut pod.labels);
        self.ports.share(&mut pod.ports);
        self.names.share(&mut pod.node);
        self.names.share(&mut pod.service_account);
        if let Some(owner) = &mut pod.owner {
            self.owners.share(owner);
        }
        pod
    }
}

/// Values of one kind.
#[derive(Debug)]
struct Known<T: ?Sized> {
    kept: HashSet<Arc<T>>,
    /// With so many, those that nobody else holds are looked for.
    look_at: usize,
}

/// The first look.
const LOOK_AT_FIRST: usize = 64;

impl<T: ?Sized> Default for Known<T> {
    fn default() -> Self {
        Self { kept: HashSet::new(), look_at: LOOK_AT_FIRST }
    }
}

impl<T: Eq + Hash + ?Sized> Known<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.kept.get(&**value) {
            *value = known.clone();
            return;
        }
        if self.kept.len() >= self.look_at {
            self.kept.retain(|one| Arc::strong_count(one) > 1);
            self.look_at = LOOK_AT_FIRST.max(2 * self.kept.len());
        }
        self.kept.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut known: Known<str> = Known::default();
        let mut held: Vec<Arc<str>> = Vec::new();
        for number in 0..10 * LOOK_AT_FIRST {
            let mut one: Arc<str> = format!("v{}", number % LOOK_AT_FIRST).into();
            known.share(&mut one);
            held.push(one);
        }
        assert!(Arc::ptr_eq(&held[0], &held[LOOK_AT_FIRST]));
        assert_eq!(known.kept.len(), LOOK_AT_FIRST);
        held.clear();
        known.share(&mut "another".into());
        assert_eq!(known.kept.len(), 1, "what nobody holds is forgotten");
    }
}
