//! Where dumps come from: a file, or `/config_dump` of the ztunnels in a lab.
//!
//! In: a file name, or a lab and perhaps a node. Out: parsed dumps, each with the name of the ztunnel it is of.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use lateen_lab::world::{
    enter::{Noted, ask, noted},
    state::StateDir,
};
use serde_json::Value;

/// Where ztunnel's admin server listens, on its pod's loopback.
const ADMIN_PORT: u16 = 15000;

/// One ztunnel's configuration.
#[derive(Debug)]
pub(crate) struct Dump {
    /// The pod (or file) it came from.
    pub of: String,
    /// The dump.
    pub value: Value,
}

/// Reads the file if one is given, else asks the lab's ztunnels (of `node` only, where given).
pub(crate) fn read(lab: &str, node: Option<&str>, file: Option<&Path>) -> anyhow::Result<Vec<Dump>> {
    if let Some(file) = file {
        let name = file.display().to_string();
        let text = fs::read(file).with_context(|| format!("reading the dump {name}"))?;
        let value = serde_json::from_slice(&text).with_context(|| format!("{name} is not a ztunnel's /config_dump"))?;
        return Ok(vec![Dump { of: name, value }]);
    }
    let state = StateDir::named(lab)?;
    if !state.alive()? {
        bail!("the lab {lab:?} does not run; start it with `lateen lab up`, or give a dump with --file");
    }
    let on_node = |each: &Noted| node.is_none_or(|node| each.node == node);
    let is_ztunnel = |each: &Noted| each.namespace == "istio-system" && each.pod.starts_with("ztunnel");
    let ztunnels: Vec<Noted> = noted(&state)?.into_iter().filter(|each| is_ztunnel(each) && on_node(each)).collect();
    if ztunnels.is_empty() {
        bail!("the lab has no running ztunnel{}", node.map(|node| format!(" on node {node}")).unwrap_or_default());
    }
    ztunnels.iter().map(|ztunnel| from(&state, ztunnel)).collect()
}

fn from(state: &StateDir, ztunnel: &Noted) -> anyhow::Result<Dump> {
    let of = format!("{} on {}", ztunnel.pod, ztunnel.node);
    let text = ask(state, ztunnel, ADMIN_PORT, "/config_dump").with_context(|| format!("asking {of}"))?;
    let value = serde_json::from_slice(&text).with_context(|| format!("the answer of {of}"))?;
    Ok(Dump { of, value })
}
