//! Every row of the list of invalid inputs, with the exact words; and valid inputs with none.

mod cases;

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
    let single = ["S2", "S3", "S3b", "S4", "S5", "S6", "S6b", "S7", "S8", "S8b", "S8c", "S8d"].map(str::to_owned);
    let range = |letter: &str, last: u32| (1..=last).map(move |row| format!("{letter}{row}")).collect::<Vec<_>>();
    let rows = range("C", 15).into_iter().chain(range("A", 30)).chain(range("P", 4)).chain(range("W", 5)).chain(single);
    let missing: Vec<String> = rows
        .chain(range("S", 15))
        .filter(|row| !cases.iter().any(|case| case.row == *row && !case.finds.is_empty()))
        .collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

#[test]
fn any_shape_is_looked_at_without_a_panic() {
    let shapes = [json!(null), json!([]), json!("x"), json!(1), json!([null]), json!({"a": [{"b": null}]})];
    for kind in ["AuthorizationPolicy", "PeerAuthentication", "ServiceEntry", "WorkloadEntry", "Gateway"] {
        for shape in &shapes {
            for field in
                ["selector", "rules", "ports", "endpoints", "hosts", "portLevelMtls", "targetRefs", "listeners"]
            {
                for group in ["security.istio.io/v1", "networking.istio.io/v1", "gateway.networking.k8s.io/v1"] {
                    let spec = json!({field: shape, "gatewayClassName": "istio-waypoint"});
                    review(&json!({"apiVersion": group, "kind": kind, "metadata": shape, "spec": spec}));
                    review(&json!({"apiVersion": group, "kind": kind, "metadata": {"labels": shape}, "spec": shape}));
                }
            }
        }
    }
    shapes.iter().for_each(|shape| drop(review(shape)));
}
