//! What a controller wants done, and the thin doing of it.
//!
//! In: [`Action`]s from the pure controllers. Out: API calls; each answer is handed back for the board.
//! Absent on purpose: deciding, retrying (the next round decides anew).

use std::time::Duration;

use kube::{
    Api, Client, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
    core::ApiResource,
};
use lateen_rt::deadline::within;
use rand::seq::IndexedRandom as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::pods::SAFE_LETTERS;

/// How long one call to the API may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The kinds the controllers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// core/v1 Pod.
    Pod,
    /// core/v1 Node.
    Node,
    /// core/v1 Endpoints.
    Endpoints,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// apps/v1 ReplicaSet.
    ReplicaSet,
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 DaemonSet.
    DaemonSet,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// batch/v1 Job.
    Job,
}

impl Kind {
    fn resource(self) -> ApiResource {
        use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core, discovery::v1 as discovery};
        fn erased<K: Resource<DynamicType = ()>>() -> ApiResource {
            ApiResource::erase::<K>(&())
        }
        match self {
            Self::Pod => erased::<core::Pod>(),
            Self::Node => erased::<core::Node>(),
            Self::Endpoints => erased::<core::Endpoints>(),
            Self::EndpointSlice => erased::<discovery::EndpointSlice>(),
            Self::ReplicaSet => erased::<apps::ReplicaSet>(),
            Self::Deployment => erased::<apps::Deployment>(),
            Self::DaemonSet => erased::<apps::DaemonSet>(),
            Self::StatefulSet => erased::<apps::StatefulSet>(),
            Self::Job => erased::<batch::Job>(),
        }
    }
}

/// One object in the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a Node.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Target {
    /// The object with this metadata.
    pub fn of<K: Resource>(kind: Kind, object: &K) -> Self {
        let meta = object.meta();
        Self {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make this object. Without a name it gets `generateName` and five letters.
    Create {
        /// Its kind.
        kind: Kind,
        /// The whole object.
        object: Value,
    },
    /// Delete the object with this uid, and no later one of the same name.
    Delete {
        /// Which.
        target: Target,
        /// Its uid.
        uid: Option<String>,
        /// At once, because nobody is left who would confirm the end of it.
        force: bool,
    },
    /// Merge this into the object.
    Patch {
        /// Which.
        target: Target,
        /// The JSON merge patch.
        patch: Value,
    },
    /// Merge this into the object's status.
    PatchStatus {
        /// Which.
        target: Target,
        /// The status.
        status: Value,
    },
    /// Give the pod to a node.
    Bind {
        /// The pod.
        target: Target,
        /// The node.
        node: String,
    },
}

impl Action {
    /// Makes `object`.
    pub fn create(kind: Kind, object: &impl Serialize) -> Self {
        Self::Create { kind, object: value(object) }
    }

    /// Deletes `object`, letting it end in its own time.
    pub fn delete<K: Resource>(kind: Kind, object: &K) -> Self {
        Self::Delete { target: Target::of(kind, object), uid: object.meta().uid.clone(), force: false }
    }

    /// Sets the status of `object`.
    pub fn status<K: Resource>(kind: Kind, object: &K, status: &impl Serialize) -> Self {
        Self::PatchStatus { target: Target::of(kind, object), status: value(status) }
    }

    /// Sets how many replicas `object` wants.
    pub fn scale<K: Resource>(kind: Kind, object: &K, replicas: i32) -> Self {
        Self::Patch { target: Target::of(kind, object), patch: json!({ "spec": { "replicas": replicas } }) }
    }
}

/// The JSON of one of our own values; such values always have one.
fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// What came of an action.
#[derive(Debug)]
pub enum Done {
    /// The object as it is now.
    Now(Kind, Value),
    /// The object is gone.
    Gone(Target),
    /// Nothing to learn before the watch tells.
    Nothing,
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The API refused it or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The API did not answer.
    #[error(transparent)]
    Slow(#[from] lateen_rt::deadline::Elapsed),
}

impl ActError {
    /// Whether somebody else was quicker (exists already, changed, gone), which the next round sees for itself.
    pub fn is_race(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
    }
}

/// Does one action.
pub async fn act(client: &Client, action: &Action) -> Result<Done, ActError> {
    within("a controller's API call", CALL_TIMEOUT, call(client, action)).await?
}

async fn call(client: &Client, action: &Action) -> Result<Done, ActError> {
    match action {
        Action::Create { kind, object } => {
            let object = named(object.clone());
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            let made = api(client, *kind, &namespace).create(&PostParams::default(), &object).await?;
            Ok(Done::Now(*kind, value(&made)))
        }
        Action::Delete { target, uid, force } => {
            let preconditions = uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None });
            let grace_period_seconds = force.then_some(0);
            let params = DeleteParams { preconditions, grace_period_seconds, ..DeleteParams::background() };
            let answer = api_of(client, target).delete(&target.name, &params).await?;
            Ok(answer.either(|object| Done::Now(target.kind, value(&object)), |_| Done::Gone(target.clone())))
        }
        Action::Patch { target, patch } => {
            let patched =
                api_of(client, target).patch(&target.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            Ok(Done::Now(target.kind, value(&patched)))
        }
        Action::PatchStatus { target, status } => {
            let patch = Patch::Merge(json!({ "status": status }));
            let patched = api_of(client, target).patch_status(&target.name, &PatchParams::default(), &patch).await?;
            Ok(Done::Now(target.kind, value(&patched)))
        }
        Action::Bind { target, node } => {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding",
                "metadata": { "name": target.name, "namespace": target.namespace },
                "target": { "apiVersion": "v1", "kind": "Node", "name": node },
            });
            let pods = api_of(client, target);
            let _status: Value =
                pods.create_subresource("binding", &target.name, &PostParams::default(), &binding).await?;
            Ok(Done::Nothing)
        }
    }
}

fn api_of(client: &Client, target: &Target) -> Api<DynamicObject> {
    api(client, target.kind, &target.namespace)
}

fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    if namespace.is_empty() {
        Api::all_with(client.clone(), &kind.resource())
    } else {
        Api::namespaced_with(client.clone(), namespace, &kind.resource())
    }
}

/// Gives an object that has only `generateName` its name.
fn named(mut object: Value) -> Value {
    let meta = &mut object["metadata"];
    if meta["name"].is_null() {
        let letters = SAFE_LETTERS.sample(&mut rand::rng(), 5).map(|byte| char::from(*byte)).collect::<String>();
        meta["name"] = format!("{}{letters}", meta["generateName"].as_str().unwrap_or_default()).into();
    }
    object
}
