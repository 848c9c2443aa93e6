//! All fields of a kind, from its schema.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::routes;
use crate::crds;

/// The paths of all fields of a kind, in the order of their names.
pub(super) fn paths(group: &str, kind: &str) -> Vec<String> {
    let listed = routes::PATHS.iter().find(|(known, _)| *known == kind && group == routes::GROUP);
    if let Some((_, paths)) = listed {
        return paths.split_whitespace().map(str::to_owned).collect();
    }
    let mut all = Vec::new();
    let spec = crds::schema_of(group, kind).and_then(|schema| schema.properties.as_ref()?.get("spec"));
    if let Some(spec) = spec {
        below(spec, "", &mut all);
    }
    all
}

fn below(schema: &JSONSchemaProps, path: &str, all: &mut Vec<String>) {
    for (name, inner) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        all.push(path.clone());
        below(inner, &path, all);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &inner.items {
            below(items, &format!("{path}[]"), all);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &inner.additional_properties {
            below(values, &format!("{path}.*"), all);
        }
    }
}
