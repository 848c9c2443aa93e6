use serde_json::json;

use super::*;
use crate::registry::Registry;

fn target() -> Target {
    let resource = Registry::new().find("apps", "v1", "deployments").expect("built in");
    Target { resource, version: "v1".to_owned(), namespace: "n".to_owned(), name: "d".to_owned() }
}

fn shape() -> Request<'static> {
    Request { shape: Shape::Type("Deployment"), force: false }
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn created(target: &Target, manager: &str, spec: Value) -> Value {
    let writer = Writer { target, manager, part: Part::Main };
    let mut object = config(spec);
    let owned = first_entry(&writer, &object, shape().shape);
    object::set(&mut object, &["metadata", "managedFields"], owned);
    object
}

#[test]
fn an_apply_removes_what_it_no_longer_says_and_keeps_what_others_own() {
    let target = target();
    let live = created(
        &target,
        "a",
        json!({"replicas": 1, "paused": true, "template": {"spec": {"containers": [{"name": "x", "image": "1"}, {"name": "y"}]}}}),
    );
    let other = Writer { target: &target, manager: "b", part: Part::Main };
    let spec = json!({"template": {"spec": {"containers": [{"name": "y", "image": "2"}]}}});
    let live = apply(&other, &live, &config(spec), shape()).expect("no conflict");
    let writer = Writer { target: &target, manager: "a", part: Part::Main };
    let merged = apply(&writer, &live, &config(json!({"replicas": 2})), shape()).expect("no conflict");
    assert_eq!(
        merged["spec"],
        json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "y", "image": "2"}]}}})
    );
    assert_eq!(managers_of(&merged).len(), 2);
}

#[test]
fn a_conflict_names_the_owner_and_force_takes_the_field() {
    let target = target();
    let live = created(&target, "first", json!({"replicas": 1}));
    let writer = Writer { target: &target, manager: "second", part: Part::Main };
    let error = apply(&writer, &live, &config(json!({"replicas": 2})), shape()).expect_err("a conflict");
    assert_eq!(error.code, 409);
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"first\": .spec.replicas");
    assert_eq!(error.details["causes"][0]["field"], ".spec.replicas");
    let same = apply(&writer, &live, &config(json!({"replicas": 1})), shape()).expect("shared ownership");
    assert_eq!(managers_of(&same).len(), 2);
    let forced =
        apply(&writer, &live, &config(json!({"replicas": 2})), Request { force: true, ..shape() }).expect("forced");
    assert_eq!(forced["spec"]["replicas"], 2);
    let owners: Vec<String> = managers_of(&forced).into_iter().map(|manager| manager.name).collect();
    assert_eq!(owners, ["second"]);
}

#[test]
fn several_conflicts_are_listed_by_owner() {
    let target = target();
    let mut live = created(&target, "first", json!({"replicas": 1}));
    let old = live.clone();
    live["spec"]["paused"] = true.into();
    track(&Writer { target: &target, manager: "kubectl-edit", part: Part::Main }, Some(&old), &mut live);
    let writer = Writer { target: &target, manager: "second", part: Part::Main };
    let error =
        apply(&writer, &live, &config(json!({"replicas": 2, "paused": false})), shape()).expect_err("conflicts");
    assert!(error.message.starts_with("Apply failed with 2 conflicts: conflicts with \"first\":\n- .spec.replicas\nconflicts with \"kubectl-edit\" using apps/v1 at "), "{}", error.message);
    assert!(error.message.ends_with(":\n- .spec.paused"), "{}", error.message);
}

#[test]
fn an_update_takes_what_it_changes_and_forgets_what_is_gone() {
    let target = target();
    let old = created(&target, "first", json!({"replicas": 1, "paused": true}));
    let mut new = old.clone();
    new["spec"] = json!({"replicas": 5});
    track(&Writer { target: &target, manager: "hpa", part: Part::Main }, Some(&old), &mut new);
    let managers = managers_of(&new);
    assert_eq!(managers.len(), 1, "the first owns nothing any more: {managers:?}");
    assert_eq!((managers[0].name.as_str(), managers[0].fields.len()), ("hpa", 1));
}

#[test]
fn the_list_of_updaters_is_bounded() {
    let target = target();
    let mut object = config(json!({"template": {"metadata": {"labels": {"a": "b"}}}}));
    for number in 0..30 {
        let old = object.clone();
        object::set(&mut object, &["metadata", "labels", &format!("l{number}")], "x");
        track(&Writer { target: &target, manager: &format!("m{number}"), part: Part::Main }, Some(&old), &mut object);
    }
    assert_eq!(managers_of(&object).len(), UPDATERS_MAX);
    assert!(managers_of(&object).iter().any(|manager| manager.name == ANCIENT));
}
