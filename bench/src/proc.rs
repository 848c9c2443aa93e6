//! What the kernel says of processes and of the machine.
//!
//! In: files under `/proc`. Out: CPU time, memory, whose child is whose.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, bail};

/// Processors' time is counted in hundredths of seconds (`USER_HZ`) in `/proc/stat`, on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of each thread of some processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spent(BTreeMap<(i32, String), Duration>);

impl Spent {
    /// So far, by these processes.
    pub fn by(processes: &[i32]) -> anyhow::Result<Self> {
        let mut spent = BTreeMap::new();
        for process in processes {
            let tasks = format!("/proc/{process}/task");
            for task in fs::read_dir(&tasks).with_context(|| format!("listing {tasks}: the proxy has ended"))? {
                let task = task.context("listing threads")?;
                // A thread may end between the two looks.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                spent.insert((*process, task.file_name().to_string_lossy().into_owned()), schedstat(&text)?);
            }
        }
        Ok(Self(spent))
    }

    /// What was spent between `before` and now. A thread that ended in between is not counted.
    pub fn since(&self, before: &Self) -> Duration {
        let own = |(thread, now): (&(i32, String), &Duration)| {
            now.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(own).sum()
    }
}

/// The first of three numbers: nanoseconds on a processor.
fn schedstat(text: &str) -> anyhow::Result<Duration> {
    let first = text.split_whitespace().next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(first.parse().with_context(|| format!("schedstat: {text:?}"))?))
}

/// How long all processors of the machine were busy so far.
pub(crate) fn busy() -> anyhow::Result<Duration> {
    busy_of(&fs::read_to_string("/proc/stat").context("reading /proc/stat")?)
}

/// user, nice, system, idle, iowait, irq, softirq, steal, …: all but idle and iowait. Guests are in user already, and
/// what was stolen nobody here used.
fn busy_of(text: &str) -> anyhow::Result<Duration> {
    let line = text.lines().find(|line| line.starts_with("cpu ")).context("/proc/stat has no sum")?;
    let numbers: Vec<u32> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = numbers[..] else {
        bail!("/proc/stat: {line:?}");
    };
    Ok(TICK * (user + nice + system + irq + softirq))
}

/// A process and its environment.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Its id on this machine.
    pub pid: i32,
    variables: Vec<String>,
}

impl Process {
    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find_map(|each| each.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The processes that descend from `ancestor`.
pub(crate) fn descendants(ancestor: i32) -> anyhow::Result<Vec<Process>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("listing /proc")? {
        let name = entry.context("listing /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Processes come and go.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        parents.insert(pid, parent_of(&stat).with_context(|| format!("stat of {pid}: {stat:?}"))?);
    }
    let descends = |pid: &i32| {
        let mut at = *pid;
        while let Some(parent) = parents.get(&at) {
            if *parent == ancestor {
                return true;
            }
            at = *parent;
        }
        false
    };
    Ok(parents
        .keys()
        .filter(|pid| descends(pid))
        .map(|pid| Process { pid: *pid, variables: variables(*pid) })
        .collect())
}

/// The second field after the name, which may hold anything.
fn parent_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn variables(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|each| String::from_utf8_lossy(each).into_owned()).collect()
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident.
    pub rss: u64,
    /// Resident, shared pages divided among those who share them.
    pub pss: u64,
    /// Resident and no file's.
    pub anonymous: u64,
}

impl Memory {
    /// Now.
    pub fn of(pid: i32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        Self::parse(&fs::read_to_string(&path).with_context(|| format!("reading {path}"))?)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let field = |name: &str| -> anyhow::Result<u64> {
            let words = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).context("no field")?;
            let number = words.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            Ok(number.with_context(|| format!("{name}: {words:?}"))? << 10)
        };
        Ok(Self { rss: field("Rss")?, pss: field("Pss")?, anonymous: field("Anonymous")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_time_is_nanoseconds() {
        assert_eq!(schedstat("1500000000 77 12\n").expect("numbers"), Duration::from_millis(1500));
        assert!(schedstat("").is_err() && schedstat("x 1 2").is_err());
    }

    #[test]
    fn only_what_was_spent_between_counts() {
        let spent = |each: &[(i32, &str, u64)]| {
            Spent(each.iter().map(|(pid, task, ms)| ((*pid, (*task).to_owned()), Duration::from_millis(*ms))).collect())
        };
        let before = spent(&[(1, "1", 10), (1, "2", 20)]);
        // Thread 2 ended, thread 3 is new.
        let after = spent(&[(1, "1", 15), (1, "3", 4), (2, "2", 1)]);
        assert_eq!(after.since(&before), Duration::from_millis(5 + 4 + 1));
    }

    #[test]
    fn our_own_time_is_counted() {
        let own = [std::process::id().cast_signed()];
        let before = Spent::by(&own).expect("our threads");
        let mut sum: u64 = 0;
        while Spent::by(&own).expect("our threads").since(&before).is_zero() {
            sum = std::hint::black_box(sum + 1);
        }
    }

    #[test]
    fn the_machine_is_busy_but_for_idle_and_waiting() {
        let text = "cpu  1 2 4 1000 1000 8 16 1000 0 0\ncpu0 1 2 4 1000 1000 8 16 1000 0 0\n";
        assert_eq!(busy_of(text).expect("numbers"), Duration::from_millis(310));
        assert!(busy_of("cpu  1 2\n").is_err());
    }

    #[test]
    fn parents_are_found_behind_odd_names() {
        assert_eq!(parent_of("7 (a) b) S 3 7 7 0"), Some(3));
        assert_eq!(parent_of("7"), None);
    }

    #[test]
    fn memory_is_read() {
        let text = "00-ff ---p 00 00:00 0 [rollup]\nRss:  16 kB\nPss:    8 kB\nPss_Dirty: 1 kB\nAnonymous:  4 kB\n";
        let parsed = Memory::parse(text).expect("fields");
        assert_eq!((parsed.rss, parsed.pss, parsed.anonymous), (16 << 10, 8 << 10, 4 << 10));
    }
}
