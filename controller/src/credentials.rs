//! Looks up the Secrets and ConfigMaps that proxies need for TLS, each by its name, and no others: what nobody names is
//! never read, and what nobody names any more is forgotten.
//!
//! In: which are asked for, as `graph` says. Out: what was found, and word of each change in the inbox.
//! They are asked for again and again, not watched: a watch takes the right to read all Secrets of the cluster at once,
//! where this takes a name. The one Secret that is made where it is missing is our own, which session keys are derived
//! from: 32 random bytes, as soon as a route keeps sessions. Absent on purpose: who is given what (see
//! `graph::credentials`). Nothing found is ever logged.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
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

    /// Those of `sources` of which something is known.
    pub fn known<'a>(&self, sources: impl Iterator<Item = &'a Source>) -> Vec<Source> {
        let all = self.all.lock();
        sources.filter(|source| all.contains_key(source)).cloned().collect()
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
/// The least time between two that are looked at again, so that thousands of them are no burden: then each is looked at
/// less often.
const APART: Duration = Duration::from_millis(20);
/// As many as are looked at at a time.
const LOOKS_MAX: usize = 8;
const API_TIMEOUT: Duration = Duration::from_secs(10);
const SECRET_TYPE: &str = "lateen.io/session-secret";

impl Credentials {
    /// Looks, for ever. One that takes its time holds up no other.
    pub async fn run(mut self) {
        let mut schedule = Schedule::default();
        let mut looks = FuturesUnordered::new();
        let mut failing = HashSet::new();
        let mut asked = BTreeSet::new();
        self.asked.mark_changed();
        loop {
            while looks.len() < LOOKS_MAX
                && let Some(source) = schedule.take(Instant::now())
            {
                looks.push(look(self.client.clone(), self.sessions.clone(), source));
            }
            let next = schedule.next().filter(|_| looks.len() < LOOKS_MAX);
            let waiting = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waiting => {}
                Some((source, found)) = looks.next() => {
                    let is_asked = asked.contains(&source);
                    if is_asked {
                        self.took(&source, found, &mut failing);
                    }
                    schedule.done(source, is_asked, Instant::now());
                }
                changed = self.asked.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now: BTreeSet<Source> = self.asked.borrow_and_update().clone();
                    schedule.follow(&asked, &now, Instant::now());
                    self.found.all.lock().retain(|source, _| now.contains(source));
                    failing.retain(|source| now.contains(source));
                    asked = now;
                }
            }
        }
    }

    fn took(&self, source: &Source, found: Option<Lookup>, failing: &mut HashSet<Source>) {
        let Some(found) = found else {
            if failing.insert(source.clone()) {
                tracing::warn!(%source, "the API server does not say what is in it; what was known of it stays, and it is asked for again");
            }
            return;
        };
        failing.remove(source);
        if self.found.set(source, found) {
            self.inbox.push(Change::Credential(source.clone()));
        }
    }
}

/// When each is looked at next.
#[derive(Debug, Default)]
struct Schedule {
    due: BTreeSet<(Instant, Source)>,
    /// Those that are being looked at, which are due only afterwards.
    begun: HashSet<Source>,
    /// When the one that is looked at again last is due.
    last: Option<Instant>,
}

impl Schedule {
    /// What is asked for anew is due at once, what is not any more never.
    fn follow(&mut self, before: &BTreeSet<Source>, now: &BTreeSet<Source>, at: Instant) {
        self.due.retain(|(_, source)| now.contains(source));
        let new = now.difference(before).filter(|source| !self.begun.contains(source));
        self.due.extend(new.map(|source| (at, source.clone())));
    }

    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn take(&mut self, now: Instant) -> Option<Source> {
        self.next().filter(|at| *at <= now)?;
        let (_, source) = self.due.pop_first()?;
        self.begun.insert(source.clone());
        Some(source)
    }

    fn done(&mut self, source: Source, is_asked: bool, now: Instant) {
        self.begun.remove(&source);
        if !is_asked {
            return;
        }
        let spread = self.last.map_or(now, |last| last + APART);
        let at = spread.max(now + EVERY);
        self.last = Some(at);
        self.due.insert((at, source));
    }
}

async fn look(client: Client, sessions: Key, source: Source) -> (Source, Option<Lookup>) {
    let (Source::Secret(key) | Source::ConfigMap(key)) = &source;
    if let Some(why) = misnamed(key) {
        return (source, Some(Lookup::Denied(why)));
    }
    let found = match &source {
        Source::Secret(key) => {
            let api: Api<core::Secret> = Api::namespaced(client, &key.namespace);
            match one(&api, &key.name, Credential::of_secret).await {
                Some(Lookup::Absent) if *key == sessions => made(&api, &key.name).await,
                found => found,
            }
        }
        Source::ConfigMap(key) => {
            let api: Api<core::ConfigMap> = Api::namespaced(client, &key.namespace);
            one(&api, &key.name, Credential::of_config_map).await
        }
    };
    (source, found)
}

/// What is wrong with a name that users wrote. It becomes a part of a path: `../` in it might lead to another namespace.
fn misnamed(key: &Key) -> Option<String> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    let is_name = |name: &str| name.len() <= 253 && name.bytes().all(known) && name.split('.').all(is_part);
    let wrong = [&*key.namespace, &*key.name].into_iter().find(|name| !is_name(name))?;
    let shown: String = wrong.chars().take(253).collect();
    Some(format!("{shown:?} is no name of an object; use lower-case letters, digits, '-' and '.'"))
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

    fn secret(name: &str) -> Source {
        Source::Secret(Key::new("shop", name))
    }

    #[test]
    fn what_is_asked_for_anew_is_looked_at_at_once_and_again_later() {
        let begin = Instant::now();
        let (one, two) = (BTreeSet::from([secret("a")]), BTreeSet::from([secret("a"), secret("b")]));
        let mut schedule = Schedule::default();
        schedule.follow(&BTreeSet::new(), &one, begin);
        assert_eq!((schedule.take(begin), schedule.take(begin)), (Some(secret("a")), None));
        // It is being looked at: it is not begun a second time.
        schedule.follow(&one, &two, begin);
        assert_eq!((schedule.take(begin), schedule.take(begin)), (Some(secret("b")), None));
        schedule.follow(&two, &one, begin);
        schedule.follow(&one, &two, begin);
        assert_eq!(schedule.next(), None, "still being looked at");
        schedule.done(secret("b"), true, begin);
        assert_eq!((schedule.next(), schedule.take(begin)), (Some(begin + EVERY), None));
        schedule.follow(&two, &one, begin);
        assert_eq!(schedule.next(), None, "nobody asks for it any more");
        schedule.done(secret("a"), false, begin);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn many_are_looked_at_one_after_the_other() {
        let begin = Instant::now();
        let mut schedule = Schedule::default();
        (0..1_000).for_each(|at| schedule.done(secret(&format!("s{at}")), true, begin));
        let last = schedule.due.last().expect("the last").0;
        assert_eq!(last - begin, EVERY + 999 * APART);
        assert_eq!(schedule.take(begin + EVERY), Some(secret("s0")));
        assert_eq!(schedule.take(begin + EVERY), None);
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in ["web-cert", "a.b", "1"] {
            assert_eq!(misnamed(&Key::new("shop", name)), None);
        }
        for name in ["", "a b", "../../other/secrets/x", "..", "a..b", "A", "-a", "a-", "a/b", &"a".repeat(254)] {
            assert!(misnamed(&Key::new("shop", name)).is_some_and(|why| why.contains("no name")), "{name:?}");
            assert!(misnamed(&Key::new(name, "web-cert")).is_some(), "{name:?}");
        }
    }
}
