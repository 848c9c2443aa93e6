//! Writes what was planned, and says what became of it.
//!
//! In: planned objects, a status. Out: the objects as the API answers them, or why not.
//! What bears our label and the Gateway's name is ours; whatever else has the name is left as it is.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use lateen_cluster::{labels, store::Key};
use lateen_rt::deadline::within;
use serde_json::{Value, json};

use super::{
    classes::Class,
    facts::{Held, Place},
    plan::{Kind, Planned},
    present::Present,
};

/// Who writes, as server-side apply records it: the reference's word, so that what it made before is taken over.
pub const FIELD_MANAGER: &str = "istio.io/gateway-controller";
const API_TIMEOUT: Duration = Duration::from_secs(10);
const GROUP: &str = "gateway.networking.k8s.io";

/// The API's resource of a kind that is made.
pub fn resource(kind: Kind) -> ApiResource {
    let (group, version, kind, plural) = kind.words();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Gateways.
pub fn gateways() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", "Gateway"), "gateways")
}

/// Those of the mesh's own API.
pub fn servers() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("networking.istio.io", "v1", "Gateway"), "gateways")
}

/// Their classes.
pub fn classes() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", "GatewayClass"), "gatewayclasses")
}

/// Writes one object. `known` says that it was seen to be ours.
pub async fn put(client: &Client, gateway: &Key, planned: &Planned, known: bool) -> Result<Option<Present>, String> {
    let (_, _, kind, _) = planned.kind.words();
    let name = &planned.name;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &gateway.namespace, &resource(planned.kind));
    if !known {
        let found = bounded(api.get_opt(name)).await?;
        if found.is_some_and(|found| !is_ours(&found, gateway)) {
            return Err(format!(
                "{kind} {}/{name} exists already and was not made for this Gateway; delete it, or name it otherwise with \
                 the annotation {}",
                gateway.namespace,
                labels::GATEWAY_NAME_OVERRIDE
            ));
        }
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = bounded(api.patch(name, &params, &Patch::Apply(&planned.object))).await;
    written.map(|object| Present::of(&object)).map_err(|error| format!("writing {kind} {name}: {error}"))
}

fn is_ours(found: &DynamicObject, gateway: &Key) -> bool {
    let label = |key: &str| found.metadata.labels.as_ref().and_then(|all| all.get(key));
    label(labels::MANAGED).is_some() && label(labels::GATEWAY_NAME).is_some_and(|name| **name == *gateway.name)
}

/// Removes an object of the Gateway's that is no longer wanted.
pub async fn remove(client: &Client, kind: Kind, key: &Key) -> Result<(), String> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &resource(kind));
    match within("deleting an object", API_TIMEOUT, api.delete(&key.name, &DeleteParams::background())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}

/// Writes our part of a Gateway's status.
pub async fn tell(client: &Client, gateway: &Key, said: &Held) -> Result<(), String> {
    let place = |place: &Place| match place {
        Place::Hostname(name) => json!({"type": "Hostname", "value": name}),
        Place::Ip(ip) => json!({"type": "IPAddress", "value": ip.to_string()}),
    };
    let mut status = json!({"conditions": said.conditions});
    if !said.places.is_empty() {
        status["addresses"] = said.places.iter().map(place).collect();
    }
    let kind = gateways();
    let patch = json!({
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": {"name": &*gateway.name, "namespace": &*gateway.namespace},
        "status": status,
    });
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &gateway.namespace, &kind);
    status_of(&api, &gateway.name, patch).await
}

/// Says that a class is ours, and what its Gateways do.
pub async fn accept(client: &Client, name: &str, condition: Value, features: &[&str]) -> Result<(), String> {
    let kind = classes();
    let mut status = json!({"conditions": [condition]});
    if !features.is_empty() {
        status["supportedFeatures"] = features.iter().map(|name| json!({"name": name})).collect();
    }
    let patch = json!({
        "apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "status": status,
    });
    status_of(&Api::all_with(client.clone(), &kind), name, patch).await
}

async fn status_of(api: &Api<DynamicObject>, name: &str, patch: Value) -> Result<(), String> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match within("writing a status", API_TIMEOUT, api.patch_status(name, &params, &Patch::Apply(patch))).await {
        Ok(Ok(_)) => Ok(()),
        // It went meanwhile; there is nobody to tell.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}

/// Makes the object that announces a class; whether the kind is there at all. One that is there stays as it is.
pub async fn announce(client: &Client, class: Class) -> Result<bool, String> {
    let object: DynamicObject =
        serde_json::from_value(class.object()).map_err(|error| format!("a class's object: {error}"))?;
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &classes());
    match within("making a class", API_TIMEOUT, api.create(&PostParams::default(), &object)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(true),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(false),
        Ok(Err(error)) => Err(error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}

async fn bounded<T>(work: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match within("writing an object", API_TIMEOUT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(late) => Err(late.to_string()),
    }
}
