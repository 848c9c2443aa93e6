//! What proxies hold: idle, and for connections that only wait.
//!
//! In: labs. Out: numbers by proxy; each proxy is a run of its own, since each is one side of a connection.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    bed::Bed,
    load::Load,
    measure::Number,
    pods::{Role, Side},
    proc::Memory,
    table::Table,
};

/// The name of what idle proxies hold.
pub(crate) const IDLE: &str = "memory.idle";
/// The name of what held connections cost.
pub(crate) const HELD: &str = "memory.held";
/// The number of it with a target.
pub(crate) const EACH: &str = "RSS a connection and side";
/// Connections that are held.
const CONNECTIONS: u32 = 10_000;

/// What proxies hold that know a few pods and have seen no traffic.
pub(crate) fn idle(bed: &Bed, table: &mut Table) -> anyhow::Result<()> {
    for memory in of(bed)? {
        for (what, bytes) in [("RSS", memory.rss), ("PSS", memory.pss), ("anonymous", memory.anonymous)] {
            table.add(IDLE, &bed.name, &Number { what, unit: "MB", value: bytes as f64 / 1e6 });
        }
    }
    Ok(())
}

/// What a connection from node to node costs on each side, held after one request.
pub(crate) fn held(bed: &mut Bed, load: &Path, table: &mut Table) -> anyhow::Result<()> {
    let to = bed.place(Side::Meshed, Role::Far)?.address;
    let client = bed.place(Side::Meshed, Role::Client)?.netns.clone();
    let before = of(bed)?;
    let words = ["hold".to_owned(), to.to_string(), "--connections".to_owned(), CONNECTIONS.to_string()];
    let holding = Load::start(load, &client, &words).with_context(|| format!("holding {CONNECTIONS} connections"))?;
    let after = of(bed)?;
    drop(holding);
    for (before, after) in before.iter().zip(&after) {
        for (what, before, after) in
            [(EACH, before.rss, after.rss), ("anonymous a connection and side", before.anonymous, after.anonymous)]
        {
            let value = (after as f64 - before as f64) / f64::from(CONNECTIONS);
            table.add(HELD, &bed.name, &Number { what, unit: "bytes", value });
        }
        let whole = Number { what: "RSS with 10,000 connections", unit: "MB", value: after.rss as f64 / 1e6 };
        table.add(HELD, &bed.name, &whole);
    }
    Ok(())
}

fn of(bed: &Bed) -> anyhow::Result<Vec<Memory>> {
    bed.proxies.iter().map(|pid| Memory::of(*pid)).collect()
}
