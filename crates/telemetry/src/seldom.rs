//! Warnings that anybody could cause as often as he likes: said once in a while, with how many like it were left out.
//!
//! In: what a warning is about. Out: whether to say it now. Absent on purpose: saying it, and counting what metrics count.

use std::{collections::HashMap, fmt, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the same is not said again.
pub const EVERY: Duration = Duration::from_secs(10);
/// Different things that are remembered. What there is no place for is one thing together.
const KEPT_MAX: usize = 256;

/// What was said.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<HashMap<Box<str>, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    left_out: u64,
}

/// How many were left out since the last one, for the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(pub u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more since this was said last)"),
        }
    }
}

impl Seldom {
    /// Whether what is said of `what` is to be said now, and how many like it were not.
    pub fn again(&self, what: &str) -> Option<LeftOut> {
        let now = Instant::now();
        let mut all = self.0.lock();
        let what = match all.contains_key(what) || all.len() < KEPT_MAX {
            true => what,
            false => {
                all.retain(|_, said| now.duration_since(said.at) < EVERY);
                if all.len() < KEPT_MAX { what } else { "" }
            }
        };
        let Some(said) = all.get_mut(what) else {
            all.insert(what.into(), Said { at: now, left_out: 0 });
            return Some(LeftOut(0));
        };
        if now.duration_since(said.at) < EVERY {
            said.left_out += 1;
            return None;
        }
        said.at = now;
        Some(LeftOut(std::mem::take(&mut said.left_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_in_a_while_and_what_was_left_out_is_counted() {
        let seldom = Seldom::default();
        assert_eq!(seldom.again("a"), Some(LeftOut(0)));
        assert_eq!(seldom.again("b"), Some(LeftOut(0)), "of something else nothing was said");
        for _ in 0..3 {
            assert_eq!(seldom.again("a"), None);
        }
        tokio::time::sleep(EVERY).await;
        assert_eq!(seldom.again("a"), Some(LeftOut(3)));
        assert_eq!(seldom.again("a"), None);
        assert_eq!(
            (LeftOut(0).to_string().as_str(), LeftOut(2).to_string().as_str()),
            ("", " (2 more since this was said last)")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_remembers_so_much_and_no_more() {
        let seldom = Seldom::default();
        for number in 0..10 * KEPT_MAX {
            seldom.again(&number.to_string());
        }
        assert!(seldom.0.lock().len() <= KEPT_MAX + 1);
        assert_eq!(seldom.again("new"), None, "there are too many to tell them apart");
        tokio::time::sleep(EVERY).await;
        assert!(seldom.again("new").is_some());
    }
}
