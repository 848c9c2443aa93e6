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

/// Waits until `look` finds something, at most 20 s; `what` names it in the panic.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "{what} did not happen within 20 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
