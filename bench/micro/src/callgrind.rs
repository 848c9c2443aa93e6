//! Counting by valgrind's callgrind: the program runs on a processor made of software, which counts every instruction.
//!
//! In: the program. Out: for each scenario, instructions and allocations of one operation. Counts of one program on one kind of
//! processor are the same in every run, but for chance in hash seeds and keys.
//! Absent on purpose: the caches and the pipeline of a real processor.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    count::{COUNTED, FINISHED, TIMES},
    scenario,
};

/// What one operation costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Instructions of this program, the kernel's not.
    pub instructions: f64,
    /// Calls of the allocator for new or larger memory.
    pub allocations: f64,
}

/// A scenario's counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The scenario's name.
    pub name: &'static str,
    /// Its counts.
    pub counts: Counts,
}

/// Functions that give memory. A program of ours has no allocator of its own, so they are the C library's.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// The C library copies by the instructions the processor is best at, of which `rep movsb` counts once for each byte.
/// Everywhere the same, by vectors.
const SAME_COPIES: &str =
    "glibc.cpu.hwcaps=-ERMS:glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

/// Longer than it ever takes.
const TIMEOUT: &str = "300";

/// Counts every scenario. `program` is `lateen-micro`; callgrind's files are left in `directory`.
pub fn count(program: &Path, directory: &Path) -> anyhow::Result<Vec<Counted>> {
    let out = directory.join("callgrind.out");
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", TIMEOUT, "valgrind", "--tool=callgrind"]);
    command.args(["--compress-strings=no", "--compress-pos=no", "--dump-instr=yes"]);
    command.env("GLIBC_TUNABLES", SAME_COPIES);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    // Costs are collected inside only, but calls are counted everywhere, so all begin at zero there.
    command.args([format!("--toggle-collect={COUNTED}"), format!("--zero-before={COUNTED}")]);
    command.arg(format!("--dump-before={FINISHED}"));
    let output = command.arg(program).output().context("starting timeout")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("valgrind (package valgrind, `apt-get install valgrind`) ended with {}: {said}", output.status);
    }
    let counted = scenario::ALL.iter().enumerate().map(|(at, scenario)| {
        let dump = dump(&out, at + 1);
        let text = fs::read_to_string(&dump).with_context(|| format!("reading {}", dump.display()))?;
        let counts = counts(&text).with_context(|| format!("reading {} of {}", dump.display(), scenario.name))?;
        Ok(Counted { name: scenario.name, counts })
    });
    let counted = counted.collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!dump(&out, scenario::ALL.len() + 1).exists(), "more was counted than there are scenarios");
    Ok(counted)
}

/// The dump that was written after the scenario number `at`, counted from 1.
fn dump(out: &Path, at: usize) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{at}"));
    name.into()
}

/// A dump lists functions by `fn=`, each with lines `<address> <line> <times executed>` for its instructions. A function
/// is entered at its lowest address, so that the count there is that of its calls. (The dump's own counts of calls are of
/// no use: they begin before the counting does.) The line after `calls=` is a call's inclusive cost.
fn counts(dump: &str) -> anyhow::Result<Counts> {
    let (mut instructions, mut entered) = (None, BTreeMap::new());
    let (mut function, mut is_call) = ("", false);
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if let Some(total) = line.strip_prefix("totals: ") {
            instructions = Some(total.trim().parse::<u64>().context("a total")?);
        } else if line.starts_with("0x") && !is_call && ALLOCATORS.contains(&function) {
            let (address, times) = executed(line).with_context(|| format!("{line:?}"))?;
            let entry = entered.entry(function).or_insert((address, times));
            *entry = (*entry).min((address, times));
        }
        is_call = line.starts_with("calls=");
    }
    let instructions = instructions.filter(|count| *count > 0).context("nothing was counted")?;
    let allocations = entered.values().map(|(_, times)| times).sum();
    Ok(Counts { instructions: each(instructions), allocations: each(allocations) })
}

/// An instruction's address and how often it was executed.
fn executed(line: &str) -> anyhow::Result<(u64, u64)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [address, _, times] = words.as_slice() else { bail!("it must be: address line times") };
    Ok((u64::from_str_radix(address.trim_start_matches("0x"), 16)?, times.parse()?))
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn each(sum: u64) -> f64 {
    sum as f64 / f64::from(TIMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_entries_of_allocators_are_read() {
        let dump = "# callgrind format\nfn=a::b\n0x10 4 900\ncfn=malloc\ncalls=9999 0x20 7\n0x12 4 900\n\n\
                    fn=malloc\n0x28 7 4000\n0x20 7 256\nfi=other.c\n0x24 9 256\n\n\
                    fn=realloc\n0x80 7 512\ncfn=malloc\ncalls=1 0x20 7\n0x40 7 1\n\nfn=a::malloc_like\n0x90 1 700\n\
                    totals: 2560\n";
        assert_eq!(counts(dump).expect("readable"), Counts { instructions: 10.0, allocations: 3.0 });
        assert!(counts("totals: 0\n").is_err(), "a dump of nothing is no count");
        assert!(counts("fn=a\n").is_err());
    }
}
