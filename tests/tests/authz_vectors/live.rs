//! Vectors 33 and 34: connections that are open when policies change. A connection is re-decided for the destination
//! as it was when the connection was made.

use serde_json::json;

use crate::{
    mesh::{Call, Expect, Joined, outcome, verdict},
    vectors::policy,
};

#[test]
fn vector_33_a_namespace_policy_reaches_open_connections() {
    let mut joined = Joined::with_d(false);
    let (then, call) = (joined.d(), Call::new("W:80"));
    assert_eq!(outcome(&verdict(&joined.world(), &then, &call)), Expect::Allow);
    joined.apply(&policy("deny", json!({ "action": "DENY", "rules": [{}] })));
    assert_eq!(outcome(&verdict(&joined.world(), &then, &call)), Expect::Denied);
}

#[test]
fn vector_34_a_newly_attached_policy_reaches_new_connections() {
    let mut joined = Joined::with_d(false);
    let (then, call) = (joined.d(), Call::new("W:80"));
    let selector = json!({ "matchLabels": { "app": "d" } });
    joined.apply(&policy("deny", json!({ "selector": selector, "action": "DENY", "rules": [{}] })));
    assert_eq!(outcome(&verdict(&joined.world(), &then, &call)), Expect::Allow, "as it was then");
    assert_eq!(outcome(&joined.verdict(&call)), Expect::Denied, "as it is now");
}
