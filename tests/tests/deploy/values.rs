//! The charts' values: each has its word of explanation, its place in the schema, and its row in `docs/install.md`.

use std::collections::BTreeSet;

use lateen_tests::deploy::{CHARTS, GATEWAY_CHARTS, root, text};
use serde_json::Value;

/// One value of a chart, as its file has it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: String,
    usual: String,
    meaning: String,
}

/// Reads a values file. Each value is one line below the comment that explains it; a line that ends in a colon opens a
/// section of indented ones.
fn entries(chart: &str) -> Vec<Entry> {
    let (mut found, mut section, mut meaning) = (Vec::new(), String::new(), Vec::new());
    for line in text(&format!("deploy/charts/{chart}/values.yaml")).lines() {
        let written = line.trim();
        if written.is_empty() {
            continue;
        }
        if let Some(comment) = written.strip_prefix("# ") {
            meaning.push(comment.to_owned());
            continue;
        }
        let explained = std::mem::take(&mut meaning).join(" ");
        let (name, usual) = written.split_once(':').unwrap_or_else(|| panic!("{chart}: {line:?} is no value"));
        let usual = usual.trim();
        let is_below = line.starts_with(' ');
        if usual.is_empty() {
            assert!(!is_below, "{chart}: {line:?} opens a section in a section; write it on one line");
            section = name.to_owned();
            continue;
        }
        assert!(!explained.is_empty(), "{chart}: no comment says what {name} is");
        let path = if is_below { format!("{section}.{name}") } else { name.to_owned() };
        found.push(Entry { path, usual: usual.to_owned(), meaning: explained });
    }
    found
}

#[test]
fn every_value_is_in_the_schema_and_nothing_else_is() {
    for chart in CHARTS.iter().chain(&GATEWAY_CHARTS).chain(&["lateen"]) {
        let schema: Value =
            serde_json::from_str(&text(&format!("deploy/charts/{chart}/values.schema.json"))).expect("JSON");
        let mut known = BTreeSet::new();
        collect(&schema, "", &mut known);
        // Not in the file: the umbrella's switch, and what is shared where nothing of it is used.
        known.remove("enabled");
        if *chart == "base" {
            known.remove("global");
        }
        let written: BTreeSet<String> = entries(chart).into_iter().map(|one| one.path).collect();
        assert_eq!(known, written, "{chart}");
        assert_eq!(schema["additionalProperties"], Value::Bool(false), "{chart}: a mistyped name would be passed over");
    }
}

/// The paths of a schema as deep as values files go.
fn collect(schema: &Value, section: &str, into: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let is_section = ["global", "certificates", "taint", "waypoint", "autoscaling"].contains(&name.as_str())
            || CHARTS.contains(&name.as_str());
        if section.is_empty() && is_section && below.get("properties").is_some() {
            collect(below, name, into);
        } else {
            into.insert(if section.is_empty() { name.clone() } else { format!("{section}.{name}") });
        }
    }
}

#[test]
fn what_charts_share_is_the_same_in_all_of_them() {
    let shared = |chart: &str| -> Vec<Entry> {
        entries(chart).into_iter().filter(|one| one.path.starts_with("global.")).collect()
    };
    let schema = |chart: &str| -> Value {
        let schema: Value =
            serde_json::from_str(&text(&format!("deploy/charts/{chart}/values.schema.json"))).expect("JSON");
        schema["properties"]["global"].clone()
    };
    for chart in ["controller", "cni", "ztunnel"] {
        assert_eq!(shared(chart), shared("lateen"), "{chart}");
        assert_eq!(schema(chart), schema("lateen"), "{chart}");
    }
}

const BEGIN: &str = "<!-- values:begin (written from the charts by `make docs-values`) -->\n";
const END: &str = "<!-- values:end -->";

#[test]
fn the_documentation_lists_every_value() {
    let kept = text("docs/install.md");
    assert!(kept == documented(&kept), "the tables of docs/install.md differ from the charts; run `make docs-values`");
}

#[test]
#[ignore = "writes the tables of docs/install.md; run it by `make docs-values`"]
fn write_docs() {
    std::fs::write(root().join("docs/install.md"), documented(&text("docs/install.md"))).expect("writable");
}

fn documented(page: &str) -> String {
    let (before, rest) = page.split_once(BEGIN).expect("the mark where the tables begin");
    let (_, after) = rest.split_once(END).expect("the mark where they end");
    let mut tables = table("Shared by all charts", "lateen", |path| path.starts_with("global."));
    for chart in CHARTS {
        tables += &table(&format!("`{chart}`"), chart, |path| !path.starts_with("global."));
    }
    for chart in GATEWAY_CHARTS {
        tables += &table(&format!("`{chart}`"), chart, |_| true);
    }
    tables += &table("`lateen`, the umbrella", "lateen", |path| !path.starts_with("global."));
    format!("{before}{BEGIN}{tables}\n{END}{after}")
}

fn table(title: &str, chart: &str, is_in: impl Fn(&str) -> bool) -> String {
    let mut table = format!("\n### {title}\n\n| value | default | what it is |\n| --- | --- | --- |\n");
    for one in entries(chart).iter().filter(|one| is_in(&one.path)) {
        table += &format!("| `{}` | `{}` | {} |\n", one.path, one.usual, one.meaning.replace('|', "\\|"));
    }
    table
}
