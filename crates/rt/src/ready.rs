//! Is this process ready to serve? Named conditions, all of which must hold.
//!
//! In: each room sets its own condition. Out: the list of conditions that do not hold yet, for the readiness answer.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// All conditions of a process; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

/// One condition. It keeps its last value when dropped.
#[derive(Debug)]
pub struct Condition {
    name: &'static str,
    of: Readiness,
}

impl Readiness {
    /// No conditions: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A condition that does not hold yet. `name` is what the readiness answer shows.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.conditions.lock().insert(name, false);
        Condition { name, of: self.clone() }
    }

    /// The names of conditions that do not hold, sorted; empty means ready.
    pub fn pending(&self) -> Vec<&'static str> {
        self.conditions.lock().iter().filter(|(_, holds)| !**holds).map(|(name, _)| *name).collect()
    }
}

impl Condition {
    /// Says whether the condition holds now; it may change either way.
    pub fn set(&self, holds: bool) {
        self.of.conditions.lock().insert(self.name, holds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_condition_holds() {
        let ready = Readiness::new();
        let state = ready.condition("state manager");
        let proxy = ready.condition("proxy");
        assert_eq!(ready.pending(), ["proxy", "state manager"]);
        proxy.set(true);
        state.set(true);
        assert!(ready.pending().is_empty());
        proxy.set(false);
        assert_eq!(ready.pending(), ["proxy"]);
    }
}
