//! Plaintext that arrives for a pod: judged without identity, then connected with its source address kept.
//!
//! In: an accepted stream. Out: nothing but its effects. Absent on purpose: sending it on to a waypoint; a pod that must
//! not be reached in plain has a policy that says so.

use std::{net::SocketAddr, sync::Arc};

use lateen_net::{origdst::original_dst, unbegun::Unbegun};
use lateen_state::wait::{self, LOCAL_WORKLOAD_TIMEOUT};
use lateen_telemetry::access::{self, Direction};
use lateen_types::{addr::canonical, name::NetworkId};
use tokio::time::Instant;

use super::arrival::{ArrivalError, copy, finish, guess_service, judge, reach};
use crate::{
    conns::{Passage, Protocol, Seen},
    outbound::{plan::PlanError, upstream::key},
    pod::{ILLEGAL_PORTS, KeepSource, Pod},
    report::{OpenSocket, Opening, Party, Report, Security},
};

/// Carries one connection for the pod until it ends, or the pod's drain is forced.
pub async fn handle(pod: Arc<Pod>, stream: Unbegun, peer: SocketAddr, keep: KeepSource) {
    let _open = OpenSocket::new(Direction::Inbound);
    tokio::select! {
        // First, so that what was cut takes no further step.
        biased;
        () = pod.drain.forced() => {}
        () = carry(&pod, stream, canonical(peer), keep) => {}
    }
}

async fn carry(pod: &Arc<Pod>, stream: Unbegun, client: SocketAddr, keep: KeepSource) {
    let began = Instant::now();
    let to = match original_dst(stream.stream()) {
        Ok(dialled) => dialled.get(),
        Err(error) => return access::denied(client, client, Direction::Inbound, &error),
    };
    if ILLEGAL_PORTS.contains(&to.port()) {
        return access::denied(client, to, Direction::Inbound, &PlanError::Recursive);
    }
    let waiting = Box::pin(wait::local_workload(&pod.shared.world, &pod.key, LOCAL_WORKLOAD_TIMEOUT));
    let (world, local) = match waiting.await {
        Ok(found) => found,
        Err(error) => return access::denied(client, to, Direction::Inbound, &error),
    };
    let network: &NetworkId = &pod.shared.settings.network;
    let source = world.workload_by_ip(&key(network, client.ip())).map(Party::workload);
    let opening = Opening {
        direction: Direction::Inbound,
        client,
        hop: Some(to),
        authority: None,
        source: source.unwrap_or_default(),
        destination: Party::workload(&local).expected(Some(local.identity.clone())),
        service: guess_service(&world, &local, to.port(), None),
        security: Security::Unknown,
        began,
    };
    drop(world);
    let passage = Passage { source: client, destination: to, identity: None, client: None };
    let seen = Seen { source: client, dialled: Some(to), hop: to, protocol: Protocol::Tcp };
    let mut guard = pod.conns.enter(passage.clone(), seen);
    let report = Report::open(opening, &pod.drain);
    let ended: Result<(), ArrivalError> = async {
        judge(pod, &passage)?;
        // Boxed: it is needed for a moment only, the copying lasts.
        let application = Box::pin(reach(pod, to, (client, keep), &mut guard)).await?;
        copy((stream.begin(), application), &report, &mut guard).await
    }
    .await;
    finish(report, ended);
}
