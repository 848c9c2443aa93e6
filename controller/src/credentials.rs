//! Looks up the Secrets and ConfigMaps that proxies need for TLS, each by its name, and no others: what nobody names is
//! never read, and what nobody names any more is forgotten.
//!
//! In: which are asked for, as `graph` says. Out: what was found, and word of each change in the inbox.
//! They are asked for again and again, not watched: a watch takes the right to read all Secrets of the cluster at once,
//! where this takes a name. The one Secret that is made where it is missing is our own, which session keys are derived
//! from: 32 random bytes, as soon as a route keeps sessions. Absent on purpose: who is given what (see `graph::credentials`). Nothing found is ever logged.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::{ByteString, NamespaceResourceScope, api::core::v1 as core};
use kube::{
    Api, Client, Resource,
    api::{GetParams, ObjectMeta, PostParams},
};
use lateen_cluster::store::Key;
use lateen_rt::{deadline::within, inbox::Inbox};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    facts::{Credential, Lookup, SessionSecret, Source},
    watch::Change,
};

/// What was found; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Found {
    all: Arc<Mutex<HashMap<Source, Lookup>>>,
}

impl Found {
    /// What is known of a source.
    pub fn look(&self, source: &Source) -> Lookup {
        self.all.lock().get(source).cloned().unwrap_or(Lookup::Pending)
    }

    /// Whether that is news.
    fn set(&self, source: &Source, new: Lookup) -> bool {
        let old = self.all.lock().insert(source.clone(), new.clone());
        old != Some(new)
    }
}

/// What looking takes.
pub struct Credentials {
    /// The API.
    pub client: Client,
    /// All that is asked for.
    pub asked: watch::Receiver<BTreeSet<Source>>,
    /// Where what is found is kept.
    pub found: Found,
    /// Where changes are told.
    pub inbox: Inbox<Change>,
    /// The Secret that is made where it is missing.
    pub sessions: Key,
}

/// How often each is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// As many as are looked at in a second at most, so that thousands of them are no burden.
const PER_SECOND: u32 = 50;
/// As many as are looked at at a time.
const LOOKS_MAX: usize = 8;
const API_TIMEOUT: Duration = Duration::from_secs(10);
const SECRET_TYPE: &str = "lateen.io/session-secret";

impl Credentials {
    /// Looks, for ever.
    pub async fn run(mut self) {
        let mut due: HashMap<Source, Instant> = HashMap::new();
        loop {
            let asked = self.asked.borrow_and_update().clone();
            due.retain(|source, _| asked.contains(source));
            self.found.all.lock().retain(|source, _| asked.contains(source));
            let now = Instant::now();
            let ripe: Vec<Source> =
                asked.iter().filter(|source| due.get(source).is_none_or(|at| *at <= now)).cloned().collect();
            let looks = futures::stream::iter(ripe.clone()).map(|source| self.look(source));
            looks.buffer_unordered(LOOKS_MAX).collect::<()>().await;
            let next = Instant::now() + pause(asked.len());
            due.extend(ripe.into_iter().map(|source| (source, next)));
            let first = due.values().min().copied();
            let waiting = async {
                match first {
                    Some(first) => sleep_until(first).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waiting => {}
                changed = self.asked.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn look(&self, source: Source) {
        let found = match &source {
            Source::Secret(key) => {
                let api: Api<core::Secret> = Api::namespaced(self.client.clone(), &key.namespace);
                match one(&api, &key.name, Credential::of_secret).await {
                    Some(Lookup::Absent) if *key == self.sessions => made(&api, &key.name).await,
                    found => found,
                }
            }
            Source::ConfigMap(key) => {
                let api: Api<core::ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
                one(&api, &key.name, Credential::of_config_map).await
            }
        };
        let Some(found) = found else {
            return tracing::debug!(%source, "looking at an object failed; what was known of it stays");
        };
        if self.found.set(&source, found) {
            self.inbox.push(Change::Credential(source));
        }
    }
}

fn pause(asked: usize) -> Duration {
    EVERY.max(Duration::from_secs(1) * u32::try_from(asked).unwrap_or(u32::MAX) / PER_SECOND)
}

/// Makes the Secret that session keys are derived from, and says what is there then: perhaps somebody else was quicker.
async fn made(api: &Api<core::Secret>, name: &str) -> Option<Lookup> {
    let secret = ByteString(rand::random::<[u8; SessionSecret::BYTES]>().to_vec());
    let secret = core::Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some([(SessionSecret::FIELD.to_owned(), secret)].into()),
        ..core::Secret::default()
    };
    let params = PostParams::default();
    match within("making the session secret", API_TIMEOUT, api.create(&params, &secret)).await {
        Ok(Ok(_)) => tracing::info!(name, "made the Secret that session keys are derived from"),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
        Ok(Err(kube::Error::Api(status))) => {
            return Some(Lookup::Denied(format!("it is not there and cannot be made: {}", status.message)));
        }
        Ok(Err(_)) | Err(_) => return None,
    }
    one(api, name, Credential::of_secret).await
}

/// What there is; nothing where nobody can say. An error's own words might quote what could not be decoded.
async fn one<K>(api: &Api<K>, name: &str, read: fn(&K) -> Credential) -> Option<Lookup>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    // Any version will do that the API server has at hand.
    match within("looking at an object", API_TIMEOUT, api.get_with(name, &GetParams::any())).await {
        Ok(Ok(object)) => Some(Lookup::Found(Arc::new(read(&object)))),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Some(Lookup::Absent),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Some(Lookup::Denied(format!("the control plane may not read it: {}", status.message)))
        }
        Ok(Err(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_looked_at_less_often() {
        assert_eq!((pause(0), pause(1), pause(250)), (EVERY, EVERY, EVERY));
        assert_eq!(pause(1_000), Duration::from_secs(20));
    }
}
