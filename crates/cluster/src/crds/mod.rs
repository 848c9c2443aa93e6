//! The CustomResourceDefinitions of the kinds we serve, as objects and as the YAML kept in `deploy/crds`.
//!
//! In: our types, and a table of kinds without one. Out: definitions with all served versions (one schema) and their
//! text. Run `cargo test -p lateen-cluster` after changing a type: the failing test says how to write the files anew.

mod gateway;
mod later;
mod messages;

use std::sync::LazyLock;

pub use gateway::gateway_api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;
pub use later::is_later;

use crate::api::{AuthorizationPolicy, PeerAuthentication, ServiceEntry, WorkloadEntry};

/// All our definitions, in the order of their names.
pub fn all() -> Vec<CustomResourceDefinition> {
    let typed = [AuthorizationPolicy::crd(), PeerAuthentication::crd(), ServiceEntry::crd(), WorkloadEntry::crd()];
    let mut all: Vec<_> = typed.into_iter().chain(later::all()).map(finish).collect();
    all.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    all
}

/// The schema objects of a kind of ours have, in all versions.
pub fn schema_of(group: &str, kind: &str) -> Option<&'static JSONSchemaProps> {
    static ALL: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(all);
    let found = ALL.iter().find(|one| one.spec.group == group && one.spec.names.kind == kind)?;
    found.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()
}

/// `definition` as YAML, under a line that says where it comes from.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    let text = serde_saphyr::to_string(definition)?;
    Ok(format!("# Generated from crates/cluster/src/api; see crates/cluster/src/crds.\n{text}"))
}

/// Adds the older versions, and says about the schema what the derive does not.
fn finish(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let (group, kind) = (definition.spec.group.clone(), definition.spec.names.kind.clone());
    let older = match (group.as_str(), kind.as_str()) {
        ("security.istio.io", "AuthorizationPolicy" | "PeerAuthentication") => &["v1beta1"][..],
        ("networking.istio.io", "ServiceEntry" | "WorkloadEntry") => &["v1beta1", "v1alpha3"][..],
        (group, kind) => later::older(group, kind),
    };
    let versions = &mut definition.spec.versions;
    versions.iter_mut().for_each(lenient);
    let newest = versions.first().cloned().unwrap_or_default();
    versions.extend(older.iter().map(|name| CustomResourceDefinitionVersion {
        name: (*name).to_owned(),
        storage: false,
        ..newest.clone()
    }));
    definition
}

/// An object without a spec has an empty one, where the derive would demand it; and a status written by others, before
/// this mesh was here, stays.
fn lenient(version: &mut CustomResourceDefinitionVersion) {
    let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
    let Some(schema) = schema else { return };
    schema.required = None;
    let properties = schema.properties.get_or_insert_default();
    if let Some(spec) = properties.get("spec").and_then(|spec| spec.description.clone()) {
        schema.description = Some(spec);
    }
    if let Some(status) = properties.get_mut("status") {
        status.x_kubernetes_preserve_unknown_fields = Some(true);
        let conditions = status.properties.as_mut().and_then(|properties| properties.get_mut("conditions"));
        if let Some(JSONSchemaPropsOrArray::Schema(one)) = conditions.and_then(|list| list.items.as_mut()) {
            one.x_kubernetes_preserve_unknown_fields = Some(true);
        }
    }
    plain(schema);
}

/// Takes away what the API server does not know: sized integers, and a type beside "integer or text".
fn plain(schema: &mut JSONSchemaProps) {
    if schema.x_kubernetes_int_or_string == Some(true) {
        schema.type_ = None;
    }
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint") || format == "int64") {
        schema.format = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(_, below)| plain(below));
    if let Some(JSONSchemaPropsOrArray::Schema(below)) = &mut schema.items {
        plain(below);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(below)) = &mut schema.additional_properties {
        plain(below);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;

    use super::*;

    fn file_of(definition: &CustomResourceDefinition) -> PathBuf {
        let name = definition.metadata.name.as_deref().expect("named");
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds").join(format!("{name}.yaml"))
    }

    #[test]
    fn the_files_in_deploy_are_generated_from_the_types() {
        for definition in all() {
            let (file, text) = (file_of(&definition), yaml(&definition).expect("serializable"));
            let kept = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                kept == text,
                "{} differs from its type; write it anew with: cargo test -p lateen-cluster -- --ignored write_crds",
                file.display()
            );
        }
    }

    #[test]
    #[ignore = "writes deploy/crds; run it by name after changing a type"]
    fn write_crds() {
        for definition in all() {
            let file = file_of(&definition);
            std::fs::create_dir_all(file.parent().expect("a directory")).expect("writable");
            std::fs::write(file, yaml(&definition).expect("serializable")).expect("writable");
        }
    }

    #[test]
    fn the_served_versions_are_those_of_the_reference() {
        let versions: Vec<String> = all()
            .iter()
            .map(|definition| {
                let names = definition.spec.versions.iter().map(|version| version.name.as_str());
                format!("{} {}", definition.spec.names.kind, names.collect::<Vec<_>>().join(" "))
            })
            .collect();
        let expected = [
            "AuthorizationPolicy v1 v1beta1",
            "DestinationRule v1 v1beta1 v1alpha3",
            "EnvoyFilter v1alpha3",
            "Gateway v1 v1beta1 v1alpha3",
            "PeerAuthentication v1 v1beta1",
            "ProxyConfig v1beta1",
            "RequestAuthentication v1 v1beta1",
            "ServiceEntry v1 v1beta1 v1alpha3",
            "Sidecar v1 v1beta1 v1alpha3",
            "Telemetry v1 v1alpha1",
            "TrafficExtension v1alpha1",
            "VirtualService v1 v1beta1 v1alpha3",
            "WasmPlugin v1alpha1",
            "WorkloadEntry v1 v1beta1 v1alpha3",
            "WorkloadGroup v1 v1beta1 v1alpha3",
        ];
        assert_eq!(versions, expected);
    }

    #[test]
    fn every_version_is_served_with_status_and_the_first_is_stored() {
        for definition in all() {
            let name = definition.metadata.name.as_deref().unwrap_or_default();
            for (at, version) in definition.spec.versions.iter().enumerate() {
                assert!(version.served && version.storage == (at == 0), "{name} {}", version.name);
                assert!(version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()), "{name}");
                assert_eq!(version.schema, definition.spec.versions[0].schema, "{name}");
                let age = |column: &CustomResourceColumnDefinition| column.name == "Age";
                assert!(version.additional_printer_columns.iter().flatten().any(age), "{name}: no age");
            }
        }
    }

    /// What the API server demands of a structural schema, and what makes it warn.
    #[test]
    fn schemas_are_structural() {
        fn check(schema: &JSONSchemaProps, place: &str) {
            let any = schema.x_kubernetes_int_or_string == Some(true);
            assert_eq!(schema.type_.is_none(), any, "{place}: type");
            assert!(schema.format.is_none() || schema.format.as_deref() == Some("date-time"), "{place}: format");
            assert!(schema.type_.as_deref() != Some("array") || schema.items.is_some(), "{place}: items");
            for (name, below) in schema.properties.iter().flatten() {
                check(below, &format!("{place}.{name}"));
            }
            if let Some(JSONSchemaPropsOrArray::Schema(below)) = &schema.items {
                check(below, &format!("{place}[]"));
            }
            if let Some(JSONSchemaPropsOrBool::Schema(below)) = &schema.additional_properties {
                check(below, &format!("{place}.*"));
            }
        }
        for definition in all() {
            for version in &definition.spec.versions {
                let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
                check(schema.expect("a schema"), &definition.spec.names.kind);
            }
        }
    }

    #[test]
    fn the_text_reads_back_as_the_definition() {
        for definition in all() {
            let back: CustomResourceDefinition =
                serde_saphyr::from_str(&yaml(&definition).expect("serializable")).expect("readable");
            assert_eq!(back, definition);
        }
    }
}
