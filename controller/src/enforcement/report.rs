//! What one controller tells the one that leads of the proxies connected to it.
//!
//! In: counts of the own proxies. Out: the same as text, and the sum of what all controllers count.
//! A controller that has not seen a policy's newest generation has no proxy that holds it. Absent on purpose: how
//! reports travel (see `share`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NAMED_MAX;
use crate::{derive::enforced::Count, graph::Object};

/// One controller's counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who counts: a controller's pod.
    #[serde(skip)]
    pub from: String,
    /// Proxies connected to it.
    pub connected: usize,
    /// What it knows of each policy that proxies enforce.
    pub policies: BTreeMap<String, Line>,
}

/// What is known of one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The generation that is counted.
    pub generation: i64,
    /// Proxies that are to enforce it, where these are not simply all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<usize>,
    /// Proxies that hold it.
    pub holding: usize,
    /// The first few that do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// One that could not use it, and its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<(String, String)>,
}

impl Report {
    /// Adds the own count of a policy.
    pub fn put(&mut self, object: &Object, generation: i64, count: Count) {
        let Count { connected, holding, waiting, rejected, gateways: _ } = count;
        let connected = (connected != self.connected).then_some(connected);
        self.policies.insert(object.to_string(), Line { generation, connected, holding, waiting, rejected });
    }

    /// Adds what is reported of a policy to what was counted elsewhere.
    pub fn add_to(&self, count: &mut Count, object: &Object, generation: i64) {
        let line = self.policies.get(&object.to_string()).filter(|line| line.generation == generation);
        count.connected += line.and_then(|line| line.connected).unwrap_or(self.connected);
        match line {
            Some(line) => {
                count.holding += line.holding;
                count.waiting.extend(line.waiting.iter().cloned());
                count.rejected = count.rejected.take().or_else(|| line.rejected.clone());
            }
            None if self.connected > 0 => count.waiting.push(format!("the proxies of {}", self.from)),
            None => {}
        }
        count.waiting.truncate(NAMED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use lateen_cluster::store::Key;

    use super::*;
    use crate::graph::Kind;

    #[test]
    fn controllers_add_up() {
        let object = Object { kind: Kind::AuthorizationPolicy, key: Key::new("shop", "p") };
        let own = Count { connected: 2, holding: 2, ..Count::default() };
        let theirs = |generation| {
            let mut report = Report { from: "c2".to_owned(), connected: 3, ..Report::default() };
            let waiting = vec!["z5".to_owned()];
            report.put(&object, generation, Count { connected: 3, holding: 2, waiting, ..Count::default() });
            let text = serde_json::to_string(&report).expect("text");
            Report { from: "c2".to_owned(), ..serde_json::from_str(&text).expect("the same") }
        };
        let sum = |report: &Report, generation| {
            let mut sum = own.clone();
            report.add_to(&mut sum, &object, generation);
            (sum.connected, sum.holding, sum.waiting)
        };
        assert_eq!(sum(&theirs(7), 7), (5, 4, vec!["z5".to_owned()]));
        // Who counts another generation, or has not seen the policy, has nobody who holds it.
        assert_eq!(sum(&theirs(6), 7), (5, 2, vec!["the proxies of c2".to_owned()]));
        let blind = Report { policies: BTreeMap::new(), ..theirs(7) };
        assert_eq!(sum(&blind, 7), (5, 2, vec!["the proxies of c2".to_owned()]));
        let idle = Report { connected: 0, ..blind };
        assert_eq!(sum(&idle, 7), (2, 2, Vec::new()));
    }
}
