//! OpenAPI documents, as far as `kubectl` needs them.
//!
//! v2 is a valid document without paths: old clients then skip their own validation. v3 names, per group and version, which
//! kinds take `fieldValidation` on a patch (so `kubectl apply` lets the server validate), and carries the schemas of custom
//! resources for `kubectl explain`. Absent on purpose: schemas of built-in kinds.

use http::Response;
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::{
    discovery::{Document, group_versions},
    http::answer::{self, Body},
    registry::Registry,
    resource::{Origin, Resource, Version},
};

/// The answer's type. Clients ask for `v2@v1.0`, but no MIME parser takes the `@` back.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The part of a gnostic v2 document that must be there.
#[derive(Clone, PartialEq, prost::Message)]
struct Swagger {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Definitions>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Paths {}

#[derive(Clone, PartialEq, prost::Message)]
struct Definitions {}

/// `/openapi/v2`, in protobuf where the client takes it.
pub fn v2(accept: &str) -> Response<Body> {
    if !accept.contains("proto-openapi") {
        let document = json!({ "swagger": "2.0", "info": { "title": "Kubernetes", "version": "v1.33.0" }, "paths": {}, "definitions": {} });
        return answer::json(200, &document);
    }
    let document = Swagger {
        swagger: "2.0".to_owned(),
        info: Some(Info { title: "Kubernetes".to_owned(), version: "v1.33.0".to_owned() }),
        paths: Some(Paths {}),
        definitions: Some(Definitions {}),
    };
    answer::bytes(200, PROTOBUF, document.encode_to_vec())
}

/// `/openapi/v3` and the documents below it.
pub fn v3(registry: &Registry, path: &str) -> Option<Document> {
    let rest = path.strip_prefix("/openapi/v3")?.trim_matches('/');
    let name = |(group, version): &(String, String)| {
        if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
    };
    let all = group_versions(registry);
    if rest.is_empty() {
        let entry = |pair| (name(pair), json!({ "serverRelativeURL": format!("/openapi/v3/{}", name(pair)) }));
        let paths: Map<String, Value> = all.iter().map(entry).collect();
        return Some(Document { body: json!({ "paths": paths }), content_type: "application/json" });
    }
    let (group, version) = all.iter().find(|pair| name(pair) == rest)?;
    Some(Document { body: group_document(registry, group, version), content_type: "application/json" })
}

fn group_document(registry: &Registry, group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    for resource in
        registry.all().iter().filter(|resource| resource.group == group && resource.origin != Origin::Virtual)
    {
        let Some(traits) = resource.version(version) else { continue };
        let place = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        paths.insert(format!("{root}{place}/{}/{{name}}", resource.plural), operations(resource, version));
        schemas.insert(schema_name(resource, version), schema(resource, traits));
    }
    json!({ "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "v1.33.0" }, "paths": paths, "components": { "schemas": schemas } })
}

fn operations(resource: &Resource, version: &str) -> Value {
    let kind = json!({ "group": resource.group, "version": version, "kind": resource.kind });
    let parameter =
        |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } });
    let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
    let answer = json!({ "200": { "description": "OK", "content": { "application/json": {
        "schema": { "$ref": format!("#/components/schemas/{}", schema_name(resource, version)) } } } } });
    json!({
        "get": { "x-kubernetes-action": "get", "x-kubernetes-group-version-kind": kind, "responses": answer },
        "patch": { "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind, "parameters": parameters, "responses": answer },
    })
}

/// Reversed group, version, kind: the reference's way to name schemas.
fn schema_name(resource: &Resource, version: &str) -> String {
    let group = if resource.group.is_empty() {
        "io.k8s.api.core".to_owned()
    } else {
        resource.group.rsplit('.').collect::<Vec<_>>().join(".")
    };
    format!("{group}.{version}.{}", resource.kind)
}

fn schema(resource: &Resource, version: &Version) -> Value {
    let mut schema = version.schema.as_deref().cloned().unwrap_or_else(|| json!({ "type": "object" }));
    schema["x-kubernetes-group-version-kind"] =
        json!([{ "group": resource.group, "version": version.name, "kind": resource.kind }]);
    schema
}
