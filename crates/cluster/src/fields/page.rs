//! `docs/supported-fields.md`, written from what is said of each field.

use std::path::PathBuf;

use super::{Standing, list::paths, routes, standing};
use crate::crds;

const INTRODUCTION: &str = "\
# What becomes of each field

Of every kind that the mesh reads: which fields do what they say, which do nothing and why, and which are not done and what to
write in their place. This page is written from the same table that the webhook and `lateen validate` warn by and that objects'
conditions name (`crates/cluster/src/fields`); a test fails when it differs. What lies within a field shares its fate.

What a waypoint does with a VirtualService, a DestinationRule or a route of the Gateway API is told in its status:
`lateen.io/Accepted`, `lateen.io/ResolvedRefs`, `lateen.io/UnsupportedFields`, `lateen.io/Replaced`, and of the Gateway API's
routes an entry for each parent; a Gateway's listeners have an entry each. Routes of the Gateway API and VirtualServices act at
waypoints, where their parent is a Service or a ServiceEntry, or their gateways name `mesh`; and at gateways, where they name a
Gateway of class `istio` or `lateen`, or one of Istio's own kind that selects the pods of such a gateway.
";

/// Kinds that something acts on, and those of the same groups that are kept only.
const KINDS: [(&str, &str); 19] = [
    ("networking.istio.io", "VirtualService"),
    ("networking.istio.io", "DestinationRule"),
    (routes::GROUP, "HTTPRoute"),
    (routes::GROUP, "GRPCRoute"),
    (routes::GROUP, "TLSRoute"),
    (routes::GROUP, "TCPRoute"),
    (routes::GROUP, "ReferenceGrant"),
    (routes::GROUP, "Gateway"),
    (routes::GROUP, "BackendTLSPolicy"),
    ("networking.istio.io", "ServiceEntry"),
    ("networking.istio.io", "WorkloadEntry"),
    ("security.istio.io", "AuthorizationPolicy"),
    ("security.istio.io", "PeerAuthentication"),
    ("networking.istio.io", "Gateway"),
    ("networking.istio.io", "Sidecar"),
    ("networking.istio.io", "WorkloadGroup"),
    ("networking.istio.io", "ProxyConfig"),
    ("security.istio.io", "RequestAuthentication"),
    ("telemetry.istio.io", "Telemetry"),
];

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/supported-fields.md")
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (group, kind) in KINDS {
        page.push_str(&format!("\n## {kind} ({group})\n\n"));
        if crds::is_later(group, kind) {
            page.push_str("Nothing acts on it yet; it is judged and kept, and the webhook warns.\n");
            continue;
        }
        page.push_str("| field | what becomes of it |\n| --- | --- |\n");
        let mut settled: Option<String> = None;
        for path in paths(group, kind) {
            let within =
                |above: &String| path.starts_with(&format!("{above}.")) || path.starts_with(&format!("{above}["));
            if settled.as_ref().is_some_and(within) {
                continue;
            }
            let words = match standing(kind, &path) {
                Standing::Supported => "supported".to_owned(),
                Standing::Ignored(why) => format!("ignored: {why}"),
                Standing::Refused(instead) => format!("refused: {instead}"),
            };
            if words != "supported" {
                settled = Some(path.clone());
            }
            page.push_str(&format!("| `{path}` | {words} |\n"));
        }
    }
    page
}

#[test]
fn the_page_says_what_is_so() {
    let kept = std::fs::read_to_string(file()).unwrap_or_default();
    let differs = "docs/supported-fields.md differs from what is so; write it anew with: cargo test -p lateen-cluster -- \
                   --ignored write_supported_fields";
    assert!(kept == page(), "{differs}");
}

#[test]
#[ignore = "writes docs/supported-fields.md; run it by name after changing a field's standing"]
fn write_supported_fields() {
    std::fs::write(file(), page()).expect("writable");
}
