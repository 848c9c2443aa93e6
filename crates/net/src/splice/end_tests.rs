//! Which ends are clean and which abort, for every way a side can end.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;

use super::*;

/// A side that does as told, and notes what is done to it.
#[derive(Default)]
struct Scripted {
    /// What it sends, then either its end or silence.
    sends: VecDeque<io::Result<Bytes>>,
    silent: bool,
    /// Why it takes nothing.
    refuses: Option<ErrorKind>,
    /// Why it says that it will take nothing.
    unwanted: Option<ErrorKind>,
    /// Takes nothing for now.
    full: bool,
    /// Is gone, for whoever asks.
    vanished: bool,
    /// Polls until it is settled, or [`NEVER`].
    unsettled: usize,
    seen: Arc<Seen>,
}

const NEVER: usize = usize::MAX;

#[derive(Default)]
struct Seen {
    taken: AtomicUsize,
    half_closed: AtomicBool,
    aborted: AtomicBool,
}

impl Seen {
    fn flags(&self) -> (bool, bool) {
        (self.half_closed.load(Ordering::Relaxed), self.aborted.load(Ordering::Relaxed))
    }
}

impl Duplex for Scripted {
    fn poll_chunk(&mut self, _: &mut Context<'_>, _: &mut BytesMut, _: usize) -> Poll<io::Result<Bytes>> {
        match self.sends.pop_front() {
            Some(next) => Poll::Ready(next),
            None if self.silent => Poll::Pending,
            None => Poll::Ready(Ok(Bytes::new())),
        }
    }

    fn poll_take(&mut self, _: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        if let Some(kind) = self.refuses {
            return Poll::Ready(Err(kind.into()));
        }
        if self.full {
            return Poll::Pending;
        }
        self.seen.taken.fetch_add(std::mem::take(chunk).len(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_half_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seen.half_closed.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_unwanted(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        self.unwanted.map_or(Poll::Pending, |kind| Poll::Ready(kind.into()))
    }

    fn has_vanished(&mut self) -> bool {
        self.vanished
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        assert!(!self.seen.aborted.load(Ordering::Relaxed), "too late");
        match self.unsettled {
            0 => return Poll::Ready(()),
            NEVER => return Poll::Pending,
            _ => self.unsettled -= 1,
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn abort(&mut self) {
        self.seen.aborted.store(true, Ordering::Relaxed);
    }
}

fn sends(parts: impl IntoIterator<Item = Result<&'static str, ErrorKind>>) -> Scripted {
    let sends = parts.into_iter().map(|part| part.map(Bytes::from).map_err(io::Error::from)).collect();
    Scripted { sends, ..Scripted::default() }
}

fn silent() -> Scripted {
    Scripted { silent: true, ..Scripted::default() }
}

/// How it ended, and whether either side was half-closed and aborted.
async fn run(source: Scripted, destination: Scripted) -> (Result<(End, End), ()>, [(bool, bool); 2]) {
    let seen = [source.seen.clone(), destination.seen.clone()];
    let ended = splice(source, destination, &Meter::default(), std::future::pending::<()>()).await;
    let ended = match ended {
        Ok(Outcome::Ended { source, destination }) => Ok((source, destination)),
        Ok(Outcome::Interrupted(())) => panic!("nobody interrupts"),
        Err(_) => Err(()),
    };
    (ended, seen.map(|seen| seen.flags()))
}

/// Flags of a side.
const HALF_CLOSED: (bool, bool) = (true, false);
const ABORTED: (bool, bool) = (false, true);
const BOTH: (bool, bool) = (true, true);
const LEFT: (bool, bool) = (false, false);

#[tokio::test(start_paused = true)]
async fn two_clean_ends_are_two_half_closes() {
    let (ended, flags) = run(sends([Ok("all")]), sends([Ok("of it")])).await;
    assert_eq!((ended, flags), (Ok((End::Closed, End::Closed)), [HALF_CLOSED; 2]));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_vanishing_aborts_the_other_side() {
    use ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    for kind in [BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof] {
        let (ended, [_, other]) = run(sends([Ok("half"), Err(kind)]), silent()).await;
        assert_eq!((ended, other), (Ok((End::Reset, End::Abandoned)), ABORTED), "{kind}");
        let (ended, [other, _]) = run(silent(), sends([Ok("half"), Err(kind)])).await;
        assert_eq!((ended, other), (Ok((End::Abandoned, End::Reset)), ABORTED), "{kind}");
    }
    let (ended, flags) = run(sends([Err(ErrorKind::InvalidData)]), silent()).await;
    assert_eq!((ended, flags), (Err(()), [ABORTED; 2]));
}

/// The side that was done sending must still hear that the answer is not whole.
#[tokio::test(start_paused = true)]
async fn a_reset_after_the_others_half_close_aborts_it() {
    let (ended, [client, _]) = run(sends([Ok("all")]), sends([Ok("half"), Err(ErrorKind::ConnectionReset)])).await;
    assert_eq!((ended, client), (Ok((End::Closed, End::Reset)), ABORTED));
}

/// A failed write takes the kernel's word of a reset away: what the socket reads next is the rest, and then an end.
#[tokio::test(start_paused = true)]
async fn a_reset_that_a_write_met_is_no_clean_end() {
    let vanished = Scripted { refuses: Some(ErrorKind::ConnectionReset), ..sends([Ok("the rest")]) };
    let client = Scripted { silent: true, ..sends([Ok("lost")]) };
    let heard = client.seen.clone();
    let (ended, [client, _]) = run(client, vanished).await;
    assert_eq!((ended, client), (Ok((End::Abandoned, End::Reset)), ABORTED));
    assert_eq!(heard.taken.load(Ordering::Relaxed), "the rest".len());
}

#[tokio::test(start_paused = true)]
async fn bytes_that_nobody_took_abort_their_sender_after_the_answer() {
    let closed = Scripted { refuses: Some(ErrorKind::BrokenPipe), ..sends([Ok("the answer")]) };
    let (ended, [client, _]) = run(Scripted { silent: true, ..sends([Ok("lost")]) }, closed).await;
    assert_eq!((ended, client), (Ok((End::Unwanted, End::Closed)), BOTH));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_wants_no_more_leaves_a_silent_client_whole() {
    let done = Scripted { unwanted: Some(ErrorKind::BrokenPipe), ..sends([Ok("the answer")]) };
    let (ended, [client, server]) = run(silent(), done).await;
    assert_eq!((ended, client, server), (Ok((End::Unwanted, End::Closed)), HALF_CLOSED, LEFT));
    let vanished = Scripted { unwanted: Some(ErrorKind::ConnectionReset), ..sends([Ok("the answer")]) };
    let (ended, [client, _]) = run(silent(), vanished).await;
    assert_eq!((ended, client), (Ok((End::Abandoned, End::Reset)), ABORTED));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_goes_ahead_of_the_reset_but_not_for_ever() {
    let began = tokio::time::Instant::now();
    let slow = Scripted { unsettled: 3, ..silent() };
    let (_, [_, slow]) = run(sends([Err(ErrorKind::ConnectionReset)]), slow).await;
    assert_eq!((slow, began.elapsed()), (ABORTED, Duration::ZERO));
    let stuck = Scripted { unsettled: NEVER, ..silent() };
    let (_, [_, stuck]) = run(sends([Err(ErrorKind::ConnectionReset)]), stuck).await;
    assert_eq!((stuck, began.elapsed() >= SETTLE_TIMEOUT), (ABORTED, true));
}

#[tokio::test(start_paused = true)]
async fn an_interruption_aborts_even_what_has_half_ended() {
    let (source, destination) = (sends([Ok("all")]), silent());
    let seen = [source.seen.clone(), destination.seen.clone()];
    let cut = tokio::time::sleep(Duration::from_secs(1));
    let ended = splice(source, destination, &Meter::default(), cut).await.expect("no failure");
    assert_eq!(ended, Outcome::Interrupted(()));
    assert_eq!(seen.map(|seen| seen.flags()), [ABORTED, BOTH]);
}

#[tokio::test]
async fn copying_that_never_began_aborts_both() {
    let (source, destination) = (silent(), silent());
    let seen = [source.seen.clone(), destination.seen.clone()];
    drop(splice(source, destination, &Meter::default(), std::future::pending::<()>()));
    assert_eq!(seen.map(|seen| seen.flags()), [ABORTED; 2]);
}

/// Nothing is read from it, and nothing is written to it.
#[tokio::test(start_paused = true)]
async fn who_vanishes_while_the_other_takes_nothing_is_missed() {
    let gone = || Scripted { vanished: true, ..sends([Ok("more than it takes")]) };
    let full = || Scripted { full: true, ..silent() };
    let (ended, [_, other]) = run(gone(), full()).await;
    assert_eq!((ended, other), (Ok((End::Reset, End::Abandoned)), ABORTED));
    let (ended, [other, _]) = run(full(), gone()).await;
    assert_eq!((ended, other), (Ok((End::Abandoned, End::Reset)), ABORTED));
    // Who is there is waited for.
    let there = run(sends([Ok("more than it takes")]), full());
    assert!(tokio::time::timeout(LOOK_INTERVAL * 10, there).await.is_err());
}

#[tokio::test]
async fn a_reset_is_heard_behind_bytes_that_nobody_takes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("bound");
    let client = tokio::net::TcpStream::connect(addr).await.expect("connect");
    let (near, _) = listener.accept().await.expect("accept");
    let (mut client, full) = (client, Scripted { full: true, ..silent() });
    let sending = async {
        // Until nobody takes more.
        while tokio::time::timeout(Duration::from_millis(200), client.write_all(&[0; 0x10000])).await.is_ok() {}
        client.abort();
        drop(client);
        std::future::pending::<()>().await;
    };
    let meter = Meter::default();
    let copying = splice(near, full, &meter, sending);
    let ended = tokio::time::timeout(Duration::from_secs(60), copying).await.expect("in time");
    let Ok(Outcome::Ended { source, destination }) = ended else { panic!("it ends by itself: {ended:?}") };
    assert_eq!((source, destination), (End::Reset, End::Abandoned));
}
