//! The cluster's DNS: names of Services and of the pods behind headless ones.
//!
//! In: sockets, and Services and EndpointSlices as the API tells them. Out: answers.
//! Absent on purpose: the world outside. A lab has none, so a name that is not the cluster's does not exist, and that is
//! said at once instead of after a resolver's timeout.

pub mod answer;
#[cfg(test)]
mod tests;
pub mod zone;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use kube::Client;
use lateen_rt::{deadline::within, tasks::Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
};

use crate::followed::Followed;
use answer::{Transport, answer};
use zone::Zone;

/// RFC 7766 leaves the choice to the server; a resolver that pauses longer connects again.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Further callers wait in the listener's queue.
const TCP_CONNECTIONS_MAX: usize = 256;
/// A pause after an error of a socket, so that one that stays does not spin.
const SOCKET_PAUSE: Duration = Duration::from_millis(100);
/// More than any query; longer datagrams are cut and then do not parse.
const QUERY_BYTES_MAX: usize = 4096;

/// Where queries arrive.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Datagram sockets.
    pub udp: Vec<UdpSocket>,
    /// Listening sockets.
    pub tcp: Vec<TcpListener>,
}

/// The latest zone; none before the API has told everything once.
type Latest = watch::Receiver<Option<Arc<Zone>>>;

/// Starts answering for `domain` (`cluster.local`) on `sockets`.
pub fn serve(client: &Client, sockets: Sockets, domain: String, tasks: &Tasks) {
    let (tell, latest) = watch::channel(None);
    tasks.spawn("lab DNS zone", keep(Followed::with(client), domain, tell));
    serve_zone(sockets, &latest, tasks);
}

/// Answers from whatever zone is the latest.
fn serve_zone(sockets: Sockets, latest: &Latest, tasks: &Tasks) {
    for socket in sockets.udp {
        tasks.spawn("lab DNS over UDP", serve_udp(socket, latest.clone()));
    }
    for listener in sockets.tcp {
        tasks.spawn("lab DNS over TCP", serve_tcp(listener, latest.clone(), tasks.clone()));
    }
}

async fn keep(mut followed: Followed, domain: String, tell: watch::Sender<Option<Arc<Zone>>>) {
    while !tell.is_closed() {
        followed.next().await;
        let seen = followed.seen();
        if seen.is_complete() {
            tell.send_replace(Some(Arc::new(Zone::of(&domain, seen.services.live(), seen.slices.live()))));
        }
    }
}

fn latest_of(latest: &Latest) -> Option<Arc<Zone>> {
    latest.borrow().clone()
}

async fn serve_udp(socket: UdpSocket, latest: Latest) {
    let mut query = [0; QUERY_BYTES_MAX];
    loop {
        match answer_datagram(&socket, &mut query, &latest).await {
            Ok(()) => {}
            Err(error) => {
                // Often an ICMP error of an earlier answer; a socket that is broken for good says so at every turn.
                tracing::debug!(%error, "DNS over UDP");
                tokio::time::sleep(SOCKET_PAUSE).await;
            }
        }
    }
}

async fn answer_datagram(socket: &UdpSocket, query: &mut [u8], latest: &Latest) -> io::Result<()> {
    let (count, from) = socket.recv_from(query).await?;
    if let Some(reply) = answer(&query[..count], latest_of(latest).as_deref(), Transport::Udp) {
        socket.send_to(&reply, from).await?;
    }
    Ok(())
}

async fn serve_tcp(listener: TcpListener, latest: Latest, tasks: Tasks) {
    let room = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let latest = latest.clone();
                tasks.spawn("lab DNS connection", async move {
                    connection(stream, from, &latest).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a DNS connection");
                tokio::time::sleep(SOCKET_PAUSE).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, from: SocketAddr, latest: &Latest) {
    loop {
        let served = within("a DNS query over TCP", TCP_IDLE_TIMEOUT, answer_framed(&mut stream, latest)).await;
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Ok(Err(error)) => return tracing::debug!(%error, %from, "a DNS connection ended"),
            Err(_) => return,
        }
    }
}

/// One query and its answer, each after its length (RFC 1035 §4.2.2).
async fn answer_framed(stream: &mut TcpStream, latest: &Latest) -> io::Result<()> {
    let length = stream.read_u16().await?;
    let mut query = vec![0; usize::from(length)];
    stream.read_exact(&mut query).await?;
    let reply = answer(&query, latest_of(latest).as_deref(), Transport::Tcp);
    let reply = reply.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a DNS query"))?;
    let length = u16::try_from(reply.len()).map_err(|_| io::Error::other("an answer over 64 KiB"))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&reply);
    stream.write_all(&framed).await
}
