//! The redirection annotation, written to `pods/status` so that the agent needs no right to change pods.
//!
//! In: a pod, a value. Out: written, or why not. A pod that is gone or was replaced counts as written.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use lateen_cluster::{
    labels::{REDIRECTION, REDIRECTION_ENABLED, REDIRECTION_PENDING},
    store::Key,
};
use lateen_rt::deadline::{Elapsed, within};
use lateen_types::name::PodUid;
use serde_json::{Value, json};

const PATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// What the annotation shall say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The pod is in.
    Enabled,
    /// The pod's rules are there, ztunnel has not said yes.
    Pending,
    /// Nothing.
    Absent,
}

/// Why it was not written.
#[derive(Debug, thiserror::Error)]
pub enum AnnotateError {
    /// The API refused.
    #[error("annotating pod {key}: {source}; the agent needs patch on pods/status")]
    Api {
        /// The pod.
        key: Key,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// The API does not answer.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
}

/// Writes annotations.
#[derive(Clone)]
pub struct Annotator {
    client: Client,
}

impl Annotator {
    /// One that writes through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes the annotation of the pod with this UID say `mark`.
    pub async fn write(&self, key: &Key, uid: &PodUid, mark: Mark) -> Result<(), AnnotateError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Merge(patch(uid, mark));
        let parameters = PatchParams::default();
        let sent = api.patch_status(&key.name, &parameters, &patch);
        match within("writing the redirection annotation", PATCH_TIMEOUT, sent).await? {
            Ok(_) => Ok(()),
            // Gone, or another pod has the name: there is nothing to annotate.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => Err(AnnotateError::Api { key: key.clone(), source: Box::new(source) }),
        }
    }
}

/// With the UID in it the API refuses to patch a successor of the same name.
fn patch(uid: &PodUid, mark: Mark) -> Value {
    let value = match mark {
        Mark::Enabled => json!(REDIRECTION_ENABLED),
        Mark::Pending => json!(REDIRECTION_PENDING),
        Mark::Absent => Value::Null,
    };
    json!({"metadata": {"uid": uid.as_str(), "annotations": {REDIRECTION: value}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_is_a_null() {
        let uid = PodUid::from("u");
        let annotations = |mark| patch(&uid, mark)["metadata"]["annotations"].clone();
        assert_eq!(annotations(Mark::Absent), json!({"ambient.istio.io/redirection": null}));
        assert_eq!(annotations(Mark::Enabled), json!({"ambient.istio.io/redirection": "enabled"}));
    }
}
