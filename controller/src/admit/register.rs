//! Makes the API server ask us: keeps our roots in the webhook's configuration, and lets it fail closed.
//!
//! ```text
//! as installed: Ignore, no roots ──► our roots ──► an object we must refuse is refused (tried, never written) ──► Fail
//! ```
//! In: the configuration as somebody installed it, the CA. Out: its `caBundle` and `failurePolicy`; nothing else of it is
//! touched, and nothing is made where nothing is installed. Only the leader writes. A webhook that began with Fail could
//! lock everybody out of their policies until it works.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use lateen_cluster::{
    api::AuthorizationPolicy,
    labels,
    validate::{Level, review},
};
use lateen_rt::deadline::within;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{ca::authority::Authority, leader::Leading};

const API_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks. A configuration that is installed again, or edited, is mended within this.
const EVERY: Duration = Duration::from_secs(3);

/// Keeps the configuration.
pub struct Registration {
    /// The API.
    pub client: Client,
    /// Where this program and its service are.
    pub namespace: String,
    /// Which of several control planes this is.
    pub revision: String,
    /// The CA that signed our serving certificate.
    pub authority: watch::Receiver<Arc<Authority>>,
    /// Whether this process writes.
    pub leading: Leading,
}

/// The name of the ValidatingWebhookConfiguration of a revision, as the reference has it.
pub fn configuration(namespace: &str, revision: &str) -> String {
    match revision {
        "" | "default" => format!("istio-validator-{namespace}"),
        revision => format!("istio-validator-{revision}-{namespace}"),
    }
}

impl Registration {
    /// Keeps it while this process leads, for ever.
    pub async fn run(mut self) {
        let mut said = String::new();
        loop {
            if self.leading.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let looked = within("keeping the webhook's configuration", API_TIMEOUT, self.look()).await;
            let failed = looked.map_err(|late| late.to_string()).and_then(|looked| looked).err().unwrap_or_default();
            if !failed.is_empty() && failed != said {
                tracing::warn!(reason = failed, "the webhook's configuration could not be kept; trying again");
            }
            said = failed;
            // A look more than needed changes nothing.
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                changed = self.authority.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn look(&self) -> Result<(), String> {
        let group =
            kube::api::GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration");
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &ApiResource::from_gvk(&group));
        let name = configuration(&self.namespace, &self.revision);
        let failed = |error: kube::Error| error.to_string();
        let Some(found) = api.get_opt(&name).await.map_err(failed)? else { return Ok(()) };
        let roots = STANDARD.encode(self.authority.borrow().roots());
        let with_roots = wanted(&found.data, &self.namespace, (&roots, None));
        let found = self.patch(&api, &found, with_roots).await?;
        let failing = wanted(&found.data, &self.namespace, (&roots, Some("Fail")));
        if failing.is_some() && self.is_asked().await? {
            self.patch(&api, &found, failing).await?;
            tracing::info!(configuration = name, "the webhook works; from now on nothing is written without its word");
        }
        Ok(())
    }

    /// Writes `webhooks`, unless somebody else wrote since `found` was read.
    async fn patch(
        &self,
        api: &Api<DynamicObject>,
        found: &DynamicObject,
        webhooks: Option<Value>,
    ) -> Result<DynamicObject, String> {
        let Some(webhooks) = webhooks else { return Ok(found.clone()) };
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"resourceVersion": found.metadata.resource_version}, "webhooks": webhooks});
        let params =
            PatchParams { field_manager: Some(crate::ca::anchors::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        api.patch(name, &params, &Patch::Merge(patch)).await.map_err(|error| error.to_string())
    }

    /// Whether the API server asks us, and hears the answer: an object that we must refuse is refused, in our words. It
    /// is only tried, never written.
    async fn is_asked(&self) -> Result<bool, String> {
        let nonsense = nonsense(&self.namespace, &self.revision);
        let words: Vec<String> =
            review(&nonsense).iter().filter(|one| one.level == Level::Error).map(|one| one.to_string()).collect();
        let object: DynamicObject = serde_json::from_value(nonsense).map_err(|error| error.to_string())?;
        let kind = ApiResource::erase::<AuthorizationPolicy>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await {
            Err(kube::Error::Api(status)) => Ok(words.iter().all(|words| status.message.contains(words.as_str()))),
            Err(error) => Err(error.to_string()),
            Ok(_) => Ok(false),
        }
    }
}

/// Fine for any schema, and of no use to anybody. The webhook of a revision is asked about objects of that revision only.
fn nonsense(namespace: &str, revision: &str) -> Value {
    let mut object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "lateen-webhook-trial", "namespace": namespace},
        "spec": {"action": "DENY"},
    });
    if !revision.is_empty() {
        object["metadata"]["labels"] = json!({labels::REVISION: revision});
    }
    object
}

/// The webhooks with `roots` and `policy` where they lead to a service in `namespace`; none if they already have both.
fn wanted(configuration: &Value, namespace: &str, (roots, policy): (&str, Option<&str>)) -> Option<Value> {
    let before = configuration.get("webhooks")?.as_array()?;
    let mut after = before.clone();
    let ours =
        |hook: &&mut Value| hook.pointer("/clientConfig/service/namespace").is_some_and(|found| found == namespace);
    for hook in after.iter_mut().filter(ours) {
        hook["clientConfig"]["caBundle"] = roots.into();
        if let Some(policy) = policy {
            hook["failurePolicy"] = policy.into();
        }
    }
    (after != *before).then_some(Value::Array(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhooks_of_our_service_are_touched_and_only_where_they_differ() {
        let hook = |namespace: &str| json!({"name": namespace, "clientConfig": {"service": {"namespace": namespace}}, "rules": [1]});
        let elsewhere = json!({"name": "u", "clientConfig": {"url": "https://u/"}});
        let installed = json!({"webhooks": [hook("mesh"), hook("other"), elsewhere.clone()]});
        let after = wanted(&installed, "mesh", ("cm9vdHM=", None)).expect("something to do");
        assert_eq!(after[0]["clientConfig"]["caBundle"], "cm9vdHM=");
        assert_eq!((&after[1], &after[2]), (&hook("other"), &elsewhere));
        assert_eq!((&after[0]["rules"], after[0].get("failurePolicy")), (&json!([1]), None));
        let with_roots = json!({"webhooks": after});
        assert_eq!(wanted(&with_roots, "mesh", ("cm9vdHM=", None)), None);
        let failing = wanted(&with_roots, "mesh", ("cm9vdHM=", Some("Fail"))).expect("something to do");
        assert_eq!((&failing[0]["failurePolicy"], failing[1].get("failurePolicy")), (&json!("Fail"), None));
        assert_eq!(wanted(&json!({"webhooks": failing}), "mesh", ("cm9vdHM=", Some("Fail"))), None);
        assert_eq!(wanted(&json!({}), "mesh", ("x", None)), None);
    }

    #[test]
    fn the_trial_is_refused_by_its_words_alone() {
        for revision in ["", "canary"] {
            let trial = nonsense("istio-system", revision);
            let found = review(&trial);
            assert!(found.iter().any(|one| one.level == Level::Error), "{found:?}");
            let label = trial.pointer("/metadata/labels/istio.io~1rev").and_then(Value::as_str);
            assert_eq!(label.unwrap_or_default(), revision);
        }
        assert_eq!(configuration("mesh", ""), "istio-validator-mesh");
        assert_eq!(configuration("mesh", "canary"), "istio-validator-canary-mesh");
    }
}
