//! What was let in is asked for again whenever policies change, as long as it lasts.
//!
//! In: how a book judges it. Out: the moment it is refused, and why. Absent on purpose: what is done then.

use std::time::Duration;

use lateen_policy::l7::{Refusal, Verdict};

use crate::book::{Book, BookStore};

/// How long a policy that is named may be missing before what was let in earlier is cut for it. Whoever takes a policy
/// away, or renames it, makes it miss for a moment.
const MISSING_TIMEOUT: Duration = Duration::from_secs(5);

/// How something that was let in stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It would be let in.
    Passes,
    /// It would not, because a policy is not there (yet).
    Undecided(String),
    /// It would not.
    Refused(String),
}

impl Standing {
    /// What a verdict means for what is there. A refusal is counted where it is meant to end something.
    pub fn of(verdict: &Verdict<'_>) -> Self {
        match verdict.refusal() {
            None => Self::Passes,
            Some(refusal @ (Refusal::Missing(_) | Refusal::Unreadable(_))) => Self::Undecided(refusal.to_string()),
            Some(refusal @ (Refusal::Denied(_) | Refusal::NoneAllowed)) => {
                crate::report::judged(verdict);
                Self::Refused(refusal.to_string())
            }
        }
    }
}

/// Returns once `stands` refuses; says why.
pub async fn until_refused(books: &BookStore, stands: impl Fn(&Book) -> Standing) -> String {
    let mut changes = books.subscribe();
    let mut missing_since = None;
    loop {
        // Subscribed before looking, so that no change slips between.
        let changed = match stands(&books.load()) {
            Standing::Refused(why) => return why,
            Standing::Passes => {
                missing_since = None;
                changes.changed().await
            }
            Standing::Undecided(why) => {
                let end = *missing_since.get_or_insert_with(tokio::time::Instant::now) + MISSING_TIMEOUT;
                match tokio::time::timeout_at(end, changes.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => return why,
                }
            }
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_missing_policy_ends_nothing_at_once() {
        let (books, state) = (BookStore::default(), AtomicU8::new(0));
        let stands = |_: &Book| match state.load(Ordering::Relaxed) {
            0 => Standing::Passes,
            1 => Standing::Undecided("missing".to_owned()),
            _ => Standing::Refused("denied".to_owned()),
        };
        let set = |to| {
            state.store(to, Ordering::Relaxed);
            books.apply([]);
        };
        let moment = MISSING_TIMEOUT * 9 / 10;
        let mut lasting = Box::pin(until_refused(&books, stands));
        for to in [1, 0, 1, 1] {
            set(to);
            assert!(tokio::time::timeout(moment / 2, &mut lasting).await.is_err(), "{to}");
        }
        set(0);
        assert!(tokio::time::timeout(moment, &mut lasting).await.is_err());
        set(2);
        assert_eq!(lasting.await, "denied");
        set(1);
        assert_eq!(until_refused(&books, stands).await, "missing");
    }
}
