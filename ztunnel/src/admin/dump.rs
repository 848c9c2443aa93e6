//! The whole dump: one snapshot of the world, and what the other rooms hold at this moment.

use lateen_state::world::WorldStore;
use serde_json::{Value, json};

use super::{Sources, certificates, connections, settings, world};

pub(super) fn dump(of: &Sources) -> Value {
    let now = of.store.load();
    let held = of.keeper.as_ref().map(|keeper| keeper.dump()).unwrap_or_default();
    let mut all = json!({
        "workloads": world::workloads(&now),
        "services": world::services(&now),
        "policies": world::policies(&now),
        "stagedServices": world::staged(&now),
        "staticConfig": static_config(&of.local),
        "version": version(&of.config.istio_version),
        "config": settings::view(&of.config),
        "certificates": certificates::view(held),
    });
    if let Some(pods) = &of.pods {
        all["workloadState"] = json!(connections::view(&pods()));
    }
    all
}

/// The local file's resources alone.
fn static_config(store: &WorldStore) -> Value {
    let only = store.load();
    json!({
        "workloads": world::workloads(&only),
        "services": world::services(&only),
        "policies": world::policies(&only),
    })
}

fn version(istio_version: &str) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "gitRevision": option_env!("LATEEN_GIT_REVISION").unwrap_or("unknown"),
        "rustVersion": env!("CARGO_PKG_RUST_VERSION"),
        "buildProfile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "buildStatus": "unknown",
        "istioVersion": istio_version,
        "cryptoProvider": "aws-lc-rs",
    })
}
