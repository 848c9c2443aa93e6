//! The only accept loop: a permit, then a connection, until the drain begins.
//!
//! In: a listening socket. Out: each accepted connection, in a task of the listener's owner; it is reset unless its bytes
//! begin to flow.
//! At the limit the loop waits with the next connection in its hands; the others queue in the kernel, and none is refused halfway.
//!
//! A drain loses no connection either: what waits in the queue is taken before the socket is closed, and what arrives
//! between the two goes to the next process's listener, where there is one (`net.ipv4.tcp_migrate_req`, which the agent
//! sets in each pod).

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::FutureExt as _;
use lateen_rt::{backoff::Backoff, drain::Drain, tasks::Tasks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::unbegun::Unbegun;

const RETRY_START: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Connections taken from the queue of a listener that is about to close: as many as a queue holds.
const QUEUED_MAX: usize = 1024;

/// Accepts, at most `limit` connections at a time, until the drain begins, and then what is queued; the socket is closed after
/// that, and the connections go on.
pub async fn run<F>(
    name: &'static str,
    (listener, limit): (TcpListener, usize),
    owner: (Tasks, Drain),
    handle: impl Fn(Unbegun, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    sharing(name, (listener, Arc::new(Semaphore::new(limit))), owner, handle).await;
}

/// The same, within a limit that several listeners have together.
pub async fn sharing<F>(
    name: &'static str,
    (listener, permits): (TcpListener, Arc<Semaphore>),
    (tasks, drain): (Tasks, Drain),
    handle: impl Fn(Unbegun, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut pace = Backoff::new(RETRY_START, RETRY_MAX);
    let start = |permit, (stream, peer)| {
        // Dropped when the connection ends, and with the future wherever that is dropped. An async block would hold the
        // future twice.
        let held: Option<OwnedSemaphorePermit> = permit;
        tasks.spawn(name, handle(stream, peer).map(move |()| drop(held)));
    };
    // Accepted, and without a permit yet.
    let mut came: Option<(Unbegun, SocketAddr)> = None;
    loop {
        let next = async {
            if came.is_none() {
                let (stream, peer) = listener.accept().await?;
                came = Some((Unbegun::new(stream), peer));
            }
            // Only now: a permit that others share must not be held while nobody comes. The semaphore is never closed.
            io::Result::Ok(permits.clone().acquire_owned().await.ok())
        };
        // Dropping `next` loses nothing: accept takes a connection whole or not, and what came is kept.
        let next = tokio::select! {
            // A drain comes first, or a flood of connections could put it off.
            biased;
            () = drain.draining() => break,
            next = next => next,
        };
        match next {
            Ok(permit) => {
                pace.reset();
                if let Some(connection) = came.take() {
                    start(permit, connection);
                }
            }
            Err(error) => {
                // Out of descriptors, usually: others must end before the next accept can work.
                let wait = pace.next_wait();
                tracing::warn!(listener = name, %error, ?wait, "cannot accept a connection, will try again");
                tokio::time::sleep(wait).await;
            }
        }
    }
    // At the end of everything those who wait are refused by the closing socket.
    if !drain.is_forced() {
        let queued = came.into_iter().chain(queued(listener));
        let queued = queued.map(|connection| (permits.clone().try_acquire_owned().ok(), connection));
        queued.take_while(|(permit, _)| permit.is_some()).for_each(|(permit, connection)| start(permit, connection));
    }
}

/// What waits in the listener's queue now. It is closed when the iterator is dropped.
fn queued(listener: TcpListener) -> impl Iterator<Item = (Unbegun, SocketAddr)> {
    // Asked without the runtime: that one knows of a connection only after its next look at the kernel.
    let listener = listener.into_std().ok();
    let accept = move || -> io::Result<(Unbegun, SocketAddr)> {
        let (stream, peer) = listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.accept()?;
        stream.set_nonblocking(true)?;
        Ok((Unbegun::new(TcpStream::from_std(stream)?), peer))
    };
    // "Would block" is the usual end; after any other error there is no time to wait for a better moment.
    std::iter::from_fn(move || accept().ok()).take(QUEUED_MAX)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::mpsc,
    };

    use super::*;

    /// More than one wake-up's worth, none of them accepted before the drain.
    const CALLS: usize = 100;

    #[tokio::test]
    async fn what_is_queued_when_a_drain_begins_is_served() {
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let to = listener.local_addr().expect("bound");
        let mut clients = Vec::new();
        for _ in 0..CALLS {
            clients.push(std::net::TcpStream::connect(to).expect("queued by the kernel"));
        }
        drain.start();
        let (served, mut ended) = mpsc::channel(CALLS);
        run("test", (listener, CALLS), (tasks.clone(), drain), |stream, _| {
            let served = served.clone();
            async move {
                stream.begin().write_all(b"x").await.expect("write");
                served.send(()).await.expect("the test waits");
            }
        })
        .await;
        for client in clients {
            client.set_nonblocking(true).expect("nonblocking");
            let mut client = TcpStream::from_std(client).expect("registered");
            assert_eq!(client.read_u8().await.expect("an answer"), b'x');
            ended.recv().await.expect("it was served");
        }
        assert!(TcpStream::connect(to).await.is_err(), "the socket is closed");
    }

    #[tokio::test]
    async fn a_forced_end_serves_nobody() {
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("queued");
        drain.force();
        run("test", (listener, CALLS), (tasks.clone(), drain), |_, _| async { panic!("accepted") }).await;
        assert!(tasks.is_empty());
    }

    /// As an application sees a server that refuses.
    #[tokio::test]
    async fn a_connection_that_is_not_carried_is_reset() {
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let to = listener.local_addr().expect("bound");
        let accepting = run("test", (listener, CALLS), (tasks.clone(), drain.clone()), |_refused, _| async {});
        tasks.spawn("accept", accepting);
        let mut client = TcpStream::connect(to).await.expect("accepted by the kernel");
        assert_eq!(client.read_u8().await.expect_err("refused").kind(), io::ErrorKind::ConnectionReset);
        drain.force();
    }
}
