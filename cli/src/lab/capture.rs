//! `lateen lab capture`: what crosses between the nodes, as JSON lines.
//!
//! In: a lab; the end of standard input ends the capture. Out: the line `capturing`, later one [`Line`] a TCP flow.

use std::process::ExitCode;

use base64::Engine as _;
use lateen_lab::world::{capture::capture, state::StateDir};
use serde::{Deserialize, Serialize};

use crate::output;

/// The first line printed, once everything from then on is recorded.
pub(crate) const BEGUN: &str = "capturing";

/// One direction of one TCP connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Who sent, `ip:port`.
    pub source: String,
    /// Who received, `ip:port`.
    pub destination: String,
    /// What was sent, base64.
    pub payload: String,
}

/// Captures and prints.
pub(crate) fn run(state: &StateDir) -> anyhow::Result<ExitCode> {
    let flows = capture(state, || drop(output::line(BEGUN)))?;
    for (flow, payload) in flows {
        let payload = base64::engine::general_purpose::STANDARD.encode(payload);
        let line = Line { source: flow.source.to_string(), destination: flow.destination.to_string(), payload };
        output::line(serde_json::to_string(&line)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
