//! Whether anybody still needs an identity.
//!
//! In: who wanted it, and how. Out: whether it is worth another request. Without this an identity that was asked for once
//! (by the last connection of a pod that was leaving, say) would be renewed for ever.

use std::sync::atomic::{AtomicBool, Ordering};

/// Changed and read under the keeper's lock, so that nobody asks between the look and the end.
#[derive(Debug, Default)]
pub struct Need {
    /// Wanted until it is forgotten.
    lasting: AtomicBool,
    /// Somebody asked since [`Need::answered`].
    asked: AtomicBool,
}

impl Need {
    /// It is kept until it is forgotten.
    pub fn last(&self) {
        self.lasting.store(true, Ordering::Relaxed);
    }

    /// Somebody needs it now, and perhaps again.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Those who asked have what they wanted, or know that there is nothing.
    pub fn answered(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    /// Whether a further request serves anybody.
    pub fn remains(&self) -> bool {
        self.lasting.load(Ordering::Relaxed) || self.asked.load(Ordering::Relaxed)
    }
}
