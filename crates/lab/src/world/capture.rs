//! What crosses the wire between a lab's nodes.
//!
//! In: a running lab; the end of our standard input ends the capture. Out: every TCP flow's payload, in order of arrival.
//! Absent on purpose: reassembly by sequence number; a veth loses and reorders nothing, and a repeated segment only
//! repeats its bytes.

use std::{collections::BTreeMap, fs::File, io::Read as _, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use lateen_net::capture::{Capture, tcp_segment};
use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::state::StateDir;
use crate::fabric;

/// The most payload kept of one flow; what comes after is counted nowhere, so keep what you watch small.
const FLOW_MAX: usize = 16 << 20;

/// One direction of one TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who sent.
    pub source: SocketAddr,
    /// Who received.
    pub destination: SocketAddr,
}

/// Records node 1's wire until standard input ends. `begun` is called once recording has begun.
/// The calling process is moved into the lab's network for good; it must be single-threaded.
pub fn capture(state: &StateDir, begun: impl FnOnce()) -> anyhow::Result<BTreeMap<Flow, Vec<u8>>> {
    enter(state)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(record(begun))
}

fn enter(state: &StateDir) -> anyhow::Result<()> {
    let first = state.pid()?;
    let mut found = Vec::new();
    for (kind, flag) in [("user", CloneFlags::CLONE_NEWUSER), ("net", CloneFlags::CLONE_NEWNET)] {
        let path = PathBuf::from(format!("/proc/{first}/ns/{kind}"));
        let (theirs, ours) = (std::fs::read_link(&path), std::fs::read_link(format!("/proc/self/ns/{kind}")));
        let theirs = theirs.with_context(|| format!("looking at {}", path.display()))?;
        // Entering one's own user namespace is an error.
        if ours.is_ok_and(|ours| ours == theirs) {
            continue;
        }
        found.push((File::open(&path).with_context(|| format!("opening {}", path.display()))?, flag));
    }
    found.into_iter().try_for_each(|(file, flag)| setns(file, flag).context("entering the lab's network"))
}

async fn record(begun: impl FnOnce()) -> anyhow::Result<BTreeMap<Flow, Vec<u8>>> {
    let wire = fabric::wire_of(1);
    let mut capture = Capture::open(None, Some(&wire)).with_context(|| format!("capturing on {wire}"))?;
    let (ended, mut end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Any end of the input, an error included, ends the capture; so does the other side's being gone.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        drop(ended);
    });
    begun();
    let mut flows = BTreeMap::<Flow, Vec<u8>>::new();
    loop {
        tokio::select! {
            // What has arrived is read before the end is looked at: the caller ends right after its last byte.
            biased;
            frame = capture.next() => {
                let Some(segment) = tcp_segment(frame.context("reading the wire")?) else { continue };
                let flow = Flow { source: segment.source, destination: segment.destination };
                let kept = flows.entry(flow).or_default();
                let room = FLOW_MAX - kept.len();
                kept.extend_from_slice(&segment.payload[..segment.payload.len().min(room)]);
            }
            _ = &mut end => return Ok(flows),
        }
    }
}
