//! Two-step shutdown: first "take no more", then "end now".
//!
//! ```text
//! running ── start ──► draining ── force ──► ended
//!    └──────────────── force ──────────────────┘
//! ```
//! A child drains and ends with its parent, and may do so earlier alone: the process is the parent of its pods.

use tokio_util::sync::CancellationToken;

/// Both ends of a shutdown: whoever holds it may start it, and anyone may wait for its steps.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: CancellationToken,
    forced: CancellationToken,
}

impl Drain {
    /// A shutdown that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that follows this one, but may run ahead of it.
    pub fn child(&self) -> Self {
        Self { draining: self.draining.child_token(), forced: self.forced.child_token() }
    }

    /// Step one: take nothing new, let what runs finish. Repeating it changes nothing.
    pub fn start(&self) {
        self.draining.cancel();
    }

    /// Step two: end now. Implies step one.
    pub fn force(&self) {
        self.draining.cancel();
        self.forced.cancel();
    }

    /// Returns once step one has begun. Safe to drop and call again.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Returns once step two has begun. Safe to drop and call again.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Whether step one has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether step two has begun.
    pub fn is_forced(&self) -> bool {
        self.forced.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_follows_its_parent_but_not_the_reverse() {
        let parent = Drain::new();
        let child = parent.child();
        child.force();
        assert!(child.is_draining() && child.is_forced());
        assert!(!parent.is_draining() && !parent.is_forced());
        let other = parent.child();
        parent.start();
        other.draining().await;
        assert!(!other.is_forced());
        parent.force();
        other.forced().await;
    }
}
