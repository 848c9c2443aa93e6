//! Which policies hold for the proxy and for each of its services, ready to be asked.
//!
//! In: policies by name, the names that the proxy and its services list. Out: sets of policies. A name whose policy has not
//! arrived makes its set refuse. A policy that is no more holds for as long as somebody lists it: that it is gone, and that
//! it is listed no more, come in messages of their own, and between them nothing may be refused that both pictures let pass.
//! Part of the book: what is not touched by a change is shared with the one before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use lateen_policy::l7::{Policies, Policy};
use lateen_types::name::NamespacedHostname;

use super::decode::key_of;

/// All sets of one moment.
#[derive(Debug, Clone, Default)]
pub struct Guards {
    policies: Arc<HashMap<Arc<str>, Arc<Policy>>>,
    /// Those of `policies` that are no more, and that somebody lists.
    leaving: Arc<HashSet<Arc<str>>>,
    proxy: Guard,
    services: Arc<HashMap<NamespacedHostname, Guard>>,
}

/// The set of one list of names.
#[derive(Debug, Clone, Default)]
struct Guard {
    /// What it was made of, by the names' order.
    of: Vec<Option<Arc<Policy>>>,
    names: Box<[Arc<str>]>,
    set: Arc<Policies>,
}

impl Guard {
    /// A guard of these names; `before`, where that is the same.
    fn of(names: &[Arc<str>], policies: &HashMap<Arc<str>, Arc<Policy>>, before: Option<&Self>) -> Self {
        let of: Vec<Option<Arc<Policy>>> = names.iter().map(|name| policies.get(name).cloned()).collect();
        if let Some(before) = before.filter(|before| *before.names == *names && before.is_made_of(&of)) {
            return before.clone();
        }
        let missing = names.iter().zip(&of).filter(|(_, policy)| policy.is_none()).map(|(name, _)| key_of(name));
        let missing = missing.collect();
        let held: Vec<Arc<Policy>> = of.iter().flatten().cloned().collect();
        Self { set: Arc::new(Policies::new(&held, missing)), of, names: names.into() }
    }

    fn is_made_of(&self, of: &[Option<Arc<Policy>>]) -> bool {
        let same = |pair: (&Option<Arc<Policy>>, &Option<Arc<Policy>>)| match pair {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.of.len() == of.len() && self.of.iter().zip(of).all(same)
    }
}

impl Guards {
    /// Puts a policy in, or takes it away. [`Self::settle`] must follow.
    pub fn put(&mut self, name: &Arc<str>, policy: Option<Arc<Policy>>) {
        match policy {
            Some(policy) => {
                if self.leaving.contains(name) {
                    Arc::make_mut(&mut self.leaving).remove(name);
                }
                Arc::make_mut(&mut self.policies).insert(name.clone(), policy);
            }
            None if self.policies.contains_key(name) => {
                Arc::make_mut(&mut self.leaving).insert(name.clone());
            }
            None => {}
        }
    }

    /// Whether a policy of this name is held, so that a stand-in must not take its place.
    pub fn holds(&self, name: &str) -> bool {
        self.policies.contains_key(name) && !self.leaving.contains(name)
    }

    /// Makes the sets fit: those of `services` and of the proxy, by the names they list.
    pub fn settle<'b>(
        &mut self,
        proxy: &[Arc<str>],
        services: impl Iterator<Item = (&'b NamespacedHostname, &'b [Arc<str>])>,
    ) {
        self.proxy = Guard::of(proxy, &self.policies, Some(&self.proxy));
        // A service without policies needs no entry.
        let named = services.filter(|(_, names)| !names.is_empty());
        let guard =
            |names: &[Arc<str>], key: &NamespacedHostname| Guard::of(names, &self.policies, self.services.get(key));
        self.services = Arc::new(named.map(|(key, names)| (key.clone(), guard(names, key))).collect());
        if !self.leaving.is_empty() {
            self.forget();
        }
    }

    /// Forgets what is no more and listed by nobody.
    fn forget(&mut self) {
        let guards = std::iter::once(&self.proxy).chain(self.services.values());
        let listed: HashSet<&Arc<str>> = guards.flat_map(|guard| guard.names.iter()).collect();
        let gone: Vec<Arc<str>> = self.leaving.iter().filter(|name| !listed.contains(name)).cloned().collect();
        for name in &gone {
            Arc::make_mut(&mut self.leaving).remove(name);
            Arc::make_mut(&mut self.policies).remove(name);
        }
    }

    /// What holds for every request, and what holds for those to `service` beside it.
    pub fn of(&self, service: Option<&NamespacedHostname>) -> [&Policies; 2] {
        static NOTHING: std::sync::LazyLock<Policies> = std::sync::LazyLock::new(Policies::default);
        let service = service.and_then(|key| self.services.get(key));
        [&self.proxy.set, service.map_or(&NOTHING, |guard| &guard.set)]
    }
}
