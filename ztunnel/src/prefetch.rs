//! Certificates before they are needed, and no longer than they are.
//!
//! In: changes of the world. Out: the identities of our node's mesh workloads are kept, those whose last workload left
//! are forgotten. Absent on purpose: asking the CA (see `lateen-identity`).

use std::collections::BTreeSet;

use lateen_identity::keeper::{Keeper, Priority};
use lateen_rt::drain::Drain;
use lateen_state::{
    workload::Tunnel,
    world::{World, WorldStore},
};
use lateen_types::id::SpiffeId;

/// Follows the world until the drain is forced.
pub async fn run(store: &WorldStore, keeper: &Keeper, drain: &Drain) {
    let mut changes = store.subscribe();
    let (mut seen, mut kept) = (None, BTreeSet::new());
    loop {
        let world = store.load();
        let (_, local_epoch) = world.verdict_epoch();
        if seen != Some(local_epoch) {
            seen = Some(local_epoch);
            let wanted = wanted(&world);
            wanted.difference(&kept).for_each(|identity| keeper.prefetch(identity, Priority::Warmup));
            kept.difference(&wanted).for_each(|identity| keeper.forget(identity));
            kept = wanted;
        }
        drop(world);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = drain.forced() => return,
        }
    }
}

fn wanted(world: &World) -> BTreeSet<SpiffeId> {
    let of_mesh = world.local_workloads().filter(|workload| workload.tunnel == Tunnel::Hbone || workload.native_tunnel);
    of_mesh.map(|workload| workload.identity.clone()).collect()
}
