//! Events: what happened to an object, where people look for it (`kubectl describe`, `kubectl events`).
//!
//! In: the object, a reason, words. Out: an Event beside it. One that cannot be written is logged: nothing waits for it.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use lateen_cluster::store::Key;
use lateen_rt::deadline::within;

/// The object an Event is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Its group and version.
    pub api_version: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its place; it lies in a namespace.
    pub key: &'a Key,
    /// Its uid, by which it is found.
    pub uid: &'a str,
}

const API_TIMEOUT: Duration = Duration::from_secs(5);
const COMPONENT: &str = "lateen-controller";

/// Writes a warning.
pub async fn warn(client: &Client, about: About<'_>, reason: &str, message: &str) {
    let api: Api<Event> = Api::namespaced(client.clone(), &about.key.namespace);
    let event = event(about, reason, message);
    let why = match within("writing an Event", API_TIMEOUT, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(late) => late.to_string(),
    };
    tracing::warn!(object = %about.key, kind = about.kind, reason, why, "an Event could not be written");
}

fn event(about: About<'_>, reason: &str, message: &str) -> Event {
    let now = || Some(Time(jiff::Timestamp::now()));
    let text = |text: &str| Some(text.to_owned());
    Event {
        metadata: ObjectMeta {
            // Names of Events need only differ.
            name: Some(format!("{}.{:016x}", about.key.name, rand::random::<u64>())),
            namespace: text(&about.key.namespace),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: text(about.api_version),
            kind: text(about.kind),
            name: text(&about.key.name),
            namespace: text(&about.key.namespace),
            uid: text(about.uid),
            ..ObjectReference::default()
        },
        type_: text("Warning"),
        reason: text(reason),
        message: text(message),
        source: Some(EventSource { component: text(COMPONENT), host: None }),
        first_timestamp: now(),
        last_timestamp: now(),
        count: Some(1),
        ..Event::default()
    }
}
