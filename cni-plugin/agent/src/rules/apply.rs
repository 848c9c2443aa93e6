//! Rules put into a namespace, and taken out.
//!
//! In: a namespace and what was planned. Out: it is so, or what stood in the way. Repeating changes nothing.
//! Absent on purpose: deciding. Routes come first and the table last, so that no redirected packet lacks its way back.

use std::{collections::HashMap, sync::Arc};

use lateen_net::{
    netns::{Netns, NetnsError},
    nft,
};
use parking_lot::Mutex;

use super::{NftError, RouteError, handover, host, plan, plan::PodRules, ports, reuse, routes};

/// Why a namespace is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The rule table.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The policy routes.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// What is in a namespace, measured by what should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Exactly that.
    Same,
    /// Something else.
    Different,
    /// Nothing.
    Nothing,
}

/// Puts `rules` into a pod's namespace.
pub async fn apply(netns: &Netns, rules: &PodRules) -> Result<(), ApplyError> {
    routes::ensure(netns, rules.families).await?;
    if let Err(error) = ports::reserve(netns)? {
        // Rare harm (one port of 28,000), so no reason to refuse the pod.
        tracing::warn!(%error, netns = %netns.id(), "cannot reserve ztunnel's ports; an app's own port may take one");
    }
    if let Err(error) = handover::allow(netns)? {
        tracing::debug!(%error, netns = %netns.id(), "a new ztunnel's start may cost the pod a connection");
    }
    if let Err(error) = reuse::allow(netns)? {
        tracing::debug!(%error, netns = %netns.id(), "many short calls may use up source ports or wait a second");
    }
    match nft::transaction(netns, &rules.fresh).await {
        Err(NftError::Refused(complaint)) if complaint.contains("File exists") => {
            Ok(nft::transaction(netns, &rules.nft).await?)
        }
        done => Ok(done?),
    }
}

/// Redirects nothing new any more, and leaves alone what was redirected; [`remove`] is to follow.
pub async fn open(netns: &Netns) -> Result<(), ApplyError> {
    match nft::transaction(netns, &plan::opening()).await {
        // No table, nothing redirected.
        Err(NftError::Refused(complaint)) if complaint.contains("No such file") => Ok(()),
        done => Ok(done?),
    }
}

/// Takes everything out of a pod's namespace.
pub async fn remove(netns: &Netns) -> Result<(), ApplyError> {
    nft::transaction(netns, &plan::removal()).await?;
    routes::remove(netns).await?;
    if let Err(error) = ports::release(netns)? {
        tracing::debug!(%error, netns = %netns.id(), "ztunnel's ports stay reserved in the pod");
    }
    Ok(())
}

/// Pods choose among a handful of plans; their annotations must not fill our memory.
const PRINTED_MAX: usize = 64;

/// Compares a pod's namespace with a plan.
///
/// nft prints rules in its own words, so the plan is put into an empty namespace and both are printed by the same
/// program. Each plan is printed once.
#[derive(Debug, Clone, Default)]
pub struct Comparer {
    printed: Arc<Mutex<HashMap<String, String>>>,
}

impl Comparer {
    /// What is in `netns`, measured by `rules`.
    pub async fn compare(&self, netns: &Netns, rules: &PodRules) -> Result<Found, ApplyError> {
        let Some(found) = nft::list(netns, plan::TABLE).await? else { return Ok(Found::Nothing) };
        let expected = self.printed(rules).await?;
        Ok(if found == expected { Found::Same } else { Found::Different })
    }

    async fn printed(&self, rules: &PodRules) -> Result<String, ApplyError> {
        let known = self.printed.lock().get(&rules.nft).cloned();
        if let Some(text) = known {
            return Ok(text);
        }
        let scratch = Netns::create()?;
        nft::transaction(&scratch, &rules.fresh).await?;
        let text = nft::list(&scratch, plan::TABLE).await?.unwrap_or_default();
        let mut printed = self.printed.lock();
        if printed.len() >= PRINTED_MAX {
            printed.clear();
        }
        printed.insert(rules.nft.clone(), text.clone());
        Ok(text)
    }
}

/// Changes the node's probe rules by `text` (see [`host::Owners`]); an empty text changes nothing.
pub async fn change_host(node: &Netns, text: &str) -> Result<(), ApplyError> {
    if !text.is_empty() {
        nft::transaction(node, text).await?;
    }
    Ok(())
}

/// Removes the node's probe rules.
pub async fn remove_host(node: &Netns) -> Result<(), ApplyError> {
    Ok(nft::transaction(node, &host::removal()).await?)
}
