//! What of a policy proxies can enforce, and whether they do: the condition `Enforced`.
//!
//! In: what of the policy can be enforced, how many proxies hold it. Out: the condition.

use lateen_cluster::store::Key;

use super::word::{Truth, Word};

/// What of a policy can be enforced at L4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforceable {
    /// All of it.
    Whole,
    /// Not these fields, `path: why` each.
    Without(Vec<String>),
    /// Nothing, because of these fields.
    Nothing(Vec<String>),
    /// Nothing here: waypoints enforce it, but for these fields.
    AtWaypoint(Vec<String>),
    /// Nothing, because another one of its level is older.
    Overridden(Key),
}

/// What is known of the proxies at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Connected.
    pub connected: usize,
    /// Of these, hold the newest state.
    pub holding: usize,
    /// The first few that do not, by their names.
    pub waiting: Vec<String>,
    /// A proxy that could not use it, and its words.
    pub rejected: Option<(String, String)>,
    /// Gateways it is sent to, because it names them or selects their pods.
    pub gateways: usize,
}

/// The condition's type.
pub const ENFORCED: &str = "Enforced";

/// The condition.
pub fn word(what: &Enforceable, count: &Count) -> Word {
    let said = |truth, reason, message: String| Word { kind: ENFORCED, truth, reason, message };
    let proxies = format!("{} of {} connected proxies", count.holding, count.connected);
    match what {
        Enforceable::AtWaypoint(_) if count.gateways == 0 => {
            let message = "it has targets, and no waypoint is sent it yet; WaypointAccepted says how they are bound";
            return said(Truth::Unknown, "AtWaypoint", message.to_owned());
        }
        Enforceable::AtWaypoint(_) if count.connected == 0 => {
            let message = "no proxy of its waypoint is connected to any controller";
            return said(Truth::Unknown, "NoProxies", message.to_owned());
        }
        Enforceable::Nothing(fields) if count.gateways == 0 => {
            let message = format!("not in force, because of {}", fields.join("; "));
            return said(Truth::False, "NotEnforceable", message);
        }
        Enforceable::Overridden(by) => {
            return said(Truth::False, "Overridden", format!("not in force: {by} is older and holds at this level"));
        }
        Enforceable::Whole | Enforceable::Without(_) | Enforceable::Nothing(_) | Enforceable::AtWaypoint(_) => {}
    }
    if let Some((proxy, words)) = &count.rejected {
        return said(Truth::False, "Rejected", format!("in force at {proxies}; {proxy} rejected it: {words}"));
    }
    if count.connected == 0 {
        return said(Truth::Unknown, "NoProxies", "no proxy is connected to any controller".to_owned());
    }
    if count.holding < count.connected {
        let message = format!("in force at {proxies}; waiting for {}", count.waiting.join(", "));
        return said(Truth::False, "Pending", message);
    }
    match what {
        // Gateways understand all of it, and are what such a policy is for.
        Enforceable::Without(fields) | Enforceable::Nothing(fields) if count.gateways > 0 => {
            let message = format!(
                "in force at {proxies}; at other pods that it selects node proxies enforce it without {}",
                fields.join("; ")
            );
            said(Truth::True, "InForceAtGateways", message)
        }
        Enforceable::Without(fields) | Enforceable::AtWaypoint(fields) if !fields.is_empty() => {
            let message = format!("in force at {proxies}, but without {}", fields.join("; "));
            said(Truth::False, "PartlyEnforceable", message)
        }
        Enforceable::Whole
        | Enforceable::Without(_)
        | Enforceable::Nothing(_)
        | Enforceable::AtWaypoint(_)
        | Enforceable::Overridden(_) => said(Truth::True, "InForce", format!("in force at {proxies}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_force_means_all_of_it_everywhere() {
        let all = Count { connected: 2, holding: 2, ..Count::default() };
        let one = Count { holding: 1, waiting: vec!["z2".to_owned()], ..all.clone() };
        let rejected = Count { rejected: Some(("z2".to_owned(), "no".to_owned())), ..one.clone() };
        let fields = || vec!["spec.a: b".to_owned()];
        let check = |what: &Enforceable, count: &Count, truth: Truth, reason: &str, part: &str| {
            let word = word(what, count);
            assert_eq!((word.truth, word.reason), (truth, reason), "{what:?} {count:?}");
            assert!(word.message.contains(part), "{part:?} is not in {:?}", word.message);
        };
        check(&Enforceable::Whole, &all, Truth::True, "InForce", "2 of 2");
        check(&Enforceable::Whole, &one, Truth::False, "Pending", "z2");
        check(&Enforceable::Whole, &rejected, Truth::False, "Rejected", "z2 rejected it: no");
        check(&Enforceable::Whole, &Count::default(), Truth::Unknown, "NoProxies", "no proxy");
        check(&Enforceable::Without(fields()), &all, Truth::False, "PartlyEnforceable", "spec.a: b");
        check(&Enforceable::Without(fields()), &one, Truth::False, "Pending", "1 of 2");
        check(&Enforceable::Nothing(fields()), &all, Truth::False, "NotEnforceable", "spec.a: b");
        let at_waypoint = Enforceable::AtWaypoint(Vec::new());
        let sent = |count: &Count| Count { gateways: 1, ..count.clone() };
        check(&at_waypoint, &Count::default(), Truth::Unknown, "AtWaypoint", "no waypoint");
        check(&at_waypoint, &sent(&Count::default()), Truth::Unknown, "NoProxies", "waypoint");
        check(&at_waypoint, &sent(&one), Truth::False, "Pending", "z2");
        check(&at_waypoint, &sent(&all), Truth::True, "InForce", "2 of 2");
        check(&Enforceable::AtWaypoint(fields()), &sent(&all), Truth::False, "PartlyEnforceable", "spec.a: b");
        check(&Enforceable::Without(fields()), &sent(&all), Truth::True, "InForceAtGateways", "without spec.a: b");
        check(&Enforceable::Nothing(fields()), &sent(&one), Truth::False, "Pending", "1 of 2");
        check(&Enforceable::Overridden(Key::new("n", "old")), &all, Truth::False, "Overridden", "n/old");
    }
}
