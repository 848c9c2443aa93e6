//! Which pods are this node's, and what each is told.
//!
//! In: a watch on the pods bound to the node. Out: a task per pod, and orders to it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

use super::{
    Kubelet,
    pod::{Order, is_over, live},
};

/// Follows the node's pods until the process ends.
pub(super) async fn watch(kubelet: Arc<Kubelet>) {
    let api: Api<Pod> = Api::all(kubelet.client.clone());
    let ours = watcher::Config::default().fields(&format!("spec.nodeName={}", kubelet.node.name()));
    let mut events = Box::pin(watcher(api, ours).default_backoff());
    let mut table = Table { kubelet, pods: HashMap::new(), listed: None };
    loop {
        match events.try_next().await {
            Ok(Some(event)) => table.hear(event),
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "watching the node's pods; trying again"),
        }
    }
}

/// The running pods by uid.
struct Table {
    kubelet: Arc<Kubelet>,
    pods: HashMap<String, watch::Sender<Order>>,
    /// Uids seen in a list that is still arriving.
    listed: Option<Vec<String>>,
}

impl Table {
    fn hear(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed = Some(Vec::new()),
            Event::InitApply(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                self.listed.get_or_insert_default().push(uid);
                self.set(pod);
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                for (uid, orders) in &self.pods {
                    if !listed.contains(uid) {
                        orders.send_replace(Order::Gone);
                    }
                }
            }
            Event::Apply(pod) => self.set(pod),
            Event::Delete(pod) => {
                if let Some(orders) = self.pods.get(pod.metadata.uid.as_deref().unwrap_or_default()) {
                    orders.send_replace(Order::Gone);
                }
            }
        }
        // A pod whose task has ended listens to nobody.
        self.pods.retain(|_, orders| orders.receiver_count() > 0);
    }

    fn set(&mut self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let pod = Arc::new(pod);
        let order = order(&pod);
        if let Some(orders) = self.pods.get(&uid) {
            orders.send_replace(order);
            return;
        }
        if is_over(&pod) && pod.metadata.deletion_timestamp.is_none() {
            return;
        }
        let (orders, heard) = watch::channel(order);
        self.kubelet.tasks.spawn("pod", live(self.kubelet.clone(), pod, heard));
        self.pods.insert(uid, orders);
    }
}

/// What an object asks of its pod.
fn order(pod: &Arc<Pod>) -> Order {
    if pod.metadata.deletion_timestamp.is_none() {
        return Order::Run(pod.clone());
    }
    let seconds = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Order::Stop(pod.clone(), Duration::from_secs(seconds.unwrap_or(30)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_an_order_to_stop() {
        let pod = |meta| Arc::new(serde_json::from_value::<Pod>(serde_json::json!({"metadata": meta})).expect("a pod"));
        assert!(matches!(order(&pod(serde_json::json!({}))), Order::Run(_)));
        let meta = serde_json::json!({"deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": 7});
        assert!(matches!(order(&pod(meta)), Order::Stop(_, grace) if grace == Duration::from_secs(7)));
    }
}
