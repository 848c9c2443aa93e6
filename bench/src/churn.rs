//! Whether the proxies' memory grows while everything comes and goes: connections, pods, policies.
//!
//! In: our ztunnel, how long. Out: what its two proxies hold, minute by minute, and whether that grew.
//! What is compared is the middle of the third quarter with that of the last one: by then every pool and table has had its
//! use. Absent on purpose: speed, and a peer.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::{
    bed::Bed,
    config,
    load::Load,
    measure::Route,
    pods::{Role, Side},
    proc::Memory,
    visit::Visitor,
};

/// New connections a second, on each route.
const CONNECTS: u32 = 200;
/// Requests a second on connections that stay.
const REQUESTS: u32 = 200;
const SAMPLE_EVERY: Duration = Duration::from_secs(60);
/// By so much the anonymous memory may differ without having grown: the allocator gives back in pieces.
const SLACK: f64 = 1.1;
/// Fewer samples tell nothing.
const SAMPLES_MIN: usize = 4;

/// One look at both proxies.
#[derive(Debug, Clone, Copy)]
struct Sample {
    anonymous: u64,
    rss: u64,
}

/// Churns and judges.
pub(crate) fn run(asked: &config::Churn) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let program = asked.load()?;
    let mut bed = Bed::make(&runtime, &asked.program()?, &program)?;
    let mut visitor = runtime.block_on(Visitor::new(&bed.kubeconfig()))?;
    let mut loads = loads(&mut bed, &program)?;
    println!("minute  anonymous, MB  RSS, MB  connections and requests  failed  pods that came and went");
    let (until, mut due) = (Instant::now() + asked.length(), Instant::now() + SAMPLE_EVERY);
    let mut samples = Vec::new();
    while Instant::now() < until {
        runtime.block_on(visitor.come_and_go())?;
        if Instant::now() >= due {
            due += SAMPLE_EVERY;
            samples.push(sample(&bed)?);
            print_sample(&samples, &mut loads, visitor.visits())?;
        }
    }
    drop(loads);
    bed.end()?;
    judge(&samples)
}

/// Connections that come and go, and some that stay, to both nodes.
fn loads(bed: &mut Bed, program: &Path) -> anyhow::Result<Vec<Load>> {
    let client = bed.place(Side::Meshed, Role::Client)?.netns.clone();
    let mut loads = Vec::new();
    for route in [Route::Cross, Route::Same] {
        let to = bed.place(Side::Meshed, route.server())?.address.to_string();
        for (verb, connections, rate) in [("connect", 1, CONNECTS), ("request", 16, REQUESTS)] {
            let words = [verb, &to, "--connections", &connections.to_string(), "--rate", &rate.to_string()];
            loads.push(Load::start(program, &client, &words.map(str::to_owned))?);
        }
    }
    Ok(loads)
}

fn sample(bed: &Bed) -> anyhow::Result<Sample> {
    let mut sum = Sample { anonymous: 0, rss: 0 };
    for pid in &bed.proxies {
        let memory = Memory::of(*pid).context("a proxy ended")?;
        sum.anonymous += memory.anonymous;
        sum.rss += memory.rss;
    }
    Ok(sum)
}

fn print_sample(samples: &[Sample], loads: &mut [Load], visits: u32) -> anyhow::Result<()> {
    let Some(last) = samples.last() else { return Ok(()) };
    let (mut replies, mut failed) = (0, 0);
    for load in loads {
        let report = load.report()?;
        replies += report.replies;
        failed += report.failed + report.dropped;
    }
    let (anonymous, rss) = (last.anonymous as f64 / 1e6, last.rss as f64 / 1e6);
    println!("{:6}  {anonymous:13.2}  {rss:7.2}  {replies:24}  {failed:6}  {visits:24}", samples.len());
    Ok(())
}

fn judge(samples: &[Sample]) -> anyhow::Result<ExitCode> {
    let Some((before, after)) = quarters(samples) else {
        bail!("{} samples tell nothing: --minutes {SAMPLES_MIN} or more", samples.len());
    };
    let ratio = after as f64 / before as f64;
    let grew = ratio > SLACK;
    let word = if grew { "GREW" } else { "did not grow" };
    println!("anonymous memory of both proxies {word}: last quarter / third quarter {ratio:.3}x (at most {SLACK}x)");
    Ok(if grew { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The medians of the third and of the last quarter.
fn quarters(samples: &[Sample]) -> Option<(u64, u64)> {
    let quarter = samples.len() / 4;
    let median = |part: &[Sample]| {
        let mut all: Vec<u64> = part.iter().map(|sample| sample.anonymous).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    };
    let last = samples.len() - quarter;
    (samples.len() >= SAMPLES_MIN).then_some(())?;
    Some((median(&samples[last - quarter..last])?, median(&samples[last..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(anonymous: &[u64]) -> Vec<Sample> {
        anonymous.iter().map(|anonymous| Sample { anonymous: *anonymous, rss: 0 }).collect()
    }

    #[test]
    fn what_settles_has_not_grown_and_what_rises_has() {
        assert_eq!(quarters(&of(&[1, 5, 9, 9, 9, 9, 9, 9])), Some((9, 9)));
        assert_eq!(quarters(&of(&[1, 2, 3, 4])), Some((3, 4)));
        assert_eq!(quarters(&of(&[1, 2, 3])), None);
        assert_eq!(judge(&of(&[1, 2, 30, 40])).expect("enough"), ExitCode::FAILURE);
        assert_eq!(judge(&of(&[1, 2, 100, 101])).expect("enough"), ExitCode::SUCCESS);
    }
}
