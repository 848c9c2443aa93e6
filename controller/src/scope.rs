//! Which namespaces are part of the mesh, as the settings' discovery selectors say.
//!
//! In: settings, namespaces. Out: the namespaces that came in or left, and whether an object is within.
//! Absent on purpose: the objects; those of a namespace that leaves are told as gone (see `publish`).

use std::{collections::BTreeSet, sync::Arc};

use lateen_cluster::store::{Key, Store};

use crate::{facts::Namespace, settings::Settings};

/// The namespaces within. `None` is all of them, even those not seen yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    within: Option<BTreeSet<Arc<str>>>,
}

impl Scope {
    /// The scope of this moment.
    pub fn of(settings: &Settings, namespaces: &Store<Namespace>) -> Self {
        if settings.discovery.is_empty() {
            return Self { within: None };
        }
        let all = namespaces.snapshot().into_iter();
        let within = all.filter(|(key, found)| settings.discovers(&key.name, &found.labels));
        Self { within: Some(within.map(|(key, _)| key.name).collect()) }
    }

    /// Whether an object is within; cluster-wide ones are.
    pub fn holds(&self, key: &Key) -> bool {
        key.namespace.is_empty() || self.holds_namespace(&key.namespace)
    }

    /// Whether a namespace is within.
    pub fn holds_namespace(&self, namespace: &str) -> bool {
        self.within.as_ref().is_none_or(|within| within.contains(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::tests::mesh;

    #[test]
    fn selected_namespaces_are_within() {
        let store: Store<Namespace> = Store::default();
        for (name, label) in [("in", "yes"), ("out", "no"), ("istio-system", "no")] {
            let labels = [("mesh".to_owned(), label.to_owned())].into();
            store.put(&Key::new("", name), Namespace { labels, ..Namespace::default() });
        }
        let usual = Settings::usual(mesh(), "istio-system");
        let all = Scope::of(&usual, &store);
        assert!(all.holds(&Key::new("out", "x")) && all.holds(&Key::new("unseen", "x")));
        let settings = usual.with("discoverySelectors: [{matchLabels: {mesh: 'yes'}}]").expect("valid");
        let some = Scope::of(&settings, &store);
        let held: Vec<&str> = ["in", "out", "istio-system", "unseen", ""]
            .into_iter()
            .filter(|name| some.holds(&Key::new(name, "x")))
            .collect();
        assert_eq!(held, ["in", "istio-system", ""]);
    }
}
