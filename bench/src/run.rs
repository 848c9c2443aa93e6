//! One run: labs up, measures in turn, tables out.
//!
//! In: what was asked. Out: printed progress and tables, a file of results.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use lateen_load::histogram::Histogram;
use serde_json::json;

use crate::{
    bed::Bed,
    config::{self, OURS, PEER},
    measure::{self, Measure, Stage},
    memory,
    pods::{Role, Side},
    table::{Row, Table},
};

/// A column: which lab, and between which pods.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    bed: usize,
    client: Side,
    server: Side,
}

/// How often and how long.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: usize,
    window: Duration,
}

/// Everything a run found.
#[derive(Debug, Default)]
struct Found {
    table: Table,
    latency: BTreeMap<(String, String), Histogram>,
    doubts: Vec<String>,
}

/// Measures and prints.
pub(crate) fn run(asked: &config::Run) -> anyhow::Result<ExitCode> {
    let (programs, load) = (asked.programs()?, asked.load()?);
    let measures: Vec<Measure> =
        measure::all().into_iter().filter(|measure| wanted(asked, &measure.name(), measure.quick)).collect();
    let held = wanted(asked, memory::HELD, false);
    if measures.is_empty() && !held {
        bail!("--only {}: no measure has such a name; see lateen-bench list", asked.only.join(","));
    }
    if !programs.iter().any(|program| program.name == PEER) {
        println!("No peer was given (--peer PATH or PEER_ZTUNNEL=PATH): the rest is measured.");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let mut beds = Vec::new();
    for program in &programs {
        println!("bringing up a lab with {} ({})", program.name, program.path.display());
        beds.push(Bed::make(&runtime, program, &load).with_context(|| format!("the lab with {}", program.name))?);
    }
    let columns = columns(asked, &beds);
    let extent = extent(asked);
    let mut found = Found::default();
    memory::idle(&beds, &mut found.table)?;
    found.table.rows.iter().for_each(|row| print_row(row, &columns));
    for (at, measure) in measures.iter().enumerate() {
        println!("[{}/{}] {}", at + 1, measures.len(), measure.name());
        let window = measure.window(extent.window, asked.quick);
        // A minute's steady rate is its own repetition.
        let rounds = if window > Duration::from_secs(30) { 1 } else { extent.rounds };
        for round in 0..rounds {
            // Each round begins with another column, so that none always follows the same one.
            for turn in 0..columns.len() {
                let column = &columns[(turn + round) % columns.len()];
                found.take(&mut beds[column.bed], column, measure, (&load, window))?;
            }
        }
        found.table.rows.iter().filter(|row| row.measure == measure.name()).for_each(|row| print_row(row, &columns));
    }
    if held {
        println!("{}", memory::HELD);
        beds.iter_mut().try_for_each(|bed| memory::held(bed, &load, &mut found.table))?;
        found.table.rows.iter().filter(|row| row.measure == memory::HELD).for_each(|row| print_row(row, &columns));
    }
    for bed in beds {
        bed.end()?;
    }
    found.doubts.iter().for_each(|doubt| println!("doubtful: {doubt}"));
    if let Some(file) = &asked.json {
        let text = serde_json::to_string_pretty(&found.json()).context("writing results")?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(asked: &config::Run, name: &str, quick: bool) -> bool {
    if asked.only.is_empty() {
        return !asked.quick || quick;
    }
    asked.only.iter().any(|word| name.contains(word.as_str()))
}

fn extent(asked: &config::Run) -> Extent {
    let (rounds, seconds) = if asked.quick { (3, 0.7) } else { (5, 2.0) };
    Extent {
        rounds: asked.rounds.unwrap_or(rounds).max(1),
        window: Duration::from_secs_f64(asked.seconds.unwrap_or(seconds).clamp(0.1, 600.0)),
    }
}

fn columns(asked: &config::Run, beds: &[Bed]) -> Vec<Column> {
    let mut columns = Vec::new();
    if !asked.subjects_only {
        let first = |name: &str, client| Column { name: name.to_owned(), bed: 0, client, server: Side::Plain };
        columns.extend([first("none", Side::Plain), first("passthrough", Side::Meshed)]);
    }
    let meshed =
        |(bed, it): (usize, &Bed)| Column { name: it.name.clone(), bed, client: Side::Meshed, server: Side::Meshed };
    columns.extend(beds.iter().enumerate().map(meshed));
    columns
}

impl Found {
    /// Takes one measure of one column; `with` is the load program and the window.
    fn take(
        &mut self,
        bed: &mut Bed,
        column: &Column,
        measure: &Measure,
        with: (&std::path::Path, Duration),
    ) -> anyhow::Result<()> {
        let client = bed.place(column.client, Role::Client)?.netns.clone();
        let proxies = bed.proxies.clone();
        let place = bed.place(column.server, measure.route.server())?;
        let to = place.address;
        let server = place.server.as_mut().context("a place that answers")?;
        let mut stage = Stage { program: with.0, client: &client, server, to, proxies: &proxies };
        let sample = stage.take(measure, with.1).with_context(|| format!("{} for {}", measure.name(), column.name))?;
        sample.numbers.iter().for_each(|number| self.table.add(&measure.name(), &column.name, number));
        self.latency.entry((measure.name(), column.name.clone())).or_default().merge(&sample.latency);
        self.doubts.extend(sample.doubt.map(|doubt| format!("{} for {}: {doubt}", measure.name(), column.name)));
        Ok(())
    }

    /// One object a measure.
    fn json(&self) -> serde_json::Value {
        let objects = self.table.rows.iter().map(|row| {
            let all = |pick: fn(crate::table::Summary) -> f64| -> BTreeMap<&String, f64> {
                row.runs.keys().filter_map(|column| Some((column, pick(row.summary(column)?)))).collect()
            };
            let medians = all(|summary| summary.median);
            let median = |column: &str| medians.get(&column.to_owned());
            json!({
                "name": format!("{}: {}", row.measure, row.what),
                "unit": row.unit,
                "none": median("none"),
                "passthrough": median("passthrough"),
                "ours": median(OURS),
                "peer": median(PEER),
                "medians": medians,
                "ratio": row.ratio(OURS, PEER).map(|ratio| ratio.median),
                "min": all(|summary| summary.min),
                "max": all(|summary| summary.max),
                "runs": row.runs,
            })
        });
        objects.collect()
    }
}

fn print_row(row: &Row, columns: &[Column]) {
    let mut line = format!("  {:<32}", format!("{}, {}", row.what, row.unit));
    for column in columns {
        let Some(summary) = row.summary(&column.name) else { continue };
        let spread = format!("({}..{})", short(summary.min), short(summary.max));
        line.push_str(&format!(" {} {} {spread:<16}", column.name, short(summary.median)));
    }
    let others = columns.iter().filter(|column| !["none", "passthrough", OURS].contains(&column.name.as_str()));
    for other in others {
        if let Some(ratio) = row.ratio(OURS, &other.name) {
            line.push_str(&format!(" | ours/{} {:.2}x", other.name, ratio.median));
        }
    }
    println!("{line}");
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
