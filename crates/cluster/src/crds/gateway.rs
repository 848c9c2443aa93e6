//! The Gateway API's kinds as a cluster without them needs them: for the lab, and for tests.
//!
//! In: the table below. Out: definitions that take what users write, keep all of it, and merge as the real ones do.
//! Absent on purpose: their validation. Real clusters bring the definitions of the Gateway API itself; ours never ship.

use serde_json::{Value, json};

/// The group of all of them.
const GROUP: &str = "gateway.networking.k8s.io";

struct Kind {
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    is_namespaced: bool,
    /// The first is stored.
    versions: &'static [&'static str],
    /// `name=path` of the columns before the age.
    columns: &'static [(&'static str, &'static str)],
}

const TABLE: [Kind; 9] = [
    Kind {
        kind: "GatewayClass",
        plural: "gatewayclasses",
        short: &["gc"],
        is_namespaced: false,
        versions: &["v1", "v1beta1"],
        columns: &[
            ("Controller", ".spec.controllerName"),
            ("Accepted", ".status.conditions[?(@.type==\"Accepted\")].status"),
        ],
    },
    Kind {
        kind: "Gateway",
        plural: "gateways",
        short: &["gtw"],
        is_namespaced: true,
        versions: &["v1", "v1beta1"],
        columns: &[
            ("Class", ".spec.gatewayClassName"),
            ("Address", ".status.addresses[*].value"),
            ("Programmed", ".status.conditions[?(@.type==\"Programmed\")].status"),
        ],
    },
    Kind {
        kind: "HTTPRoute",
        plural: "httproutes",
        short: &[],
        is_namespaced: true,
        versions: &["v1", "v1beta1"],
        columns: &[("Hostnames", ".spec.hostnames")],
    },
    Kind {
        kind: "GRPCRoute",
        plural: "grpcroutes",
        short: &[],
        is_namespaced: true,
        versions: &["v1"],
        columns: &[("Hostnames", ".spec.hostnames")],
    },
    Kind {
        kind: "TLSRoute",
        plural: "tlsroutes",
        short: &[],
        is_namespaced: true,
        versions: &["v1", "v1alpha3", "v1alpha2"],
        columns: &[],
    },
    Kind {
        kind: "TCPRoute",
        plural: "tcproutes",
        short: &[],
        is_namespaced: true,
        versions: &["v1", "v1alpha2"],
        columns: &[],
    },
    Kind {
        kind: "ReferenceGrant",
        plural: "referencegrants",
        short: &["refgrant"],
        is_namespaced: true,
        versions: &["v1", "v1beta1"],
        columns: &[],
    },
    Kind {
        kind: "BackendTLSPolicy",
        plural: "backendtlspolicies",
        short: &["btlspolicy"],
        is_namespaced: true,
        versions: &["v1", "v1alpha3"],
        columns: &[],
    },
    Kind {
        kind: "ListenerSet",
        plural: "listenersets",
        short: &["lset"],
        is_namespaced: true,
        versions: &["v1"],
        columns: &[],
    },
];

/// All definitions.
pub fn gateway_api() -> Vec<Value> {
    TABLE.iter().map(definition).collect()
}

fn definition(kind: &Kind) -> Value {
    let versions = kind.versions.iter().enumerate().map(|(at, name)| {
        json!({
            "name": name, "served": true, "storage": at == 0, "subresources": {"status": {}},
            "additionalPrinterColumns": columns(kind),
            "schema": {"openAPIV3Schema": schema()},
        })
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", kind.plural)},
        "spec": {
            "group": GROUP,
            "scope": if kind.is_namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural,
                "singular": kind.kind.to_lowercase(), "shortNames": kind.short, "categories": ["gateway-api"],
            },
            "versions": versions.collect::<Vec<_>>(),
        },
    })
}

fn columns(kind: &Kind) -> Vec<Value> {
    let own = kind.columns.iter().map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path}));
    own.chain([json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})]).collect()
}

/// Everything is kept as it is written; lists that several write are merged by their keys.
fn schema() -> Value {
    let open = |properties: Value| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": properties});
    let keyed = |key: &str| {
        json!({
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key],
            "items": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "required": [key], "properties": {key: {"type": "string"}},
            },
        })
    };
    let listener = {
        let mut listener = keyed("name");
        listener["items"]["properties"]["conditions"] = keyed("type");
        listener
    };
    open(json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": open(json!({"listeners": keyed("name")})),
        "status": open(json!({"conditions": keyed("type"), "listeners": listener})),
    }))
}
