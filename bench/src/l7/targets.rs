//! What the numbers should come to. Pure.

use super::measures::{EACH, HALF, HELD, IDLE, MANY, PLAIN, RATE_RATIO, ROUTES};
use crate::{
    config::{OURS, PEER},
    results::Results,
    target::{Bound, Target, Test, Verdict},
};

/// All targets, in the order of tables.
pub(crate) fn all() -> Vec<Target> {
    let peers = Test::Ratio(OURS, PEER);
    [
        (PLAIN, "rate", peers, Bound::AtLeast(2.5)),
        (PLAIN, "CPU of the proxies", peers, Bound::AtMost(0.4)),
        (HALF, "p99", peers, Bound::AtMost(0.5)),
        (ROUTES, RATE_RATIO, Test::Value, Bound::AtLeast(0.95)),
        (IDLE, "RSS", Test::Value, Bound::AtMost(15.0)),
        (HELD, EACH, Test::Value, Bound::AtMost(8192.0)),
        (MANY, "RSS", peers, Bound::AtMost(0.5)),
    ]
    .map(|(measure, what, test, bound)| Target { measure: measure.to_owned(), what, test, bound })
    .into()
}

/// How all of them fare.
pub(crate) fn verdicts(results: &Results) -> Vec<Verdict> {
    all().into_iter().map(|target| Verdict { fate: target.fate(results), target }).collect()
}
