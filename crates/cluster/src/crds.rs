//! The CustomResourceDefinitions of our types, as objects and as the YAML kept in `deploy/crds`.
//!
//! In: nothing. Out: definitions with both served versions (`v1`, `v1beta1`; one schema) and their text.
//! Run `cargo test -p lateen-cluster` after changing a type: the failing test says how to write the files anew.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use kube::CustomResourceExt as _;

use crate::api::{AuthorizationPolicy, PeerAuthentication};

/// All our definitions, in the order of their names.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![finish(AuthorizationPolicy::crd()), finish(PeerAuthentication::crd())]
}

/// `definition` as YAML, under a line that says where it comes from.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    let text = serde_saphyr::to_string(definition)?;
    Ok(format!("# Generated from crates/cluster/src/api; see crates/cluster/src/crds.rs.\n{text}"))
}

/// Adds the older version, and says about the schema what the derive does not.
fn finish(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let versions = &mut definition.spec.versions;
    versions.iter_mut().for_each(lenient);
    let older: Vec<_> = versions
        .iter()
        .map(|version| CustomResourceDefinitionVersion {
            name: "v1beta1".to_owned(),
            storage: false,
            ..version.clone()
        })
        .collect();
    versions.extend(older);
    definition
}

/// An object without a spec is a policy with an empty one; the derive would demand it.
fn lenient(version: &mut CustomResourceDefinitionVersion) {
    let schema: Option<&mut JSONSchemaProps> =
        version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
    if let Some(schema) = schema {
        schema.required = None;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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
    fn both_versions_are_served_with_status_and_one_is_stored() {
        for definition in all() {
            let versions: Vec<_> = definition
                .spec
                .versions
                .iter()
                .map(|version| {
                    let status = version.subresources.as_ref().is_some_and(|sub| sub.status.is_some());
                    (version.name.as_str(), version.served, version.storage, status)
                })
                .collect();
            assert_eq!(versions, [("v1", true, true, true), ("v1beta1", true, false, true)]);
            assert_eq!(definition.spec.versions[0].schema, definition.spec.versions[1].schema);
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
