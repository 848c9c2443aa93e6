//! Equal values once: what thousands have in common, kept in one place and shared.
//!
//! In: a value. Out: an `Arc` of an equal one. What nobody else holds any more is dropped as the table grows, so it holds
//! at most twice what is in use (and a thousand more). Absent on purpose: comparing by pointer; equal is `Eq`.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// A table of shared values.
#[derive(Debug)]
pub struct Interner<T> {
    table: Mutex<Table<T>>,
}

#[derive(Debug)]
struct Table<T> {
    values: HashSet<Arc<T>>,
    prune_at: usize,
}

/// Below this many values nothing is looked through.
const PRUNE_MIN: usize = 1024;

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { table: Mutex::new(Table { values: HashSet::new(), prune_at: PRUNE_MIN }) }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// `value`, or the one equal to it that was shared before.
    pub fn share(&self, value: T) -> Arc<T> {
        // A panic elsewhere leaves the table whole: each step below is one call.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.values.get(&value) {
            return known.clone();
        }
        if table.values.len() >= table.prune_at {
            // Only the table can hand out the last one, and it is locked.
            table.values.retain(|value| Arc::strong_count(value) > 1);
            table.prune_at = (2 * table.values.len()).max(PRUNE_MIN);
            let room = table.prune_at;
            table.values.shrink_to(room);
        }
        let new = Arc::new(value);
        table.values.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_holds_is_forgotten() {
        let words: Interner<String> = Interner::default();
        let kept = words.share("kept".into());
        assert!(Arc::ptr_eq(&kept, &words.share("kept".into())));
        for number in 0..10 * PRUNE_MIN {
            words.share(number.to_string());
        }
        assert!(words.table.lock().expect("whole").values.len() <= PRUNE_MIN);
        assert!(Arc::ptr_eq(&kept, &words.share("kept".into())), "what is held stays");
    }
}
