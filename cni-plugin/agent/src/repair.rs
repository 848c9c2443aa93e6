//! After a start: what an earlier agent left is taken over, and put right.
//!
//! In: the ledger, the cluster's pods. Out: held namespaces, pods' rules and the node's probe rules as they should be.
//! Runs before the first ztunnel is served, so that the snapshot is whole.

use std::net::IpAddr;

use lateen_types::name::PodUid;

use crate::{
    decide::{Annotated, Stage},
    enrol::{EnrolError, Enroller},
    ledger::Entry,
    pods::{Cluster, PodView},
    rules::apply::ApplyError,
};

/// Takes over. `rules` says whether pods' rules are compared too. Fails only where the node itself cannot be served.
pub async fn run(enroller: &Enroller, cluster: &Cluster, rules: bool) -> Result<(), ApplyError> {
    let pods = cluster.pods();
    drop_ended(enroller, &pods);
    // The annotation may be behind the ledger, and the ledger may be lost.
    let begun = |pod: &PodView| {
        let held = enroller.ledger.find(&pod.uid);
        pod.annotated() == Annotated::Enabled || held.is_some_and(|held| held.entry.stage > Stage::Known)
    };
    for pod in pods.iter().filter(|pod| cluster.wanted(pod) && begun(pod)) {
        if let Err(error) = take_over(enroller, pod, rules).await {
            tracing::error!(pod = %pod.key, %error, "cannot take over an enrolled pod");
        }
    }
    let held = enroller.ledger.all().into_iter().filter(|held| held.entry.stage > Stage::Known);
    let owners: Vec<(PodUid, Vec<IpAddr>)> = held.map(|held| (held.entry.pod_uid(), held.entry.ips)).collect();
    enroller.probes.reset(&owners).await
}

/// Pods that ended while nobody watched: ztunnel drops them when the snapshot lacks them.
fn drop_ended(enroller: &Enroller, pods: &[PodView]) {
    for held in enroller.ledger.all() {
        let uid = held.entry.pod_uid();
        if !pods.iter().any(|pod| pod.uid == uid && !pod.finished)
            && let Err(error) = enroller.ledger.remove(&uid)
        {
            tracing::warn!(pod = %held.entry.key(), %error, "cannot drop a pod from the ledger");
        }
    }
}

async fn take_over(enroller: &Enroller, pod: &PodView, rules: bool) -> Result<(), EnrolError> {
    let enabled = pod.annotated() == Annotated::Enabled;
    let known = enroller.ledger.find(&pod.uid).map(|held| held.entry.ips).unwrap_or_default();
    let ips = if pod.ips.is_empty() { known } else { pod.ips.clone() };
    let place = match enroller.locate(pod).await {
        Ok(place) => place,
        // It runs somewhere: ztunnel keeps what it has, and we keep its place in the snapshot.
        Err(EnrolError::NoNetns(_)) => return Ok(enroller.ledger.put(unplaced(pod), None)?),
        Err(error) => return Err(error),
    };
    enroller.remember(pod, &ips, &place)?;
    enroller.ledger.edit(&pod.uid, |held| {
        held.netns = Some(place.netns.clone());
        // What waited for ztunnel's yes waits on.
        held.entry.stage = if enabled { Stage::Enrolled } else { held.entry.stage.max(Stage::Started) };
    })?;
    if rules && enroller.repair_rules(pod, &place.netns).await? {
        tracing::info!(pod = %pod.key, "the pod's rules were not as they should be; repaired");
    }
    Ok(())
}

fn unplaced(pod: &PodView) -> Entry {
    Entry {
        uid: pod.uid.as_str().into(),
        namespace: pod.key.namespace.as_ref().into(),
        name: pod.key.name.as_ref().into(),
        service_account: pod.service_account.clone(),
        container_id: None,
        path: None,
        device: 0,
        inode: 0,
        ips: pod.ips.clone(),
        stage: Stage::Enrolled,
    }
}
