//! Pods, nodes and a scripted control plane in network namespaces, around the real ztunnel process.
//!
//! In: a script. Out: a [`rig::Rig`] to send traffic through, with the access records and metrics it left.
//! Everything lives in namespaces of its own and in a temporary directory, and ends with the rig.

pub mod agent;
pub mod ca;
pub mod control;
pub mod fabric;
pub mod node;
pub mod resources;
pub mod rig;
pub mod traffic;
pub mod worlds;

use std::{future::Future, time::Duration};

/// How long a test waits for what should happen at once, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds something; `what` names it in the panic.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    in_time(look).await.unwrap_or_else(|| panic!("{what} did not happen within {PATIENCE:?}"))
}

/// What `look` finds before the time is over.
pub async fn in_time<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> Option<T> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if tokio::time::Instant::now() >= until {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
