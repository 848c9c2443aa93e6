//! Who needs which Secrets and ConfigMaps, and what they are given of them.
//!
//! In: needs of derivations, what was found. Out: a Credential resource for each proxy that needs it, in its own group: no
//! other proxy's pods are ever sent it. Absent on purpose: following Secrets (see `crate::credentials`).

use std::collections::{BTreeSet, HashMap, HashSet};

use lateen_cluster::store::Key;
use lateen_wire::type_url;

use super::{Derived, Graph, Made, Thing, resource, world::Index};
use crate::{
    derive::credential::{self, Wanted},
    facts::{Lookup, Source},
};

/// Something a proxy needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Need {
    pub(super) gateway: Key,
    pub(super) wanted: Wanted,
}

/// Who needs what.
#[derive(Debug, Default)]
pub(super) struct Needs {
    of: HashMap<Derived, BTreeSet<Need>>,
    by: Index<Need, Derived>,
}

impl Needs {
    /// Notes what `derived` needs now.
    pub(super) fn note(&mut self, derived: &Derived, new: Vec<Need>, dirty: &mut HashSet<Derived>) {
        let new: BTreeSet<Need> = new.into_iter().collect();
        let old = self.of.remove(derived).unwrap_or_default();
        for gone in old.difference(&new) {
            self.by.remove(gone, derived);
            dirty.insert(Derived::Credential(gone.clone()));
        }
        for come in new.difference(&old) {
            self.by.add(come.clone(), derived);
            dirty.insert(Derived::Credential(come.clone()));
        }
        if !new.is_empty() {
            self.of.insert(derived.clone(), new);
        }
    }

    fn is_needed(&self, need: &Need) -> bool {
        self.by.of(need).next().is_some()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Need> {
        self.by.keys()
    }
}

impl Graph {
    /// What a proxy is sent of what it needs.
    pub(super) fn credential(&self, need: &Need) -> Made {
        if !self.needs.is_needed(need) {
            return Made::default();
        }
        let looked_at = need.wanted.sources().iter().cloned().map(Thing::Credential).collect();
        let made = credential::derive(&need.gateway, &need.wanted, &|source| self.looked_up(source));
        let name = need.wanted.name_at(&need.gateway);
        let resource = made.map(|made| resource::own(type_url::CREDENTIAL, &name, &made, &need.gateway));
        Made { resources: resource.into_iter().collect(), looked_at, ..Made::default() }
    }

    /// What a proxy needs that keeps clients with their endpoints.
    pub(super) fn sessions(&self) -> Wanted {
        Wanted::Sessions(Source::Secret(self.mesh.sessions.clone()))
    }

    pub(super) fn looked_up(&self, source: &Source) -> Lookup {
        self.world.credentials.get(source).cloned().unwrap_or(Lookup::Pending)
    }

    /// Whether nobody waits for a first look at anything.
    pub fn is_complete(&self) -> bool {
        self.asked.iter().all(|source| self.looked_up(source) != Lookup::Pending)
    }
}
