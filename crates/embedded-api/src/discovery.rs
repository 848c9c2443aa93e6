//! What is served, as clients discover it: group and resource lists, plain and aggregated.

use serde_json::{Value, json};

use crate::{
    registry::Registry,
    resource::{Resource, Subresource, Version},
};

/// A document and its content type.
#[derive(Debug)]
pub struct Document {
    /// The JSON.
    pub body: Value,
    /// Its type.
    pub content_type: &'static str,
}

const JSON: &str = "application/json";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// `/version`.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0+lateen", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

/// The discovery document at `path`, if there is one.
pub fn answer(registry: &Registry, path: &str, accept: &str) -> Option<Document> {
    let plain = |body| Some(Document { body, content_type: JSON });
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match segments.as_slice() {
        ["api"] => aggregated(registry, accept, true).or_else(|| {
            plain(json!({
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "" }],
            }))
        }),
        ["apis"] => aggregated(registry, accept, false).or_else(|| {
            let groups: Vec<Value> =
                groups(registry).iter().filter(|name| !name.is_empty()).map(|name| group(registry, name)).collect();
            plain(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }),
        ["api", version] => plain(resource_list(registry, "", version)?),
        ["apis", name] if groups(registry).iter().any(|group| group == name) => {
            let mut body = group(registry, name);
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            plain(body)
        }
        ["apis", name, version] => plain(resource_list(registry, name, version)?),
        [] => plain(
            json!({ "paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] }),
        ),
        _ => None,
    }
}

/// Group names in order of registration; core is the empty one.
fn groups(registry: &Registry) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for resource in registry.all().iter().filter(|resource| !resource.versions.is_empty()) {
        if !names.contains(&resource.group) {
            names.push(resource.group.clone());
        }
    }
    names
}

/// The served versions of a group, each once, preferred first.
pub fn versions(registry: &Registry, group: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for resource in registry.all().iter().filter(|resource| resource.group == group) {
        for version in &resource.versions {
            if !found.contains(&version.name) {
                found.push(version.name.clone());
            }
        }
    }
    found
}

/// Every group with every version.
pub fn group_versions(registry: &Registry) -> Vec<(String, String)> {
    let of = |group: String| {
        versions(registry, &group).into_iter().map(move |version| (group.clone(), version)).collect::<Vec<_>>()
    };
    groups(registry).into_iter().flat_map(of).collect()
}

fn group(registry: &Registry, name: &str) -> Value {
    let entry = |version: &String| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    let versions: Vec<Value> = versions(registry, name).iter().map(entry).collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

fn resources_of<'a>(
    all: &'a [std::sync::Arc<Resource>],
    group: &str,
    version: &str,
) -> Vec<(&'a Resource, &'a Version)> {
    let of_group = all.iter().filter(|resource| resource.group == group);
    of_group.filter_map(|resource| Some((&**resource, resource.version(version)?))).collect()
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let all = registry.all();
    let found = resources_of(&all, group, version);
    if found.is_empty() {
        return None;
    }
    let mut resources = Vec::new();
    for (resource, traits) in found {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs(),
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            entry["categories"] = json!(resource.categories);
        }
        resources.push(entry);
        for subresource in resource.subresources(traits) {
            resources.push(plain_subresource(resource, &subresource));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources }),
    )
}

fn plain_subresource(resource: &Resource, subresource: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, subresource.name), "singularName": "",
        "namespaced": resource.namespaced, "kind": subresource.kind, "verbs": subresource.verbs,
    });
    if let Some((group, version)) = subresource.group_version {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

/// The aggregated form, where the client takes it.
fn aggregated(registry: &Registry, accept: &str, core: bool) -> Option<Document> {
    let beta = !accept.contains("v=v2;")
        && !accept.contains("v=v2,")
        && !accept.ends_with("v=v2")
        && accept.contains("v=v2beta1");
    if !accept.contains("as=APIGroupDiscoveryList") {
        return None;
    }
    let names = groups(registry);
    let items: Vec<Value> =
        names.iter().filter(|name| name.is_empty() == core).map(|name| aggregated_group(registry, name)).collect();
    let (content_type, version) = if beta { (AGGREGATED_BETA, "v2beta1") } else { (AGGREGATED, "v2") };
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items,
    });
    Some(Document { body, content_type })
}

fn aggregated_group(registry: &Registry, name: &str) -> Value {
    let all = registry.all();
    let version = |version: &String| {
        let resources: Vec<Value> =
            resources_of(&all, name, version).iter().map(|(r, traits)| aggregated_resource(r, traits)).collect();
        json!({ "version": version, "freshness": "Current", "resources": resources })
    };
    let versions: Vec<Value> = versions(registry, name).iter().map(version).collect();
    let metadata = if name.is_empty() {
        json!({ "creationTimestamp": null })
    } else {
        json!({ "name": name, "creationTimestamp": null })
    };
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resource(resource: &Resource, version: &Version) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let subresources: Vec<Value> = resource
        .subresources(version)
        .iter()
        .map(|subresource| {
            let (group, of) = subresource.group_version.unwrap_or((&resource.group, &version.name));
            json!({ "subresource": subresource.name, "responseKind": kind(group, of, &subresource.kind), "verbs": subresource.verbs })
        })
        .collect();
    let mut entry = json!({
        "resource": resource.plural, "responseKind": kind(&resource.group, &version.name, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
