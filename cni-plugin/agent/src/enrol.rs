//! Taking a pod into the mesh, and out of it: the acts and their order.
//!
//! In: a pod, its namespace. Out: it is in (or out), or what failed and whether trying again helps.
//! Absent on purpose: deciding (see `decide`) and retrying (see `watch`).
//!
//! ```text
//! in:   ledger ─► rules ─► ztunnel ─► probes ─► annotation               (a pod without rules is never told to ztunnel)
//! out:  ledger ─► rules opened ─► ztunnel ─► annotation ─► probes ─► rules deleted ─► ledger
//! ```

use std::{collections::HashMap, net::IpAddr, path::PathBuf, sync::Arc};

use lateen_net::netns::Netns;
use lateen_types::name::PodUid;
use parking_lot::Mutex;

use crate::{
    annotate::{AnnotateError, Annotator, Mark},
    decide::Stage,
    finder::{Finder, Found},
    ledger::{Entry, Held, Ledger, LedgerError},
    pods::{FetchError, PodView},
    probes::Probes,
    rules::{
        PodOptions,
        apply::{ApplyError, Comparer, Found as RulesFound, apply, open, remove},
        overrides::{OverrideError, pod_options},
        plan::{PodRules, plan},
    },
    zds::{Workload, ZdsError, Ztunnels},
};

/// Why a pod is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Its namespace is nowhere.
    #[error("the network namespace of pod {0} was not found on this node; restart the pod")]
    NoNetns(String),
    /// Its annotations make no sense.
    #[error(transparent)]
    Override(#[from] OverrideError),
    /// Its rules.
    #[error("rules in the pod: {0}")]
    Rules(#[source] ApplyError),
    /// The node's probe rules.
    #[error("probe rules of the node: {0}")]
    Probes(#[source] ApplyError),
    /// ztunnel.
    #[error(transparent)]
    Ztunnel(#[from] ZdsError),
    /// The annotation.
    #[error(transparent)]
    Annotate(#[from] AnnotateError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The cluster does not say whether the pod is still there.
    #[error(transparent)]
    Cluster(#[from] FetchError),
}

impl EnrolError {
    /// Whether the same act may succeed later with nothing changed in the pod.
    pub fn retry(&self) -> bool {
        match self {
            Self::NoNetns(_) | Self::Override(_) | Self::Rules(_) => false,
            Self::Probes(_) | Self::Ztunnel(_) | Self::Annotate(_) | Self::Ledger(_) | Self::Cluster(_) => true,
        }
    }
}

/// Where a pod's namespace was learned.
#[derive(Debug, Clone)]
pub struct Place {
    /// The namespace.
    pub netns: Netns,
    /// Where it can be opened again.
    pub path: PathBuf,
    /// The runtime's id of the sandbox, from the plugin.
    pub container_id: Option<String>,
}

/// Everything the acts need.
pub struct Enroller {
    /// The pods we know.
    pub ledger: Arc<Ledger>,
    /// The node's proxies.
    pub ztunnels: Ztunnels,
    /// The node's probe rules.
    pub probes: Probes,
    /// The annotation.
    pub annotator: Annotator,
    /// Where namespaces are.
    pub finder: Finder,
    /// The installation's rules.
    pub defaults: PodOptions,
    /// What rules look like once applied.
    pub comparer: Comparer,
    /// One act per pod at a time.
    pub turns: Turns,
}

impl Enroller {
    /// Remembers where a pod lives, also if it is not ours (yet).
    pub fn remember(&self, pod: &PodView, ips: &[IpAddr], place: &Place) -> Result<(), EnrolError> {
        let id = place.netns.id();
        let known =
            self.ledger.find(&pod.uid).filter(|held| (held.entry.device, held.entry.inode) == (id.device, id.inode));
        let stage = known.as_ref().map_or(Stage::Known, |held| held.entry.stage);
        let told =
            place.container_id.clone().or_else(|| known.as_ref().and_then(|held| held.entry.container_id.clone()));
        let entry = Entry {
            uid: pod.uid.as_str().into(),
            namespace: pod.key.namespace.as_ref().into(),
            name: pod.key.name.as_ref().into(),
            service_account: pod.service_account.clone(),
            container_id: told,
            path: Some(place.path.clone()),
            device: id.device,
            inode: id.inode,
            ips: ips.to_vec(),
            stage,
        };
        Ok(self.ledger.put(entry, known.and_then(|held| held.netns))?)
    }

    /// Finds where a running pod lives, and remembers it: what we hold, what the ledger says, then a search.
    pub async fn locate(&self, pod: &PodView) -> Result<Place, EnrolError> {
        let held = self.ledger.find(&pod.uid);
        let known = held.as_ref().and_then(|held| {
            let netns = held.netns.clone().or_else(|| held.entry.reopen())?;
            Some(Place { netns, path: held.entry.path.clone()?, container_id: held.entry.container_id.clone() })
        });
        if let Some(place) = known {
            return Ok(place);
        }
        let (finder, uid, ips) = (self.finder.clone(), pod.uid.clone(), pod.ips.clone());
        let found = tokio::task::spawn_blocking(move || finder.find(&uid, &ips)).await.ok().flatten();
        let Found { netns, path } = found.ok_or_else(|| EnrolError::NoNetns(pod.key.to_string()))?;
        let place = Place { netns, path, container_id: None };
        self.remember(pod, &pod.ips, &place)?;
        Ok(place)
    }

    /// Takes a pod in, up to ztunnel's yes and the node's probe rules. Repeating it changes nothing.
    pub async fn enrol(&self, pod: &PodView, ips: &[IpAddr], place: &Place) -> Result<(), EnrolError> {
        self.remember(pod, ips, place)?;
        let rules = self.rules_of(pod)?;
        // From here on a ztunnel that connects hears of the pod.
        self.ledger.edit(&pod.uid, |held| {
            held.netns = Some(place.netns.clone());
            held.entry.stage = held.entry.stage.max(Stage::Started);
        })?;
        if let Err(error) = apply(&place.netns, &rules).await {
            self.ledger.edit(&pod.uid, |held| {
                held.netns = None;
                held.entry.stage = Stage::Known;
            })?;
            return Err(EnrolError::Rules(error));
        }
        self.ztunnels.add(workload(pod, &place.netns)).await?;
        self.probes.assign(&pod.uid, ips).await.map_err(EnrolError::Probes)?;
        self.ledger.edit(&pod.uid, |held| held.entry.stage = Stage::Enrolled)?;
        Ok(())
    }

    /// Follows a pod to new addresses.
    pub async fn readdress(&self, pod: &PodView) -> Result<(), EnrolError> {
        self.probes.assign(&pod.uid, &pod.ips).await.map_err(EnrolError::Probes)?;
        Ok(self.ledger.edit(&pod.uid, |held| held.entry.ips.clone_from(&pod.ips))?)
    }

    /// Takes a running pod out. What its apps notice comes first; what deletes rules comes last, since the kernel may take
    /// many seconds for it on a busy node.
    pub async fn unenrol(&self, pod: &PodView) -> Result<(), EnrolError> {
        // Whatever fails from here on, it is not in: wanted again before this is done, it is enrolled anew.
        self.ledger.edit(&pod.uid, |held| held.entry.stage = held.entry.stage.min(Stage::Started))?;
        let (netns, located) = match self.locate(pod).await {
            Ok(place) => (Some(place.netns), Ok(())),
            // It is marked as ours, but nowhere to be found: nothing of it is left to undo but the mark.
            Err(EnrolError::NoNetns(_)) => (None, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let opened = match &netns {
            Some(netns) => open(netns).await.map_err(EnrolError::Rules),
            None => Ok(()),
        };
        // It cuts what it carries, which the apps hear of only as long as the table is there.
        let ztunnel = self.ztunnels.del(&pod.uid).await.map_err(EnrolError::Ztunnel);
        located.and(opened).and(ztunnel)?;
        self.annotator.write(&pod.key, &pod.uid, Mark::Absent).await?;
        let probes = self.probes.release(&pod.uid).await.map_err(EnrolError::Probes);
        let rules = match &netns {
            Some(netns) => remove(netns).await.map_err(EnrolError::Rules),
            None => Ok(()),
        };
        probes.and(rules)?;
        Ok(self.ledger.edit(&pod.uid, |held| {
            held.netns = None;
            held.entry.stage = Stage::Known;
        })?)
    }

    /// Drops a pod that has ended; its namespace goes with it.
    pub async fn forget(&self, uid: &PodUid) -> Result<(), EnrolError> {
        let probes = self.probes.release(uid).await.map_err(EnrolError::Probes);
        let ztunnel = self.ztunnels.del(uid).await.map_err(EnrolError::Ztunnel);
        probes.and(ztunnel)?;
        Ok(self.ledger.remove(uid)?)
    }

    /// The rules this pod should have.
    pub fn rules_of(&self, pod: &PodView) -> Result<PodRules, EnrolError> {
        Ok(plan(&pod_options(&self.defaults, &pod.annotations)?))
    }

    /// Makes the rules of a pod that is in what they should be. Out: whether they were not.
    pub async fn repair_rules(&self, pod: &PodView, netns: &Netns) -> Result<bool, EnrolError> {
        let rules = self.rules_of(pod)?;
        if self.comparer.compare(netns, &rules).await.map_err(EnrolError::Rules)? == RulesFound::Same {
            return Ok(false);
        }
        apply(netns, &rules).await.map_err(EnrolError::Rules)?;
        Ok(true)
    }
}

fn workload(pod: &PodView, netns: &Netns) -> Workload {
    Workload {
        uid: pod.uid.clone(),
        name: pod.key.name.as_ref().into(),
        namespace: pod.key.namespace.as_ref().into(),
        service_account: pod.service_account.clone(),
        netns: Some(netns.clone()),
    }
}

/// The pods that are in, or on their way.
pub fn snapshot(ledger: &Ledger) -> Vec<Workload> {
    let started = ledger.all().into_iter().filter(|held| held.entry.stage > Stage::Known);
    started
        .map(|Held { entry, netns }| Workload {
            uid: entry.pod_uid(),
            name: entry.name,
            namespace: entry.namespace,
            service_account: entry.service_account,
            netns,
        })
        .collect()
}

/// Lets one act per pod happen at a time: the plugin and the watch may want the same pod at once.
#[derive(Debug, Default)]
pub struct Turns {
    taken: Mutex<HashMap<PodUid, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits until nobody else acts on the pod. The turn ends when the value is dropped.
    pub async fn take(&self, uid: &PodUid) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut taken = self.taken.lock();
            // Locks that only this map holds are nobody's.
            taken.retain(|_, lock| Arc::strong_count(lock) > 1);
            taken.entry(uid.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}
