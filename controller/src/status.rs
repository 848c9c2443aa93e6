//! Tells authors of policies what became of them, in their objects' status.
//!
//! In: what is to be said. Out: the condition `ZtunnelAccepted`. It is written only where it differs, so that replicas
//! and restarts do not write over and over.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use lateen_cluster::{
    api::{AuthorizationPolicy, StatusCondition},
    store::Key,
};
use lateen_rt::{backoff::Backoff, deadline::within, inbox::Inbox};
use parking_lot::Mutex;
use serde_json::json;

use crate::{graph::Told, names};

const CONDITION: &str = "ZtunnelAccepted";
/// Who wrote a field, as server-side apply records it.
const FIELD_MANAGER: &str = "istio-ambient-ztunnel-policy";
const API_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: u32 = 5;

/// What is still to be said; clones share it. Only the newest word about each policy is kept.
#[derive(Debug, Clone)]
pub struct Statuses {
    newest: Arc<Mutex<HashMap<Key, Told>>>,
    inbox: Inbox<Key>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self { newest: Arc::default(), inbox: Inbox::new() }
    }
}

impl Statuses {
    /// Remembers to say this.
    pub fn tell(&self, told: Told) {
        let key = told.policy.clone();
        self.newest.lock().insert(key.clone(), told);
        self.inbox.push(key);
    }

    /// Says it all, for ever.
    pub async fn run(self, client: Client) {
        loop {
            for key in self.inbox.drain().await {
                let told = self.newest.lock().remove(&key);
                if let Some(told) = told {
                    write(&client, &told).await;
                }
            }
        }
    }
}

async fn write(client: &Client, told: &Told) {
    let api: Api<AuthorizationPolicy> = Api::namespaced(client.clone(), &told.policy.namespace);
    let mut pace = Backoff::new(Duration::from_millis(200), Duration::from_secs(5)).with_jitter(0.2);
    for _ in 0..ATTEMPTS_MAX {
        let reason = match within("writing a status", API_TIMEOUT, attempt(&api, told)).await {
            Ok(Ok(())) => return,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        tracing::debug!(policy = %told.policy, reason, "writing a status failed; trying again");
        tokio::time::sleep(pace.next_wait()).await;
    }
    metrics::counter!(names::STATUS_ERRORS).increment(1);
    tracing::warn!(policy = %told.policy, "the status of a policy could not be written");
}

async fn attempt(api: &Api<AuthorizationPolicy>, told: &Told) -> Result<(), kube::Error> {
    let held = api.get_status(&told.policy.name).await?.status.unwrap_or_default();
    let held = held.conditions.into_iter().find(|condition| condition.type_ == CONDITION);
    let wanted = wanted(told, held.as_ref());
    if wanted.is_none() && held.is_none() || wanted.is_some() && wanted == held {
        return Ok(());
    }
    // An empty list takes back what this manager wrote before.
    let conditions: Vec<StatusCondition> = wanted.into_iter().collect();
    let patch = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": &*told.policy.name, "namespace": &*told.policy.namespace},
        "status": {"conditions": conditions},
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch_status(&told.policy.name, &params, &Patch::Apply(patch)).await.map(|_| ())
}

/// The condition to write. The time of transition stays while the answer does.
fn wanted(told: &Told, held: Option<&StatusCondition>) -> Option<StatusCondition> {
    let condition = told.condition.as_ref()?;
    let status = if condition.accepted { "True" } else { "False" };
    let since = held.filter(|held| held.status == status).and_then(|held| held.last_transition_time.clone());
    let now = || jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string();
    Some(StatusCondition {
        type_: CONDITION.to_owned(),
        status: status.to_owned(),
        reason: Some(condition.reason.as_str().to_owned()),
        message: Some(condition.message.clone()),
        last_transition_time: Some(since.unwrap_or_else(now)),
        observed_generation: Some(told.generation),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::authorization::{Condition, Reason};

    fn told(accepted: bool) -> Told {
        let condition = Condition { accepted, reason: Reason::Accepted, message: "m".to_owned() };
        Told { policy: Key::new("shop", "p"), generation: 2, condition: Some(condition) }
    }

    #[test]
    fn the_time_changes_with_the_answer_only() {
        let first = wanted(&told(true), None).expect("a condition");
        let old = StatusCondition { last_transition_time: Some("2020-01-01T00:00:00Z".to_owned()), ..first };
        assert_eq!(wanted(&told(true), Some(&old)), Some(old.clone()));
        let turned = wanted(&told(false), Some(&old)).expect("a condition");
        assert_eq!(turned.status, "False");
        assert_ne!(turned.last_transition_time, old.last_transition_time);
        assert_eq!(wanted(&Told { condition: None, ..told(true) }, Some(&old)), None);
    }

    #[tokio::test]
    async fn only_the_newest_word_is_kept() {
        let statuses = Statuses::default();
        statuses.tell(told(true));
        statuses.tell(told(false));
        assert_eq!(statuses.inbox.take(), [Key::new("shop", "p")]);
        assert_eq!(statuses.newest.lock().get(&Key::new("shop", "p")), Some(&told(false)));
    }
}
