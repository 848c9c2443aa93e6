//! Tells authors of objects what became of them, in their objects' status.
//!
//! In: what is to be said. Out: conditions. They are written by the leader only, and only where they differ, so that
//! replicas and restarts do not write over and over. Each reporter's conditions are kept apart by its field manager.

mod listeners;
mod parents;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use lateen_cluster::{api::StatusCondition, store::Key};
use lateen_rt::{backoff::Backoff, deadline::within, inbox::Inbox};
use parking_lot::Mutex;
use serde::Deserialize as _;
use serde_json::json;

use crate::{
    derive::{
        enforced::ENFORCED,
        visible::APPLIED,
        waypoint::{BOUND, MEANWHILE},
        word::Word,
    },
    events::{self, About},
    graph::{ACCEPTED, Kind, Object, REPLACED, RESOLVED, Reporter, Told, UNSUPPORTED},
    leader::Leading,
    names,
};

const API_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: u32 = 5;
/// Objects written at a time.
const WRITERS_MAX: usize = 8;

type Place = (Object, Reporter);

/// What is to be said; clones share it. The newest word about each object is kept, so that a new leader can say it all.
#[derive(Debug, Clone)]
pub struct Statuses {
    newest: Arc<Mutex<HashMap<Place, Told>>>,
    inbox: Inbox<Place>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self { newest: Arc::default(), inbox: Inbox::new() }
    }
}

impl Statuses {
    /// Remembers to say this.
    pub fn tell(&self, told: Told) {
        let place = (told.object.clone(), told.reporter);
        if told.is_gone {
            self.newest.lock().remove(&place);
            return;
        }
        self.newest.lock().insert(place.clone(), told);
        self.inbox.push(place);
    }

    /// Says it all while this process leads, for ever.
    pub async fn run(self, client: Client, mut leading: Leading) {
        loop {
            if leading.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let all: Vec<Place> = self.newest.lock().keys().cloned().collect();
            all.into_iter().for_each(|place| self.inbox.push(place));
            // A batch that is dropped when leadership ends is said by the next leader.
            tokio::select! {
                () = self.write_all(&client) => {}
                ended = leading.wait_for(|leads| !*leads) => if ended.is_err() { return },
            }
        }
    }

    async fn write_all(&self, client: &Client) {
        loop {
            let batch = self.inbox.drain().await;
            let writes = futures::stream::iter(batch).map(|place| async move {
                let told = self.newest.lock().get(&place).cloned();
                if let Some(told) = told {
                    write(client, &told).await;
                    self.forget(&place, &told);
                }
            });
            writes.buffer_unordered(WRITERS_MAX).collect::<()>().await;
        }
    }

    /// What was taken back need not be kept.
    fn forget(&self, place: &Place, told: &Told) {
        let mut newest = self.newest.lock();
        if told.is_silence() && newest.get(place) == Some(told) {
            newest.remove(place);
        }
    }
}

async fn write(client: &Client, told: &Told) {
    let key = &told.object.key;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &resource(told.object.kind));
    let mut pace = Backoff::new(Duration::from_millis(200), Duration::from_secs(5)).with_jitter(0.2);
    for _ in 0..ATTEMPTS_MAX {
        let reason = match within("writing a status", API_TIMEOUT, attempt(&api, told)).await {
            Ok(Ok(News::Refusal { uid, word })) => return cry(client, told, &uid, &word).await,
            Ok(Ok(News::Nothing)) => return,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        tracing::debug!(object = %key, kind = ?told.object.kind, reason, "writing a status failed; trying again");
        tokio::time::sleep(pace.next_wait()).await;
    }
    metrics::counter!(names::STATUS_ERRORS).increment(1);
    tracing::warn!(object = %key, kind = ?told.object.kind, "the status of an object could not be written");
}

fn resource(kind: Kind) -> ApiResource {
    let (group, name) = match kind {
        Kind::AuthorizationPolicy => ("security.istio.io", "AuthorizationPolicy"),
        Kind::PeerAuthentication => ("security.istio.io", "PeerAuthentication"),
        Kind::Service => ("", "Service"),
        Kind::ServiceEntry => ("networking.istio.io", "ServiceEntry"),
        Kind::WorkloadEntry => ("networking.istio.io", "WorkloadEntry"),
        Kind::VirtualService => ("networking.istio.io", "VirtualService"),
        Kind::DestinationRule => ("networking.istio.io", "DestinationRule"),
        Kind::Route(kind) => ("gateway.networking.k8s.io", kind.as_str()),
        Kind::Gateway => ("gateway.networking.k8s.io", "Gateway"),
        Kind::Servers => ("networking.istio.io", "Gateway"),
        Kind::BackendTlsPolicy => ("gateway.networking.k8s.io", "BackendTLSPolicy"),
    };
    let kind = GroupVersionKind::gvk(group, "v1", name);
    match name {
        // The plural that is guessed is not always the one.
        "AuthorizationPolicy" => ApiResource::from_gvk_with_plural(&kind, "authorizationpolicies"),
        "ServiceEntry" => ApiResource::from_gvk_with_plural(&kind, "serviceentries"),
        "BackendTLSPolicy" => ApiResource::from_gvk_with_plural(&kind, "backendtlspolicies"),
        "WorkloadEntry" => ApiResource::from_gvk_with_plural(&kind, "workloadentries"),
        _ => ApiResource::from_gvk(&kind),
    }
}

/// The conditions a reporter may have written on an object.
fn own(reporter: Reporter) -> &'static [&'static str] {
    match reporter {
        Reporter::Ztunnel => &["ZtunnelAccepted"],
        Reporter::Waypoint => &["WaypointAccepted"],
        Reporter::Service => &[BOUND, "istio.io/WaypointMissing", APPLIED],
        Reporter::WorkloadEntry => &[BOUND],
        Reporter::Enforcement => &[ENFORCED],
        Reporter::Routes => &[ACCEPTED, RESOLVED, UNSUPPORTED, REPLACED],
        Reporter::Listeners => &listeners::OWN,
        Reporter::Parents | Reporter::Ancestors => &[],
    }
}

/// Whether what was written is more than a condition.
enum News {
    Nothing,
    /// From now on traffic to the object is refused.
    Refusal {
        uid: String,
        word: Word,
    },
}

/// A refusal is told where people look who wonder why nothing arrives.
async fn cry(client: &Client, told: &Told, uid: &str, word: &Word) {
    let kind = resource(told.object.kind);
    let about = About { api_version: &kind.api_version, kind: &kind.kind, key: &told.object.key, uid };
    events::warn(client, about, word.reason, &word.message).await;
}

/// The word that says that traffic is refused, where it was not said before.
fn refusal<'a>(words: &'a [Word], held: &[StatusCondition]) -> Option<&'a Word> {
    let word = words.iter().find(|word| word.kind == BOUND && word.message.ends_with(MEANWHILE))?;
    let same = |one: &StatusCondition| one.type_ == BOUND && one.message.as_deref() == Some(&word.message);
    (!held.iter().any(same)).then_some(word)
}

async fn attempt(api: &Api<DynamicObject>, told: &Told) -> Result<News, kube::Error> {
    match told.reporter {
        Reporter::Parents => return parents::write(api, told, &parents::PARENTS).await.map(|()| News::Nothing),
        Reporter::Ancestors => return parents::write(api, told, &parents::ANCESTORS).await.map(|()| News::Nothing),
        Reporter::Listeners => return listeners::write(api, told).await.map(|()| News::Nothing),
        Reporter::Ztunnel
        | Reporter::Waypoint
        | Reporter::Service
        | Reporter::WorkloadEntry
        | Reporter::Enforcement
        | Reporter::Routes => {}
    }
    let name = &told.object.key.name;
    let object = api.get_status(name).await?;
    let held = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    let held: Vec<StatusCondition> = Vec::deserialize(held).unwrap_or_default();
    let held: Vec<StatusCondition> =
        held.into_iter().filter(|one| own(told.reporter).contains(&one.type_.as_str())).collect();
    let wanted: Vec<StatusCondition> = told.words.iter().map(|word| wanted(told, word, &held)).collect();
    let same = wanted.len() == held.len() && wanted.iter().all(|one| held.contains(one));
    if same {
        return Ok(News::Nothing);
    }
    let kind = resource(told.object.kind);
    // An empty list takes back what this manager wrote before.
    let patch = json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": &**name, "namespace": &*told.object.key.namespace},
        "status": {"conditions": wanted},
    });
    let params = PatchParams::apply(told.reporter.field_manager()).force();
    api.patch_status(name, &params, &Patch::Apply(patch)).await?;
    let uid = object.metadata.uid.unwrap_or_default();
    let refusal = refusal(&told.words, &held).cloned();
    Ok(refusal.map_or(News::Nothing, |word| News::Refusal { uid, word }))
}

/// The condition to write. The time of transition stays while the answer does.
fn wanted(told: &Told, word: &Word, held: &[StatusCondition]) -> StatusCondition {
    let status = word.truth.as_str();
    let before = held.iter().find(|one| one.type_ == word.kind && one.status == status);
    let now = || jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string();
    StatusCondition {
        type_: word.kind.to_owned(),
        status: status.to_owned(),
        reason: Some(word.reason.to_owned()),
        message: Some(word.message.clone()),
        last_transition_time: Some(before.and_then(|one| one.last_transition_time.clone()).unwrap_or_else(now)),
        observed_generation: (told.generation != 0).then_some(told.generation),
    }
}

/// The key of a told object, for tests and logs.
impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key: &Key = &self.key;
        write!(f, "{:?} {key}", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::word::Truth;

    fn told(truth: Truth) -> Told {
        let word = Word { kind: BOUND, truth, reason: "R", message: "m".to_owned() };
        Told {
            object: Object { kind: Kind::ServiceEntry, key: Key::new("shop", "p") },
            reporter: Reporter::Service,
            generation: 2,
            words: vec![word],
            was_said: false,
            parents: Vec::new(),
            listeners: Vec::new(),
            is_gone: false,
        }
    }

    #[test]
    fn the_time_changes_with_the_answer_only() {
        let yes = told(Truth::True);
        let first = wanted(&yes, &yes.words[0], &[]);
        let old = StatusCondition { last_transition_time: Some("2020-01-01T00:00:00Z".to_owned()), ..first };
        assert_eq!(wanted(&yes, &yes.words[0], std::slice::from_ref(&old)), old);
        let no = told(Truth::False);
        let turned = wanted(&no, &no.words[0], std::slice::from_ref(&old));
        assert_eq!(turned.status, "False");
        assert_ne!(turned.last_transition_time, old.last_transition_time);
    }

    #[tokio::test]
    async fn the_newest_word_is_kept_until_the_object_is_gone() {
        let statuses = Statuses::default();
        statuses.tell(told(Truth::True));
        statuses.tell(told(Truth::False));
        let place = (told(Truth::True).object, Reporter::Service);
        assert_eq!(statuses.inbox.take(), std::slice::from_ref(&place));
        assert_eq!(statuses.newest.lock().get(&place), Some(&told(Truth::False)));
        statuses.forget(&place, &told(Truth::False));
        assert!(statuses.newest.lock().contains_key(&place));
        let silent = Told { words: Vec::new(), ..told(Truth::True) };
        statuses.tell(silent.clone());
        statuses.forget(&place, &silent);
        assert!(statuses.newest.lock().is_empty());
        statuses.tell(told(Truth::True));
        statuses.tell(Told { is_gone: true, ..told(Truth::True) });
        assert!(statuses.newest.lock().is_empty());
    }
}
