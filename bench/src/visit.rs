//! A pod and a policy that come and go.
//!
//! In: a lab's kubeconfig. Out: one visit at a time, complete: enrolled, ruled, gone again.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use lateen_rt::deadline::within;
use serde_json::json;
use tokio::time::Instant;

use crate::pods::{self, Side};

const NAME: &str = "visitor";
const API_TIMEOUT: Duration = Duration::from_secs(20);
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who comes and goes.
pub(crate) struct Visitor {
    pods: Api<Pod>,
    policies: Api<DynamicObject>,
    policy: ApiResource,
    visits: u32,
}

impl Visitor {
    /// A visitor of the meshed namespace.
    pub async fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client: Client = pods::client(kubeconfig).await?;
        let kind = GroupVersionKind::gvk("security.istio.io", "v1", "AuthorizationPolicy");
        let policy = ApiResource::from_gvk_with_plural(&kind, "authorizationpolicies");
        let namespace = Side::Meshed.namespace();
        let policies = Api::namespaced_with(client.clone(), namespace, &policy);
        Ok(Self { pods: Api::namespaced(client, namespace), policies, policy, visits: 0 })
    }

    /// How often it came and went.
    pub fn visits(&self) -> u32 {
        self.visits
    }

    /// Comes, on one node and then on the other, is enrolled while a policy comes, and goes with it.
    pub async fn come_and_go(&mut self) -> anyhow::Result<()> {
        let object = serde_json::from_value(self.pod()).context("a pod")?;
        within("making a pod", API_TIMEOUT, self.pods.create(&PostParams::default(), &object)).await??;
        let policy = self.rule();
        within("making a policy", API_TIMEOUT, self.policies.create(&PostParams::default(), &policy)).await??;
        self.until("is enrolled", |pod| pod.is_some_and(|pod| pods::usable(pod, Side::Meshed).is_some())).await?;
        let now = DeleteParams::default().grace_period(0);
        within("removing a policy", API_TIMEOUT, self.policies.delete(NAME, &DeleteParams::default())).await??;
        drop(within("removing a pod", API_TIMEOUT, self.pods.delete(NAME, &now)).await??);
        self.until("is gone", |pod| pod.is_none()).await?;
        self.visits += 1;
        Ok(())
    }

    fn pod(&self) -> serde_json::Value {
        let node = if self.visits.is_multiple_of(2) { "node-1" } else { "node-2" };
        json!({
            "metadata": {"name": NAME, "namespace": Side::Meshed.namespace()},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "pause", "image": "pause"}],
            },
        })
    }

    /// It rules everybody and refuses nobody who is there.
    fn rule(&self) -> DynamicObject {
        let nobody = format!("nobody-{}", self.visits);
        let rules = json!([{"from": [{"source": {"namespaces": [nobody]}}]}]);
        DynamicObject::new(NAME, &self.policy).data(json!({"spec": {"action": "DENY", "rules": rules}}))
    }

    async fn until(&self, what: &str, is_so: impl Fn(Option<&Pod>) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + STEP_TIMEOUT;
        loop {
            let pod = within("looking at a pod", API_TIMEOUT, self.pods.get_opt(NAME)).await??;
            if is_so(pod.as_ref()) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("not within {STEP_TIMEOUT:?}: the visiting pod {what}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
