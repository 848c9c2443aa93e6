//! Buffers for records, lent to a connection while bytes wait in them.
//!
//! In: nothing. Out: [`Buffer`]. Each thread keeps a few, so that a silent connection holds none and a busy one finds one
//! that is still in the processor's cache. Absent on purpose: any other size.

use std::{cell::RefCell, ops};

use super::keys::{OVERHEAD, PLAIN_MAX};

/// Eight full records and some room for alerts and key updates: large enough that a system call costs little per byte,
/// small enough that what one read brings is still in the cache when it is opened.
pub(super) const LENGTH: usize = 8 * (PLAIN_MAX + OVERHEAD) + CONTROL_ROOM;

/// What is kept free of data for alerts and key updates.
pub(super) const CONTROL_ROOM: usize = 256;

/// How many a thread keeps: one is read into while another is written from.
const KEPT_MAX: usize = 2;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// [`LENGTH`] bytes, or none while nothing is lent.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// Makes sure that the bytes are there. They may hold anything.
    pub(super) fn lend(&mut self) {
        if self.0.is_empty() {
            let kept = KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten();
            self.0 = kept.unwrap_or_else(|| vec![0; LENGTH]);
        }
    }

    /// Gives the bytes back.
    pub(super) fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return;
        }
        // A thread that ends keeps nothing, and then the bytes are freed here.
        let _ended = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(bytes);
            }
        });
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
