//! Every row of the list of invalid inputs, with the exact words; and valid inputs with none.

mod cases;
mod page;

use serde_json::json;

use self::cases::cases;
use super::*;

#[test]
fn each_row_is_found_in_these_words() {
    let mut wrong = Vec::new();
    for (at, case) in cases().iter().enumerate() {
        let found: Vec<String> =
            review(&case.object()).iter().map(|one| format!("{} {one}", one.level.as_str())).collect();
        if found != case.finds {
            wrong.push(format!("case {at} ({}):\n  finds {found:#?}\n  not   {:#?}", case.row, case.finds));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_row_is_missing() {
    let cases = cases();
    // Of kinds without effect it is said each time that they have none.
    let is_of_rule = |finding: &String| !finding.starts_with("warning kind: ");
    let single = ["S2", "S3", "S3b", "S4", "S5", "S6", "S6b", "S7", "S8", "S8b", "S8c", "S8d"].map(str::to_owned);
    let range = |letter: &str, last: u32| (1..=last).map(move |row| format!("{letter}{row}")).collect::<Vec<_>>();
    let rows = range("C", 15).into_iter().chain(range("A", 30)).chain(range("P", 4)).chain(range("W", 5)).chain(single);
    let rows = rows.chain(range("R", 10)).chain(range("V", 36)).chain(range("D", 18)).chain(range("G", 15));
    let rows = rows.chain(range("WG", 3)).chain(range("X", 13)).chain(["X0".to_owned()]);
    let missing: Vec<String> = rows
        .chain(range("S", 15))
        .filter(|row| !cases.iter().any(|case| case.row == *row && case.finds.iter().any(&is_of_rule)))
        .collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn a_body_is_as_long_as_proxies_can_hold() {
    let found = |length: usize| {
        let response = json!({"status": 200, "body": {"string": "a".repeat(length)}});
        let spec = json!({"hosts": ["web"], "http": [{"directResponse": response}]});
        let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": spec});
        let found = review(&object).into_iter().find(|one| one.field.ends_with("body.string"));
        found.map(|one| one.level)
    };
    assert_eq!([found(100), found(200 << 10), found(2 << 20)], [None, Some(Level::Warning), Some(Level::Error)]);
}

/// Wherever any of our rules looks, there may be anything.
#[test]
fn any_shape_is_looked_at_without_a_panic() {
    let shapes =
        [json!(null), json!([]), json!("x"), json!(-1), json!([null]), json!({"a": [{"b": null}]}), json!([{}])];
    shapes.iter().for_each(|shape| drop(review(shape)));
    for case in cases() {
        let object = case.object();
        let judged = |place: &String| !["/kind", "/apiVersion"].contains(&place.as_str());
        for (at, place) in places(&object, "").into_iter().filter(judged).enumerate() {
            // Not all everywhere, but each in many places.
            for shape in shapes.iter().cycle().skip(at).take(3) {
                let mut other = object.clone();
                if let Some(value) = other.pointer_mut(&place) {
                    *value = shape.clone();
                }
                review(&other);
            }
        }
    }
}

/// The pointers of all values below one.
fn places(value: &Value, path: &str) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let paths = below.into_iter().flat_map(|(key, value)| {
        let path = format!("{path}/{key}");
        let inner = places(value, &path);
        std::iter::once(path).chain(inner)
    });
    paths.collect()
}
