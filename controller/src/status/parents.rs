//! The status of routes of the Gateway API: an entry for each parent, beside those of other controllers; and of policies,
//! which have one for each ancestor.
//!
//! The list is one value to the API server, so it is read and written as a whole, under the version that was read.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use lateen_cluster::api::StatusCondition;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::wanted;
use crate::{facts, graph::Told};

/// Where entries are, and what in each says of whom it is.
pub(super) struct List {
    name: &'static str,
    reference: &'static str,
    /// As many entries as the Gateway API takes, of all controllers together.
    entries_max: usize,
}

/// Of a route.
pub(super) const PARENTS: List = List { name: "parents", reference: "parentRef", entries_max: 32 };
/// Of a policy.
pub(super) const ANCESTORS: List = List { name: "ancestors", reference: "ancestorRef", entries_max: 16 };

/// Writes what is told of the parents, where it differs from what is there.
pub(super) async fn write(api: &Api<DynamicObject>, told: &Told, list: &List) -> Result<(), kube::Error> {
    let name = &told.object.key.name;
    let object = api.get_status(name).await?;
    let held = object.data.get("status").and_then(|status| status.get(list.name)).and_then(Value::as_array);
    let held: Vec<Value> = held.cloned().unwrap_or_default();
    let new = merged(&held, told, list);
    if new == held {
        return Ok(());
    }
    let patch = json!({
        "metadata": {"resourceVersion": object.metadata.resource_version},
        "status": {list.name: new},
    });
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}

/// Others' entries as they are, then ours.
fn merged(held: &[Value], told: &Told, list: &List) -> Vec<Value> {
    let is_ours = |one: &&Value| one["controllerName"].as_str().is_some_and(facts::is_controller);
    let (ours, others): (Vec<&Value>, Vec<&Value>) = held.iter().partition(is_ours);
    let room = list.entries_max.saturating_sub(others.len());
    let made = told.parents.iter().take(room).map(|parent| {
        let reference = json!(parent.reference);
        let before = ours.iter().find(|one| one[list.reference] == reference).map(|one| one["conditions"].clone());
        let before: Vec<StatusCondition> = Vec::deserialize(before.unwrap_or_default()).unwrap_or_default();
        let conditions: Vec<StatusCondition> = parent.words.iter().map(|word| wanted(told, word, &before)).collect();
        json!({list.reference: reference, "controllerName": parent.controller, "conditions": conditions})
    });
    others.into_iter().cloned().chain(made).collect()
}

#[cfg(test)]
mod tests {
    use lateen_cluster::{api::ParentRef, store::Key};

    use super::*;
    use crate::{
        derive::word::{Truth, Word},
        facts::{CONTROLLER, RouteKind},
        graph::{Kind, Object, ParentTold, Reporter},
    };

    #[test]
    fn entries_of_others_stay_and_ours_are_replaced() {
        let other = json!({"controllerName": "example.com/x", "parentRef": {"name": "g"}, "conditions": []});
        let old = json!({"controllerName": CONTROLLER, "parentRef": {"name": "gone"}, "conditions": []});
        let reference = ParentRef { name: "web".to_owned(), kind: Some("Service".to_owned()), ..ParentRef::default() };
        let word = Word { kind: "Accepted", truth: Truth::True, reason: "Accepted", message: "m".to_owned() };
        let object = Object { kind: Kind::Route(RouteKind::Http), key: Key::new("shop", "r") };
        let told = Told {
            generation: 4,
            parents: vec![ParentTold { reference, controller: CONTROLLER, words: vec![word] }],
            ..Told::new(object, Reporter::Parents)
        };
        let new = merged(&[old, other.clone()], &told, &PARENTS);
        assert_eq!((new.len(), &new[0]), (2, &other));
        assert_eq!(new[1]["parentRef"], json!({"kind": "Service", "name": "web"}));
        assert_eq!(new[1]["conditions"][0]["observedGeneration"], 4);
        assert_eq!(merged(&new, &told, &PARENTS), new, "said again it is the same");
        let full = vec![other; 16];
        assert_eq!(merged(&full, &told, &ANCESTORS), full, "one more, and the API would take none");
    }
}
