//! A hash table that is cheap to copy and to change a little: copies share everything but the shards that changed.
//!
//! In: items, cheap to clone, that hold their own keys. Out: a table whose clone costs one reference count, and whose
//! first change after a clone copies two short lists of references and one shard (1/4096 of the table). Absent on
//! purpose: keys (see `shards`), removal of shards, ordering.
//!
//! ```text
//! table ─► 64 branches ─► 64 shards each ─► tags │ items
//! ```

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

/// Of the table, and of each branch. With 100,000 items a shard holds about 24, so that one change copies about 150
/// references in all (with 256 shards in one list it was 650, and their lists).
const WIDTH: usize = 64;

/// The table.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    hasher: RandomState,
    branches: Arc<Vec<Branch<T>>>,
    len: usize,
}

/// What hangs on one branch.
type Branch<T> = Arc<Vec<Arc<Shard<T>>>>;

/// Items in no order, each behind 16 bits of its hash, so that only what is meant is looked at. Items never move to
/// another shard, so nobody needs their hash again.
#[derive(Debug)]
struct Shard<T> {
    tags: Vec<u16>,
    items: Vec<T>,
}

/// Where an item with one key is, if it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    branch: usize,
    shard: usize,
    tag: u16,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        // All begin as one empty shard: an empty table costs two short lists.
        let empty = Arc::new(Shard { tags: Vec::new(), items: Vec::new() });
        let branch = Arc::new(vec![empty; WIDTH]);
        Self { hasher: RandomState::new(), branches: Arc::new(vec![branch; WIDTH]), len: 0 }
    }
}

impl<T: Clone> Table<T> {
    /// Changes the item at `slot` that `is` the one: `change` is given it, or nothing, and says what shall be there.
    /// Returns what `change` returned beside that.
    pub(crate) fn edit<R>(
        &mut self,
        slot: Slot,
        is: impl Fn(&T) -> bool,
        change: impl FnOnce(Option<T>) -> (Option<T>, R),
    ) -> R {
        let branch = Arc::make_mut(&mut Arc::make_mut(&mut self.branches)[slot.branch]);
        let shard = Arc::make_mut(&mut branch[slot.shard]);
        let at = shard.position(slot.tag, is);
        let before = at.map(|at| {
            shard.tags.swap_remove(at);
            shard.items.swap_remove(at)
        });
        self.len -= usize::from(before.is_some());
        let (after, answer) = change(before);
        if let Some(item) = after {
            self.len += 1;
            // Shards are short and many: room to grow would be a third of the table.
            shard.tags.reserve_exact(1);
            shard.items.reserve_exact(1);
            shard.tags.push(slot.tag);
            shard.items.push(item);
        }
        answer
    }
}

impl<T> Table<T> {
    /// Where what has this key is.
    #[allow(clippy::cast_possible_truncation, reason = "each part takes some bits of the hash")]
    pub(crate) fn slot<Q: Hash + ?Sized>(&self, key: &Q) -> Slot {
        let hash = self.hasher.hash_one(key);
        Slot { branch: hash as usize % WIDTH, shard: (hash >> 8) as usize % WIDTH, tag: (hash >> 16) as u16 }
    }

    /// The item at `slot` that `is` the one.
    pub(crate) fn find(&self, slot: Slot, is: impl Fn(&T) -> bool) -> Option<&T> {
        let shard = &self.branches[slot.branch][slot.shard];
        shard.position(slot.tag, is).map(|at| &shard.items[at])
    }

    /// Everything, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.branches.iter().flat_map(|branch| branch.iter()).flat_map(|shard| &shard.items)
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<T> Shard<T> {
    fn position(&self, tag: u16, is: impl Fn(&T) -> bool) -> Option<usize> {
        let tagged = self.tags.iter().zip(&self.items);
        tagged.into_iter().position(|(held, item)| *held == tag && is(item))
    }
}

impl<T: Clone> Clone for Shard<T> {
    /// With room for one more: a shard is copied to be changed.
    fn clone(&self) -> Self {
        let mut copy =
            Self { tags: Vec::with_capacity(self.tags.len() + 1), items: Vec::with_capacity(self.items.len() + 1) };
        copy.tags.extend_from_slice(&self.tags);
        copy.items.extend_from_slice(&self.items);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_after_a_clone_copies_one_shard_and_leaves_the_clone() {
        let mut table: Table<(u32, u32)> = Table::default();
        let put = |table: &mut Table<(u32, u32)>, key: u32, value: u32| {
            let slot = table.slot(&key);
            table.edit(slot, |item| item.0 == key, |before| (Some((key, value)), before))
        };
        for n in 0..10_000 {
            assert_eq!(put(&mut table, n, n), None);
        }
        let before = table.clone();
        assert_eq!(put(&mut table, 7, 70), Some((7, 7)));
        let seven = |table: &Table<(u32, u32)>| table.find(table.slot(&7_u32), |item| item.0 == 7).copied();
        assert_eq!((seven(&before), seven(&table)), (Some((7, 7)), Some((7, 70))));
        let shards = |table: &Table<(u32, u32)>| -> Vec<_> {
            table.branches.iter().flat_map(|branch| branch.iter().cloned()).collect()
        };
        let shared = shards(&table).iter().zip(&shards(&before)).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, WIDTH * WIDTH - 1);
        assert_eq!((table.len(), table.iter().count()), (10_000, 10_000));
    }

    #[test]
    fn equal_tags_do_not_make_equal_items() {
        let mut table: Table<&str> = Table::default();
        let slot = table.slot("a");
        for name in ["a", "b", "c"] {
            table.edit(slot, |item| *item == name, |_| (Some(name), ()));
        }
        table.edit(slot, |item| *item == "a", |before| (None, assert_eq!(before, Some("a"))));
        let found = ["a", "b", "c"].map(|name| table.find(slot, |item| *item == name).is_some());
        assert_eq!((found, table.len()), ([false, true, true], 2));
    }
}
