//! Memory that was freed and is still held, given back to the kernel.
//!
//! In: a clock's tick. Out: freed pages returned where it is worth it. Absent on purpose: the clock, and the allocator itself.
//!
//! glibc keeps what was freed below the highest block in use: after a burst of traffic or a large update of the mesh one
//! small block that lives on keeps tens of megabytes resident. Looking costs some microseconds, giving back some
//! milliseconds; neither belongs on a thread that moves bytes.

use std::io;

/// What may be held beyond what is in use: less is not worth the page faults of getting it again.
const SLACK: u64 = 4 << 20;

/// Blocks up to this size come from memory that is kept when they are freed.
#[cfg(target_env = "gnu")]
const KEPT_BLOCK: libc::c_int = 16 << 20;

/// Asks the allocator to keep what is freed until [`Memory::look`] gives it back. By itself it returns large blocks at
/// once, so that a busy connection, which needs a new one for each read, would pay for mapping, clearing and unmapping all
/// that it moves. Call it before threads begin.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn keep_freed() {
    // SAFETY: sets two numbers of the allocator. An old one that refuses them keeps its own, which is only slower.
    let _taken = unsafe {
        (libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BLOCK), libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX))
    };
}

/// Other allocators have their own ways.
#[cfg(not(target_env = "gnu"))]
pub fn keep_freed() {}

/// Remembers how much could not be given back, so that it is not tried again and again.
#[derive(Debug, Default)]
pub struct Memory {
    /// Held beyond what is in use after the last return: fragments, stacks, relocated data.
    kept: u64,
}

/// What one look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// Nothing worth returning.
    Fine,
    /// This many bytes went back.
    Returned(u64),
}

impl Memory {
    /// Looks, and gives back what is worth it.
    pub fn look(&mut self) -> io::Result<Looked> {
        let before = anonymous()?;
        let beyond = before.saturating_sub(in_use());
        if !is_worth_it(beyond, self.kept) {
            // What was kept then may have come into use since.
            self.kept = self.kept.min(beyond);
            return Ok(Looked::Fine);
        }
        give_back();
        let after = anonymous()?;
        self.kept = after.saturating_sub(in_use());
        Ok(Looked::Returned(before.saturating_sub(after)))
    }
}

fn is_worth_it(beyond: u64, kept: u64) -> bool {
    beyond > kept.saturating_add(SLACK)
}

/// Resident bytes that are no file's.
fn anonymous() -> io::Result<u64> {
    parse(&std::fs::read_to_string("/proc/self/statm")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Second and third number: resident pages, and those of them that belong to files.
fn parse(statm: &str) -> Option<u64> {
    let mut pages = statm.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * PAGE)
}

/// statm counts in these on every machine we are built for (x86-64, and arm64 with its usual pages). With larger ones too
/// little is seen and nothing is given back.
const PAGE: u64 = 4096;

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn in_use() -> u64 {
    // SAFETY: takes nothing and returns a value; the allocator locks itself.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: touches only what is free, under the allocator's own locks. What it returns, whether anything was given
    // back, is measured instead.
    let _any = unsafe { libc::malloc_trim(0) };
}

/// Other allocators are not asked: nothing is ever worth returning.
#[cfg(not(target_env = "gnu"))]
fn in_use() -> u64 {
    u64::MAX
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read() {
        assert_eq!(parse("5000 300 100 40 0 90 0\n"), Some(200 * PAGE));
        assert!(parse("").is_none() && parse("1 2").is_none() && parse("1 x 3").is_none());
    }

    #[test]
    fn what_could_not_be_returned_is_not_tried_again() {
        assert!(is_worth_it(SLACK + 1, 0) && !is_worth_it(SLACK, 0));
        assert!(!is_worth_it(SLACK + 1, 1) && is_worth_it(2 * SLACK + 1, SLACK));
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn freed_memory_below_a_living_block_goes_back() {
        const BLOCKS: usize = 16 * 1024;
        let mut blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; 4096]).collect();
        let last = blocks.pop();
        drop(blocks);
        match Memory::default().look().expect("statm") {
            Looked::Returned(bytes) => assert!(bytes > 32 << 20, "{bytes} of 64 MB"),
            Looked::Fine => panic!("64 MB are not seen"),
        }
        drop(last);
    }
}
