//! The only accept loop: a permit, then a connection, until the drain begins.
//!
//! In: a listening socket. Out: each accepted connection, in a task that belongs to the pod.
//! At the limit the loop waits, so that new connections queue in the kernel and none is refused halfway.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use lateen_rt::{backoff::Backoff, drain::Drain, tasks::Tasks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Connections one listener has at a time.
pub const CONNECTIONS_MAX: usize = 20_000;
const RETRY_START: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Accepts until the drain begins; the socket is closed then, and the connections go on.
pub async fn run<F>(
    name: &'static str,
    listener: TcpListener,
    (tasks, drain): (Tasks, Drain),
    handle: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut pace = Backoff::new(RETRY_START, RETRY_MAX);
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = permits.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        // Dropping `next` loses at most a permit, which returns by itself: accept takes a connection whole or not.
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = drain.draining() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                pace.reset();
                let work = handle(stream, peer);
                tasks.spawn(name, async move {
                    let _held = permit;
                    work.await;
                });
            }
            Err(error) => {
                // Out of descriptors, usually: others must end before the next accept can work.
                let wait = pace.next_wait();
                tracing::warn!(listener = name, %error, ?wait, "cannot accept a connection, will try again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}
