//! Hands the trust anchors to every namespace, as the ConfigMap `istio-ca-root-cert`.
//!
//! In: namespaces, those ConfigMaps as they are, the CA's roots. Out: the ConfigMaps as they should be.
//! One that a user edits or deletes is put back; that of a namespace that left the mesh goes. Only the leader writes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
    runtime::watcher,
};
use lateen_cluster::store::{self, Key, Listener, Reading, Store};
use lateen_rt::{backoff::Backoff, deadline::within, inbox::Inbox};
use tokio::sync::watch;

use super::authority::Authority;
use crate::{facts::Namespace, leader::Leading, settings::Settings};

/// The ConfigMap's name.
pub const NAME: &str = "istio-ca-root-cert";
const FILE: &str = "root-cert.pem";
/// Who wrote a field, as server-side apply records it.
pub const FIELD_MANAGER: &str = "lateen-controller";
/// Namespaces without workloads.
const EXCLUDED: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// What the hand-out needs.
pub struct Anchors {
    /// The API.
    pub client: Client,
    /// All namespaces.
    pub namespaces: Store<Namespace>,
    /// Names of namespaces to look at.
    pub inbox: Inbox<Key>,
    /// The CA.
    pub authority: watch::Receiver<Arc<Authority>>,
    /// What holds for the mesh: which namespaces are part of it.
    pub settings: watch::Receiver<Option<Arc<Settings>>>,
    /// Whether this process writes.
    pub leading: Leading,
}

impl Anchors {
    /// Hands out, for ever.
    pub async fn run(mut self) {
        let present = Store::default();
        let noted = Noted { inbox: self.inbox.clone() };
        let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let following = store::follow(Api::<ConfigMap>::all(self.client.clone()), config, present.clone(), noted);
        tokio::pin!(following);
        let mut pace = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_jitter(0.2);
        loop {
            // Following never ends; dropping a drain or a change takes nothing.
            let batch = tokio::select! {
                () = &mut following => return,
                batch = self.inbox.drain() => batch,
                changed = self.authority.changed() => match changed {
                    Ok(()) => self.everywhere(),
                    Err(_) => return,
                },
                changed = self.settings.changed() => match changed {
                    Ok(()) => self.everywhere(),
                    Err(_) => return,
                },
                changed = self.leading.changed() => match changed {
                    Ok(()) => self.everywhere(),
                    Err(_) => return,
                },
            };
            // Who comes to lead looks everywhere, so nothing is lost here.
            if !*self.leading.borrow() {
                continue;
            }
            let failed = tokio::select! {
                () = &mut following => return,
                failed = self.put_right(batch, &present) => failed,
            };
            if failed.is_empty() {
                pace.reset();
                continue;
            }
            tokio::select! {
                () = &mut following => return,
                () = tokio::time::sleep(pace.next_wait()) => failed.into_iter().for_each(|key| self.inbox.push(key)),
            }
        }
    }

    fn everywhere(&self) -> Vec<Key> {
        self.namespaces.snapshot().into_iter().map(|(key, _)| key).collect()
    }

    /// Puts the ConfigMaps of these namespaces right; the ones where that failed.
    async fn put_right(&self, batch: Vec<Key>, present: &Store<String>) -> Vec<Key> {
        let roots = self.authority.borrow().roots().to_owned();
        let settings = self.settings.borrow().clone();
        let mut failed = Vec::new();
        for key in batch {
            let Some(found) = self.namespaces.find(&key) else { continue };
            let held = present.find(&Key::new(&key.name, NAME));
            let done = match wish(&key.name, &found, settings.as_deref()) {
                Wish::There if held.as_deref() != Some(&roots) => self.write(&key.name, &roots).await,
                Wish::Gone if held.is_some() => self.remove(&key.name).await,
                Wish::There | Wish::Gone | Wish::Whatever => Ok(()),
            };
            if let Err(reason) = done {
                tracing::warn!(namespace = %key.name, reason, "writing the trust anchors failed; trying again");
                failed.push(key);
            }
        }
        failed
    }

    async fn remove(&self, namespace: &str) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        match within("removing a ConfigMap", API_TIMEOUT, api.delete(NAME, &DeleteParams::default())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(late) => Err(late.to_string()),
        }
    }

    async fn write(&self, namespace: &str, roots: &str) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let labels = BTreeMap::from([("istio.io/config".to_owned(), "true".to_owned())]);
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(FILE.to_owned(), roots.to_owned())])),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&map);
        match within("writing a ConfigMap", API_TIMEOUT, api.patch(NAME, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            // The namespace went meanwhile; there is nobody to hand anything to.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(late) => Err(late.to_string()),
        }
    }
}

/// What is to be done about a namespace's ConfigMap.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    There,
    Gone,
    Whatever,
}

fn wish(name: &str, namespace: &Namespace, settings: Option<&Settings>) -> Wish {
    let Some(settings) = settings.filter(|_| !namespace.terminating && !EXCLUDED.contains(&name)) else {
        return Wish::Whatever;
    };
    if settings.discovers(name, &namespace.labels) { Wish::There } else { Wish::Gone }
}

/// Keeps what the ConfigMaps hold, and asks for a look at the namespace of each that changes.
struct Noted {
    inbox: Inbox<Key>,
}

impl Listener<ConfigMap> for Noted {
    type Value = String;

    fn read(&mut self, map: ConfigMap) -> Reading<String> {
        Reading::Value(map.data.and_then(|mut data| data.remove(FILE)).unwrap_or_default())
    }

    fn changed(&mut self, key: &Key) {
        self.inbox.push(Key::new("", &key.namespace));
    }

    fn complete(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_namespaces_get_anchors() {
        let all = Settings::usual(crate::derive::tests::mesh(), "istio-system");
        let some = all.with("discoverySelectors: [{matchLabels: {mesh: 'yes'}}]").expect("valid");
        let live = Namespace::default();
        assert_eq!(wish("shop", &live, Some(&all)), Wish::There);
        assert_eq!(wish("kube-system", &live, Some(&all)), Wish::There);
        assert_eq!(wish("kube-public", &live, Some(&all)), Wish::Whatever);
        assert_eq!(wish("kube-node-lease", &live, Some(&all)), Wish::Whatever);
        assert_eq!(wish("shop", &live, None), Wish::Whatever);
        assert_eq!(wish("shop", &live, Some(&some)), Wish::Gone);
        assert_eq!(wish("istio-system", &live, Some(&some)), Wish::There);
        let labels = [("mesh".to_owned(), "yes".to_owned())].into();
        assert_eq!(wish("shop", &Namespace { labels, ..live.clone() }, Some(&some)), Wish::There);
        assert_eq!(wish("shop", &Namespace { terminating: true, ..live }, Some(&all)), Wish::Whatever);
    }
}
