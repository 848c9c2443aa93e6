//! Where the cycles of our proxies go while a measure is taken: `perf`, for measures that miss a target.
//!
//! In: processes and a time. Out: folded stacks, and shares by kind of work. Absent on purpose: hardware counters, which
//! virtual machines lack.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, bail};

/// Samples a second and processor; no divisor of what timers use.
const FREQUENCY: &str = "499";
/// Addresses of the kernel begin here.
const KERNEL: u64 = 1 << 63;
/// Longer than any recording takes.
const RECORD_TIMEOUT: &str = "60";
/// Longer than reading any recording takes.
const READ_TIMEOUT: &str = "60";

/// Records `processes` for a while; lines of `frame;frame count`.
pub(crate) fn folded(processes: &[i32], time: Duration, directory: &Path) -> anyhow::Result<String> {
    let file = directory.join("perf.data");
    let pids: Vec<String> = processes.iter().map(ToString::to_string).collect();
    let mut record = Command::new("timeout");
    record.args(["-s", "KILL", RECORD_TIMEOUT, "perf", "record", "-q", "-e", "cpu-clock", "-F", FREQUENCY]);
    record.args(["-g", "--call-graph", "fp", "-o"]).arg(&file);
    record.args(["-p", &pids.join(","), "--", "sleep", &time.as_secs_f64().to_string()]);
    said(&mut record)?;
    let mut script = Command::new("timeout");
    script.args(["-s", "KILL", READ_TIMEOUT, "perf", "script", "--no-inline", "-F", "ip,sym", "-i"]).arg(&file);
    Ok(fold(&said(&mut script)?))
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().context("starting perf (package linux-perf)")?;
    if !output.status.success() {
        bail!("perf: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Samples are lines of an address and a symbol, innermost first, with empty lines between.
fn fold(script: &str) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for sample in script.split("\n\n") {
        let mut frames: Vec<String> = sample.lines().filter_map(frame).collect();
        if !frames.is_empty() {
            frames.reverse();
            *counts.entry(frames.join(";")).or_default() += 1;
        }
    }
    counts.into_iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
}

fn frame(line: &str) -> Option<String> {
    let (address, symbol) = line.trim().split_once(' ')?;
    let kernel = u64::from_str_radix(address, 16).ok()? >= KERNEL;
    // What follows the last :: of a Rust name is a hash.
    let symbol = symbol.rsplit_once("::h").filter(|(_, hash)| hash.len() == 16).map_or(symbol, |(name, _)| name);
    let symbol = symbol.trim().replace([';', ' '], "_");
    Some(if kernel { symbol + "_[k]" } else { symbol })
}

/// The kinds of work, each with words of the innermost frames that belong to it. The first that fits counts.
const OF_KERNEL: &[(&str, &[&str])] = &[
    (
        "copies between kernel and user",
        &["copy_user", "_copy_to_iter", "_copy_from_iter", "rep_movs", "copyin", "copyout"],
    ),
    ("netfilter", &["nf_", "nft_", "conntrack", "ipt_"]),
    (
        "scheduler and wake-ups",
        &["sched", "wake", "epoll", "ep_", "futex", "enqueue", "dequeue", "switch", "pick_next"],
    ),
];
const OF_USER: &[(&str, &[&str])] = &[
    ("ciphers and keys", &["aes", "gcm", "ghash", "sha256", "sha512", "mlkem", "x25519", "p256", "aws_lc", "bn_"]),
    ("user memcpy", &["memcpy", "memmove", "memset"]),
    ("allocator", &["malloc", "free", "realloc", "calloc", "mi_"]),
    ("h2", &["h2::"]),
    ("rustls", &["rustls"]),
    ("tokio", &["tokio", "mio::"]),
];

/// Shares of samples by kind of work.
pub(crate) fn shares(folded: &str) -> BTreeMap<String, f64> {
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for line in folded.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let leaf = stack.rsplit(';').next().unwrap_or(stack);
        *counts.entry(kind(leaf).to_owned()).or_default() += count.parse().unwrap_or(0.0);
    }
    let all: f64 = counts.values().sum();
    counts.values_mut().for_each(|count| *count /= all.max(1.0));
    counts
}

fn kind(leaf: &str) -> &'static str {
    let (kinds, rest) = match leaf.strip_suffix("_[k]") {
        Some(_) => (OF_KERNEL, "kernel network and rest"),
        None => (OF_USER, "other code of the program"),
    };
    let lower = leaf.to_lowercase();
    let of = |(_, words): &&(&str, &[&str])| words.iter().any(|word| lower.contains(word));
    kinds.iter().find(of).map_or(rest, |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_stacks() {
        let script = "\tffffffff81000000 tcp_sendmsg\n\t    55d0 core::poll::h0123456789abcdef\n\n\tffffffff81000000 \
                      tcp_sendmsg\n\t    55d0 core::poll::h0123456789abcdef\n\n\t 10 a;b c\n";
        assert_eq!(fold(script), "a_b_c 1\ncore::poll;tcp_sendmsg_[k] 2\n");
    }

    #[test]
    fn innermost_frames_decide_the_kind() {
        let shares = shares("main;h2::proto;memcpy 1\nmain;read;_copy_to_iter_[k] 2\nmain;tcp_ack_[k] 1\n");
        assert_eq!(shares.get("user memcpy"), Some(&0.25));
        assert_eq!(shares.get("copies between kernel and user"), Some(&0.5));
        assert_eq!(shares.get("kernel network and rest"), Some(&0.25));
    }
}
