//! A hash map that is cheap to copy and to change a little: copies share everything but the shards that changed.
//!
//! In: keys and values, both cheap to clone. Out: a map whose clone costs one reference count, and whose first change
//! after a clone copies one shard (about 1/256 of the map). Absent on purpose: removal of shards, ordering.

use std::{
    borrow::Borrow,
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

/// With 100,000 entries a shard holds about 400, some 10 kB to copy for one change.
const SHARDS: usize = 256;

/// The map.
#[derive(Debug, Clone)]
pub struct Shards<K, V> {
    hasher: RandomState,
    shards: Arc<Vec<Arc<HashMap<K, V>>>>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Arc::new(HashMap::new())).collect();
        Self { hasher: RandomState::new(), shards: Arc::new(shards), len: 0 }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Shards<K, V> {
    /// Puts `value` under `key` and returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.shard_mut(&key).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes what is under `key` and returns it.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Looking first keeps a miss from copying the shard.
        self.get(key)?;
        let before = self.shard_mut(key).remove(key);
        self.len -= usize::from(before.is_some());
        before
    }

    /// Changes the value under `key` in place; a missing one begins empty, and one that `is_empty` afterwards is removed.
    pub fn edit(&mut self, key: &K, change: impl FnOnce(&mut V), is_empty: impl FnOnce(&V) -> bool)
    where
        V: Default,
    {
        let shard = self.shard_mut(key);
        let before = shard.len();
        let value = shard.entry(key.clone()).or_default();
        change(value);
        if is_empty(value) {
            shard.remove(key);
        }
        let after = shard.len();
        self.len = self.len + after - before;
    }

    fn shard_mut<Q: Hash + ?Sized>(&mut self, key: &Q) -> &mut HashMap<K, V> {
        let at = self.shard_of(key);
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[at])
    }
}

impl<K, V> Shards<K, V> {
    /// What is under `key`.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q> + Eq + Hash,
    {
        self.shards[self.shard_of(key)].get(key)
    }

    /// Everything, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[allow(clippy::cast_possible_truncation, reason = "only the low bits choose a shard")]
    fn shard_of<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The high bits: the map inside uses the low ones of a hash of its own.
        (self.hasher.hash_one(key) >> 32) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_after_a_clone_copies_one_shard_and_leaves_the_clone() {
        let mut map: Shards<u32, u32> = Shards::default();
        for n in 0..10_000 {
            map.insert(n, n);
        }
        let before = map.clone();
        assert_eq!(map.insert(7, 70), Some(7));
        assert_eq!((before.get(&7), map.get(&7)), (Some(&7), Some(&70)));
        let shared = map.shards.iter().zip(before.shards.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, SHARDS - 1);
        assert_eq!((map.len(), map.iter().count()), (10_000, 10_000));
    }

    #[test]
    fn an_emptied_value_leaves_no_entry() {
        let mut map: Shards<&str, Vec<u8>> = Shards::default();
        map.edit(&"a", |list| list.push(1), Vec::is_empty);
        assert_eq!(map.len(), 1);
        map.edit(&"a", Vec::clear, Vec::is_empty);
        map.edit(&"b", |_| (), Vec::is_empty);
        assert!(map.is_empty() && map.get("a").is_none());
        assert_eq!(map.remove("a"), None);
    }
}
