//! A connection on the tunnel port: prove who calls, then take its CONNECTs.
//!
//! In: an accepted stream. Out: one task of the pod for each CONNECT (see `handle`). Absent on purpose: what a CONNECT
//! may reach.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use lateen_hbone::server::{self, Arrival};
use lateen_identity::{
    handshake::{self, HANDSHAKE_TIMEOUT, HandshakeError},
    keeper::KeeperError,
};
use lateen_net::unbegun::Unbegun;
use lateen_state::wait::{self, LOCAL_WORKLOAD_TIMEOUT, UnknownLocal};
use lateen_telemetry::access::{self, Direction};
use lateen_types::{addr::canonical, id::SpiffeId};
use tokio::net::TcpStream;

use super::handle;
use crate::{
    pod::{KeepSource, Pod},
    report::OpenSocket,
};

/// Why a connection is not admitted.
#[derive(Debug, thiserror::Error)]
enum AdmitError {
    #[error(transparent)]
    Unknown(#[from] UnknownLocal),
    #[error("no certificate: {0}")]
    Certificate(#[from] KeeperError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// A proven connection that CONNECTs come on.
#[derive(Debug)]
pub struct Carrier {
    /// The TCP peer.
    pub client: SocketAddr,
    /// The address of ours it dialled.
    pub dialled: SocketAddr,
    /// Who it proved to be.
    pub peer: SpiffeId,
    /// Whether applications see the client's address.
    pub keep: KeepSource,
}

/// Serves one connection until it ends, or the pod's drain is forced.
pub async fn handle(pod: Arc<Pod>, stream: Unbegun, peer: SocketAddr, keep: KeepSource) {
    let _open = OpenSocket::new(Direction::Inbound);
    tokio::select! {
        () = serve(&pod, stream, canonical(peer), keep) => {}
        () = pod.drain.forced() => {}
    }
}

async fn serve(pod: &Arc<Pod>, stream: Unbegun, client: SocketAddr, keep: KeepSource) {
    let dialled = match stream.stream().local_addr() {
        Ok(dialled) => canonical(dialled),
        Err(error) => return denied(client, client, &error),
    };
    // Boxed, as it is many times larger than what follows, which lasts.
    let secured = match Box::pin(admit(pod, stream)).await {
        Ok(secured) => secured,
        Err(error) => return denied(client, dialled, &error),
    };
    let carrier = Arc::new(Carrier { client, dialled, peer: secured.peer, keep });
    let take = |arrival: Arrival| {
        pod.tasks.spawn("tunnel-stream", handle::handle(pod.clone(), carrier.clone(), arrival));
    };
    if let Err(error) = server::serve(secured.stream, &pod.shared.settings.hbone, &pod.drain, take).await {
        tracing::debug!(%client, %error, "a tunnel connection ended");
    }
}

async fn admit(pod: &Pod, stream: Unbegun) -> Result<handshake::Secured<TcpStream>, AdmitError> {
    let (_, local) = wait::local_workload(&pod.shared.world, &pod.key, LOCAL_WORKLOAD_TIMEOUT).await?;
    let ours = pod.shared.keeper.certificate(&local.identity).await?;
    Ok(handshake::accept(stream.begin(), &ours, HANDSHAKE_TIMEOUT).await?)
}

fn denied(client: SocketAddr, dialled: SocketAddr, error: &dyn Display) {
    access::denied(client, dialled, Direction::Inbound, error);
}
