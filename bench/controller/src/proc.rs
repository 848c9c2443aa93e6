//! What the kernel says of one process: CPU time and memory.

use std::fs;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Processors' time is counted in hundredths of seconds (`USER_HZ`), on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processors so far, of all its threads, also those that have ended.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the program has ended")?;
    ticks_of(&text).map(|ticks| ticks as f64 / TICKS_PER_SECOND).with_context(|| format!("stat of {pid}: {text:?}"))
}

/// utime and stime, fields 14 and 15; the name before them may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// Resident, shared pages divided among those who share them.
    pub pss: u64,
    /// Resident and no file's.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl Memory {
    /// Now.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).context("the program has ended");
        Self::parse(&read("smaps_rollup")?, &read("status")?)
    }

    fn parse(rollup: &str, status: &str) -> anyhow::Result<Self> {
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            kilobytes.map(|kilobytes| kilobytes << 10).with_context(|| format!("the kernel does not say {name}"))
        };
        Ok(Self {
            rss: field(rollup, "Rss")?,
            pss: field(rollup, "Pss")?,
            anonymous: field(rollup, "Anonymous")?,
            peak: field(status, "VmHWM")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_found_behind_odd_names() {
        assert_eq!(ticks_of("7 (a) b) S 3 7 7 0 -1 0 1 2 3 4 150 25 0 0"), Some(175));
        assert_eq!(ticks_of("7"), None);
    }

    #[test]
    fn memory_is_read() {
        let rollup = "00-ff ---p 00 00:00 0 [rollup]\nRss:  16 kB\nPss:    8 kB\nPss_Dirty: 1 kB\nAnonymous:  4 kB\n";
        let memory = Memory::parse(rollup, "Name:\tx\nVmHWM:\t   32 kB\n").expect("fields");
        assert_eq!(memory, Memory { rss: 16 << 10, pss: 8 << 10, anonymous: 4 << 10, peak: 32 << 10 });
        assert!(Memory::parse(rollup, "").is_err());
    }
}
