//! The node's probe rules, kept equal to the enrolled pods' addresses.
//!
//! In: pods' addresses. Out: the node's table. One change at a time, so that text is applied in the order it was made.

use std::net::IpAddr;

use lateen_net::netns::Netns;
use lateen_types::name::PodUid;
use tokio::sync::Mutex;

use crate::rules::{
    ProbeAddresses,
    apply::{ApplyError, change_host},
    host::Owners,
};

/// The node's side of probes.
pub struct Probes {
    node: Netns,
    addresses: ProbeAddresses,
    owners: Mutex<Owners>,
}

impl Probes {
    /// For the node whose namespace is `node`. Writes nothing yet.
    pub fn new(node: Netns, addresses: ProbeAddresses) -> Self {
        Self { node, addresses, owners: Mutex::default() }
    }

    /// Replaces the whole table by one with these pods.
    pub async fn reset(&self, pods: &[(PodUid, Vec<IpAddr>)]) -> Result<(), ApplyError> {
        let mut owners = self.owners.lock().await;
        let mut fresh = Owners::default();
        for (uid, ips) in pods {
            fresh.assign(uid, ips);
        }
        change_host(&self.node, &fresh.table(self.addresses)).await?;
        *owners = fresh;
        Ok(())
    }

    /// Makes `ips` the addresses of `uid`.
    pub async fn assign(&self, uid: &PodUid, ips: &[IpAddr]) -> Result<(), ApplyError> {
        self.change(|owners| owners.assign(uid, ips)).await
    }

    /// Drops what `uid` still owns.
    pub async fn release(&self, uid: &PodUid) -> Result<(), ApplyError> {
        self.change(|owners| owners.release(uid)).await
    }

    /// Remembers a change only when it was applied, so that a failed one is tried again.
    async fn change(&self, edit: impl FnOnce(&mut Owners) -> String) -> Result<(), ApplyError> {
        let mut owners = self.owners.lock().await;
        let mut next = owners.clone();
        let text = edit(&mut next);
        change_host(&self.node, &text).await?;
        *owners = next;
        Ok(())
    }
}
