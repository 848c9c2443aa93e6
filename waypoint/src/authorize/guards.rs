//! Which policies hold for the proxy and for each of its services, ready to be asked.
//!
//! In: policies by name, the names that the proxy and its services list. Out: sets of policies. A name whose policy has not
//! arrived makes its set refuse. Part of the book: what is not touched by a change is shared with the one before.

use std::{collections::HashMap, sync::Arc};

use lateen_policy::l7::{Policies, Policy};
use lateen_types::name::NamespacedHostname;

use super::decode::key_of;

/// All sets of one moment.
#[derive(Debug, Clone, Default)]
pub struct Guards {
    policies: Arc<HashMap<Arc<str>, Arc<Policy>>>,
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
        let policies = Arc::make_mut(&mut self.policies);
        match policy {
            Some(policy) => drop(policies.insert(name.clone(), policy)),
            None => drop(policies.remove(name)),
        }
    }

    /// Whether a policy of this name is held, so that a stand-in must not take its place.
    pub fn holds(&self, name: &str) -> bool {
        self.policies.contains_key(name)
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
    }

    /// What holds for every request, and what holds for those to `service` beside it.
    pub fn of(&self, service: Option<&NamespacedHostname>) -> [&Policies; 2] {
        static NOTHING: std::sync::LazyLock<Policies> = std::sync::LazyLock::new(Policies::default);
        let service = service.and_then(|key| self.services.get(key));
        [&self.proxy.set, service.map_or(&NOTHING, |guard| &guard.set)]
    }
}
