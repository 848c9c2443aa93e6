//! Descriptors the runtime watches, for kinds of socket tokio has no type for.
//!
//! In: an owned descriptor. Out: the same, registered with the current runtime.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers `fd`. Panics outside a runtime, which is a programming error.
#[allow(unsafe_code)]
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, always gives the same number, and is closed only when dropped; the AsyncFd owns it
    // and nobody outside this crate can take it out.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
