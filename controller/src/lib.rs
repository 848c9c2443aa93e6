//! The control plane: from what the cluster holds to what each proxy needs to know, and who each proxy is.
//!
//! In: Kubernetes objects, proxies' requests. Out: discovery streams, certificates, trust anchors, status conditions.
//! Absent on purpose: traffic.

pub mod admit;
pub mod app;
pub mod ca;
pub mod config;
pub mod credentials;
pub mod derive;
pub mod enforcement;
pub mod events;
pub mod facts;
pub mod graph;
pub mod leader;
pub mod names;
pub mod provision;
pub mod publish;
pub mod scope;
pub mod serve;
pub mod settings;
pub mod status;
pub mod untaint;
pub mod vips;
pub mod watch;

/// The time certificates and people live by. (Waits use tokio's clock.)
pub fn wall_clock() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
