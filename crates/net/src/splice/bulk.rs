//! Bulk between two sockets: pages go through a pipe and are never copied.
//!
//! In: two sockets between which much is moving. Out: bytes moved, until one ends, or copying is as good.
//!
//! ```text
//! copying ──some full reads in a row──► bulk: fill an empty pipe, pour it out ──► copying
//!                                             some small fills in a row, or a reader that stalls, or no pipe left
//! ```
//! A pipe is held only while bytes are in it or are about to be.

use std::{
    future::Future as _,
    io,
    os::fd::AsFd as _,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{direction::Failed, pipe::Pipe};

/// Less than this in one go is not worth a pipe.
const SMALL_FILL: usize = 16 * 1024;
/// After this many small ones in a row it is not bulk any more.
const SMALL_FILLS: u8 = 8;
/// A reader that takes nothing for so long no longer holds a pipe.
const STALL: Duration = Duration::from_secs(1);

/// One direction while it is bulk.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    pipe: Option<Pipe>,
    /// Runs while the reader blocks.
    patience: Option<Pin<Box<Sleep>>>,
    /// Whether anything was taken since `patience` began.
    moved: bool,
    small_fills: u8,
}

/// The two ends of a direction.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) from: &'a TcpStream,
    pub(super) to: &'a TcpStream,
    pub(super) delivered: &'a AtomicU64,
}

/// What follows a step.
pub(super) enum Next {
    /// Another.
    Step,
    /// The reading end has said that no more will come, and all was handed over.
    Ended,
    /// Copying, beginning with these bytes.
    Copying(Bytes),
}

impl Bulk {
    /// Fills the pipe, or pours it out.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, line: Line<'_>) -> Poll<Result<Next, Failed>> {
        if self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0) {
            return self.poll_pour(context, line);
        }
        self.poll_fill(context, line.from)
    }

    /// Fills an empty pipe. While the source is silent the pipe is somebody else's.
    fn poll_fill(&mut self, context: &mut Context<'_>, from: &TcpStream) -> Poll<Result<Next, Failed>> {
        loop {
            match from.poll_read_ready(context) {
                Poll::Ready(ready) => ready.map_err(Failed::Reading)?,
                Poll::Pending => {
                    self.pipe = None;
                    return Poll::Pending;
                }
            }
            // All may be in use: copying works as well.
            let Some(pipe) = self.pipe.take().or_else(Pipe::take) else {
                return Poll::Ready(Ok(Next::Copying(Bytes::new())));
            };
            let pipe = self.pipe.insert(pipe);
            match from.try_io(Interest::READABLE, || pipe.fill(from.as_fd())) {
                Ok(0) => return Poll::Ready(Ok(Next::Ended)),
                Ok(taken) => {
                    self.small_fills = if taken < SMALL_FILL { self.small_fills + 1 } else { 0 };
                    return Poll::Ready(Ok(Next::Step));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(Failed::Reading(error))),
            }
        }
    }

    fn poll_pour(
        &mut self,
        context: &mut Context<'_>,
        Line { to, delivered, .. }: Line<'_>,
    ) -> Poll<Result<Next, Failed>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(Next::Step)) };
        loop {
            match to.poll_write_ready(context) {
                Poll::Ready(ready) => ready.map_err(Failed::Writing)?,
                Poll::Pending => {
                    ready!(poll_stalled(context, &mut self.patience, &mut self.moved));
                    return Poll::Ready(self.give_up());
                }
            }
            match to.try_io(Interest::WRITABLE, || pipe.pour(to.as_fd())) {
                Ok(0) => return Poll::Ready(Err(Failed::Writing(io::ErrorKind::WriteZero.into()))),
                Ok(given) => {
                    delivered.fetch_add(given as u64, Ordering::Relaxed);
                    self.moved = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(Failed::Writing(error))),
            }
        }
        if pipe.held() == 0 && self.small_fills >= SMALL_FILLS {
            return Poll::Ready(Ok(Next::Copying(Bytes::new())));
        }
        Poll::Ready(Ok(Next::Step))
    }

    /// What a stalled reader has not taken is kept like any other bytes, and the pipe serves somebody else.
    fn give_up(&mut self) -> Result<Next, Failed> {
        let kept = self.pipe.as_mut().map_or(Ok(Vec::new()), Pipe::empty).map_err(Failed::Reading)?;
        Ok(Next::Copying(kept.into()))
    }
}

/// Ready once the reader has taken nothing for [`STALL`]. One timer runs across many short waits.
fn poll_stalled(context: &mut Context<'_>, patience: &mut Option<Pin<Box<Sleep>>>, moved: &mut bool) -> Poll<()> {
    let patience = patience.get_or_insert_with(|| {
        *moved = false;
        Box::pin(sleep(STALL))
    });
    loop {
        ready!(patience.as_mut().poll(context));
        if !std::mem::take(moved) {
            return Poll::Ready(());
        }
        patience.as_mut().reset(Instant::now() + STALL);
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let one = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connect");
        (one, listener.accept().await.expect("accept").0)
    }

    async fn step(bulk: &mut Bulk, line: Line<'_>) -> Next {
        std::future::poll_fn(|context| bulk.poll(context, line)).await.expect("both ends are there")
    }

    #[tokio::test]
    async fn small_words_pass_at_once_and_end_the_bulk() {
        let ((mut client, from), (to, mut server)) = (connected().await, connected().await);
        let (delivered, mut bulk) = (AtomicU64::new(0), Bulk::default());
        let line = Line { from: &from, to: &to, delivered: &delivered };
        for round in 1..=SMALL_FILLS {
            client.write_all(&[round; 5]).await.expect("write");
            assert!(matches!(step(&mut bulk, line).await, Next::Step), "filled");
            let poured = step(&mut bulk, line).await;
            let mut there = [0; 5];
            server.read_exact(&mut there).await.expect("read");
            assert_eq!((there, delivered.load(Ordering::Relaxed)), ([round; 5], 5 * u64::from(round)));
            match poured {
                Next::Step => assert!(round < SMALL_FILLS),
                Next::Copying(kept) => assert!(round == SMALL_FILLS && kept.is_empty()),
                Next::Ended => panic!("the client is there"),
            }
        }
        drop(client);
        assert!(matches!(step(&mut bulk, line).await, Next::Ended));
    }

    /// The paused clock runs on as soon as nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stalls_holds_no_pipe() {
        let ((mut client, from), (to, _server)) = (connected().await, connected().await);
        let (delivered, mut bulk) = (AtomicU64::new(0), Bulk::default());
        let line = Line { from: &from, to: &to, delivered: &delivered };
        client.write_all(&[1; 5]).await.expect("write");
        assert!(matches!(step(&mut bulk, line).await, Next::Step), "filled");
        // The kernel's buffers are full of something else by now.
        while tokio::time::timeout(Duration::from_secs(1), to.writable()).await.is_ok() {
            if let Err(error) = to.try_write(&[0; 64 * 1024]) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            }
        }
        let Next::Copying(kept) = step(&mut bulk, line).await else { panic!("a pipe waits for ever") };
        assert_eq!((&kept[..], delivered.load(Ordering::Relaxed)), (&[1; 5][..], 0));
    }
}
