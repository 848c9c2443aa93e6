//! One epoll, level-triggered.
//!
//! In: descriptors and what is wanted of them. Out: tokens of those that are ready. A token belongs to one descriptor
//! until that is closed, which also takes it out of the epoll.

use std::{os::fd::AsFd, time::Duration};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        time::TimeSpec,
    },
};
use tokio::time::Instant;

/// Events taken at once.
const EVENTS: usize = 512;

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Read,
    Write,
}

impl Want {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
        }
    }
}

/// The epoll.
#[derive(Debug)]
pub(crate) struct Reactor {
    epoll: Epoll,
}

impl Reactor {
    /// An empty one.
    pub fn new() -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("making an epoll")?;
        Ok(Self { epoll })
    }

    /// Watches a descriptor.
    pub fn add(&self, fd: &impl AsFd, token: u64, want: Want) -> anyhow::Result<()> {
        self.epoll.add(fd, EpollEvent::new(want.flags(), token)).context("watching a descriptor")
    }

    /// Watches it for something else.
    pub fn change(&self, fd: &impl AsFd, token: u64, want: Want) -> anyhow::Result<()> {
        self.epoll.modify(fd, &mut EpollEvent::new(want.flags(), token)).context("watching a descriptor anew")
    }

    /// The tokens of what is ready; none once `until` has come.
    pub fn wait(&self, until: Option<Instant>, ready: &mut Vec<u64>) -> anyhow::Result<()> {
        ready.clear();
        // epoll's own timeout counts in milliseconds, as much as a whole request may take.
        let left = until.map(|until| TimeSpec::from(until.saturating_duration_since(Instant::now())));
        let mut whole = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        if until.is_none_or(|until| until > Instant::now()) {
            match ppoll(&mut whole, left, None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("waiting"),
            }
        }
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error).context("waiting"),
        };
        ready.extend(events[..count].iter().map(EpollEvent::data));
        Ok(())
    }
}

/// The earlier of two moments, of which either may be missing.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A moment so long from now.
pub(crate) fn after(wait: Duration) -> Instant {
    Instant::now() + wait
}
