//! What `docs/conformance` says of the Gateway API's conformance suite is what the suite's reports say.
//!
//! In: the reports, the page beside them, what the suite is told (`tests/conformance`), what a GatewayClass publishes. Out: one failure
//! with all that is not so. Absent on purpose: running the suite; that is `make conformance`'s.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The names of the reports: `mesh`, `gateway`.
fn parts() -> Vec<String> {
    let directory = root().join("docs/conformance");
    let entries = fs::read_dir(directory).expect("docs/conformance").flatten();
    let found = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()));
    found.collect()
}

/// What a report says of one profile.
fn profile_is_sound(profile: &Value, page: &str, wrong: &mut Vec<String>) {
    let name = profile["name"].as_str().unwrap_or("a profile without a name");
    if profile["core"]["result"] != "success" {
        wrong.push(format!("{name}: the core result is {}", profile["core"]["result"]));
    }
    for level in ["core", "extended"] {
        for failed in names(&profile[level]["failedTests"]) {
            wrong.push(format!("{name}: {failed} failed"));
        }
        for unclaimed in names(&profile[level]["skippedTests"]).union(&names(&profile[level]["unsupportedFeatures"])) {
            if !page.contains(&format!("`{unclaimed}`")) {
                wrong.push(format!(
                    "{name}: {unclaimed} is not claimed, and docs/conformance/README.md does not say why"
                ));
            }
        }
    }
}

#[test]
fn the_page_says_what_the_reports_say() {
    let (page, module) = (text("docs/conformance/README.md"), text("tests/conformance/go.mod"));
    let (parts, mut wrong) = (parts(), Vec::new());
    assert!(!parts.is_empty(), "docs/conformance holds no report; make conformance writes them");
    for part in &parts {
        let report = yaml(&format!("docs/conformance/{part}.yaml"));
        let version = report["gatewayAPIVersion"].as_str().unwrap_or_default();
        if !module.contains(&format!("sigs.k8s.io/gateway-api/conformance {version}\n")) {
            wrong.push(format!(
                "{part}: the report is of {version:?}, go.mod names another; make conformance writes it anew"
            ));
        }
        let profiles = report["profiles"].as_array().cloned().unwrap_or_default();
        let told: BTreeSet<_> = profiles.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        let asked = names(&yaml(&format!("tests/conformance/{part}.yaml"))["conformanceProfiles"]);
        if told != asked {
            wrong.push(format!("{part}: asked for {asked:?}, the report is of {told:?}"));
        }
        for profile in &profiles {
            profile_is_sound(profile, &page, &mut wrong);
        }
        for name in told.iter().filter(|name| !page.contains(*name)) {
            wrong.push(format!("docs/conformance/README.md does not name {name}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
