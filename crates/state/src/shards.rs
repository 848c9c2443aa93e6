//! Maps and sets of a [`Table`].
//!
//! In: keys and values, both cheap to clone. Out: a map, or a set of what has a name, that is as cheap to copy and to
//! change a little as the table is. Absent on purpose: ordering.

use std::{borrow::Borrow, hash::Hash, sync::Arc};

use crate::table::Table;

/// A map.
#[derive(Debug, Clone)]
pub(crate) struct Shards<K, V>(Table<(K, V)>);

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone + Default> Shards<K, V> {
    /// Changes the value under `key` in place; a missing one begins empty, and one that `is_empty` afterwards is removed.
    pub(crate) fn edit(&mut self, key: &K, change: impl FnOnce(&mut V), is_empty: impl FnOnce(&V) -> bool) {
        let slot = self.0.slot(key);
        let change = |before: Option<(K, V)>| {
            let (key, mut value) = before.unwrap_or_else(|| (key.clone(), V::default()));
            change(&mut value);
            ((!is_empty(&value)).then_some((key, value)), ())
        };
        self.0.edit(slot, |item| item.0 == *key, change);
    }
}

impl<K, V> Shards<K, V> {
    /// What is under `key`.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.find(self.0.slot(key), |item| item.0.borrow() == key).map(|(_, value)| value)
    }

    /// Everything, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    /// All values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is called by a key it holds itself.
pub(crate) trait Keyed {
    /// The key.
    type Key: Eq + Hash;

    fn key(&self) -> &Self::Key;
}

/// A set of things by their keys.
#[derive(Debug, Clone)]
pub(crate) struct Set<T>(Table<Arc<T>>);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<T: Keyed> Set<T> {
    /// Puts `item` in the place of the one with its key.
    pub(crate) fn put(&mut self, item: Arc<T>) {
        let slot = self.0.slot(item.key());
        let new = item.clone();
        self.0.edit(slot, |held| held.key() == item.key(), |_| (Some(new), ()));
    }

    /// Removes what has `key` and returns it.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<Arc<T>>
    where
        T::Key: Borrow<Q>,
    {
        // Looking first keeps a miss from copying the shard.
        self.get(key)?;
        self.0.edit(self.0.slot(key), |held| held.key().borrow() == key, |before| (None, before))
    }

    /// What has `key`.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&Arc<T>>
    where
        T::Key: Borrow<Q>,
    {
        self.0.find(self.0.slot(key), |held| held.key().borrow() == key)
    }

    /// Everything, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_value_leaves_no_entry() {
        let mut map: Shards<&str, Vec<u8>> = Shards::default();
        map.edit(&"a", |list| list.push(1), Vec::is_empty);
        assert_eq!(map.len(), 1);
        map.edit(&"a", Vec::clear, Vec::is_empty);
        map.edit(&"b", |_| (), Vec::is_empty);
        assert!(map.is_empty() && map.get("a").is_none());
    }

    #[test]
    fn a_set_holds_one_item_by_key() {
        #[derive(Debug)]
        struct Item(String, u8);
        impl Keyed for Item {
            type Key = String;

            fn key(&self) -> &String {
                &self.0
            }
        }
        let mut set: Set<Item> = Set::default();
        set.put(Arc::new(Item("a".into(), 1)));
        set.put(Arc::new(Item("a".into(), 2)));
        assert_eq!((set.get("a").expect("there").1, set.iter().count()), (2, 1));
        assert_eq!((set.remove("b").is_none(), set.remove("a").expect("there").1), (true, 2));
        assert!(set.iter().next().is_none());
    }
}
