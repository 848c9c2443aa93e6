//! Routes that no request can reach: V34.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::validate::at::{At, Report};

/// The more routes, the more there is to compare.
const MATCHES_MAX: usize = 10_000;

pub(super) fn check(spec: &At<'_>, routes: &str, report: &mut Report) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut all: Option<String> = None;
    for route in spec.list(routes).iter().filter(|route| !route.value.is_null()) {
        if let Some(earlier) = &all {
            let reason = format!("{earlier} takes everything before it");
            report.warn(&route.path, reason, "move it up, or remove it");
            continue;
        }
        let matches = route.list("match");
        for one in matches.iter().take(MATCHES_MAX.saturating_sub(seen.len())) {
            let conditions = conditions(one.value);
            if let Some(earlier) = seen.get(&conditions) {
                let reason = format!("{earlier} takes the same requests before it");
                report.warn(&one.path, reason, "change one of them, or remove it");
            } else {
                seen.insert(conditions, one.path.clone());
            }
        }
        let catching = matches.iter().find(|one| is_catch_all(one.value));
        all = match catching {
            Some(one) => Some(one.path.clone()),
            None => matches.is_empty().then(|| route.path.clone()),
        };
    }
}

/// What a match asks, without its name.
fn conditions(one: &Value) -> String {
    let mut asked = one.clone();
    if let Some(members) = asked.as_object_mut() {
        for word in ["name", "statPrefix"] {
            members.remove(word);
        }
    }
    asked.to_string()
}

fn is_catch_all(one: &Value) -> bool {
    let Some(members) = one.as_object() else { return false };
    members.iter().filter(|(key, value)| !value.is_null() && *key != "name" && *key != "statPrefix").all(
        |(key, value)| {
            let of = |kind: &str| value.get(kind).and_then(Value::as_str);
            key == "uri" && (of("prefix") == Some("/") || matches!(of("regex"), Some(".*" | "*")))
        },
    )
}
