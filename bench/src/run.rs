//! One run: labs up, measures in turn, results kept after each.
//!
//! In: what was asked. Out: printed progress, `results.json`, `RESULTS.md` and plots. A measure that fails in a column is noted
//! and the run goes on; a run that was cut short can be resumed.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use lateen_load::histogram::Histogram;
use tokio::time::Instant;

use crate::{
    apart,
    bed::Bed,
    config::{self, NONE, OURS, PASSTHROUGH, PEER, Program},
    header::Header,
    item::{self, Extent, Item},
    markdown::short,
    measure::{Measure, Stage},
    memory, output,
    pods::{Role, Side},
    profile,
    results::{Curve, Note, Profile, Results},
    table::Row,
    target::{self, Fate, Verdict},
};

/// The measure of notes about a whole column.
pub(crate) const EVERYTHING: &str = "everything";

/// How long cycles are looked at.
const PROFILED: Duration = Duration::from_secs(2);

/// Loads whose flame graphs `docs/performance` shows, missed or not.
const SHOWN: [&str; 6] =
    ["cross.tcp1.up", "cross.requests64", "cross.connects", "same.tcp1.up", "same.requests64", "same.connects"];

/// A column: which lab, and between which pods.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    bed: usize,
    client: Side,
    server: Side,
}

struct Runner<'a> {
    asked: &'a config::Run,
    programs: Vec<Program>,
    load: PathBuf,
    beds: Vec<Bed>,
    columns: Vec<Column>,
    extent: Extent,
    results: Results,
    until: Instant,
}

/// Measures, prints and writes.
pub(crate) fn run(asked: &config::Run) -> anyhow::Result<ExitCode> {
    let (programs, load, extent) = (asked.programs()?, asked.load()?, Extent::of(asked));
    let mut items = item::wanted(asked);
    if items.is_empty() {
        bail!("--only {}: no measure has such a name; see lateen-bench list", asked.only.join(","));
    }
    if !programs.iter().any(|program| program.name == PEER) {
        println!("No peer was given (--peer PATH or PEER_ZTUNNEL=PATH): the rest is measured.");
    }
    let header = Header::now(&programs, extent.rounds, extent.window.as_secs_f64())?;
    let mut results = output::begun(asked, header)?;
    items.retain(|item| !results.done.contains(&item.name()));
    results.forget(EVERYTHING);
    let until = Instant::now() + asked.bound();
    let beds = if items.iter().any(Item::in_lab) { beds(&programs, &load, &mut results)? } else { Vec::new() };
    let columns = columns(asked, &beds);
    let mut runner = Runner { asked, programs, load, beds, columns, extent, results, until };
    for (at, item) in items.iter().enumerate() {
        runner.item(item, &format!("{}/{}", at + 1, items.len()))?;
        output::keep(asked, &runner.results)?;
    }
    let Runner { beds, results, .. } = runner;
    for bed in beds {
        bed.end()?;
    }
    results.doubts.iter().for_each(|note| println!("doubtful: {} for {}: {}", note.measure, note.column, note.text));
    results.missing.iter().for_each(|note| println!("not measured: {} {}: {}", note.measure, note.column, note.text));
    output::keep(asked, &results)?;
    Ok(if results.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A lab for each program. Ours must come up; of another one that does not, the run says so.
fn beds(programs: &[Program], load: &std::path::Path, results: &mut Results) -> anyhow::Result<Vec<Bed>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let mut beds = Vec::new();
    for program in programs {
        println!("bringing up a lab with {} ({})", program.name, program.path.display());
        match Bed::make(&runtime, program, load) {
            Ok(bed) => beds.push(bed),
            Err(error) if program.name == OURS => return Err(error.context("the lab with ours")),
            Err(error) => results.note(EVERYTHING, &program.name, &format!("its lab did not come up: {error:#}")),
        }
    }
    Ok(beds)
}

fn columns(asked: &config::Run, beds: &[Bed]) -> Vec<Column> {
    let mut columns = Vec::new();
    if !asked.subjects_only && !beds.is_empty() {
        let first = |name: &str, client| Column { name: name.to_owned(), bed: 0, client, server: Side::Plain };
        columns.extend([first(NONE, Side::Plain), first(PASSTHROUGH, Side::Meshed)]);
    }
    let meshed =
        |(bed, it): (usize, &Bed)| Column { name: it.name.clone(), bed, client: Side::Meshed, server: Side::Meshed };
    columns.extend(beds.iter().enumerate().map(meshed));
    columns
}

impl Runner<'_> {
    /// Takes one item and takes in what it came to.
    fn item(&mut self, item: &Item, place: &str) -> anyhow::Result<()> {
        let name = item.name();
        self.results.forget(&name);
        let left = self.until.saturating_duration_since(Instant::now());
        let columns = self.columns_of(item);
        let length = item.length(self.extent, columns.len().max(self.programs.len()));
        if length > left {
            let text = format!("it takes {} s and the run's time was up; --resume takes it", length.as_secs());
            println!("[{place}] {name}: {text}");
            self.results.note(&name, "", &text);
            return Ok(());
        }
        println!("[{place}] {name}, about {} s", length.as_secs());
        let mut found = Results::default();
        match item {
            Item::Load(measure) => self.load(measure, &columns, &mut found),
            _ => self.other(item, &mut found)?,
        }
        print_rows(&found);
        found.missing.iter().for_each(|note| println!("  not measured: {}: {}", note.column, note.text));
        if found.missing.is_empty() {
            found.done.push(name);
        }
        self.results.merge(found);
        match item {
            Item::Load(measure) if self.asked.profile => self.profile(measure),
            _ => Ok(()),
        }
    }

    /// Looks where the cycles go, for a load that misses a target or whose picture `docs/performance` shows. What hinders
    /// that hinders nothing else.
    fn profile(&mut self, measure: &Measure) -> anyhow::Result<()> {
        let name = measure.name();
        let missed = |verdict: &Verdict| verdict.target.measure == name && matches!(verdict.fate, Fate::Missed(_));
        if !SHOWN.contains(&name.as_str()) && !target::verdicts(&self.results).iter().any(missed) {
            return Ok(());
        }
        let of_ours = |column: &&Column| ![NONE, PASSTHROUGH, PEER].contains(&column.name.as_str());
        let columns: Vec<Column> = self.columns.iter().filter(of_ours).cloned().collect();
        for column in columns {
            let folded = self.stage(&column, measure.route.server())?.profile(measure, PROFILED);
            match folded {
                Ok(folded) => {
                    let build = self.results.header.build_of(&column.name);
                    if let Some(out) = &self.asked.out {
                        output::draw(out, &output::Flame { measure: &name, column: &column.name, build }, &folded)?;
                    }
                    if column.name == OURS {
                        let shares = profile::shares(&folded);
                        self.results.profiles.push(Profile { measure: name.clone(), shares });
                    }
                }
                Err(error) => println!("  no profile of {}: {error:#}", column.name),
            }
        }
        Ok(())
    }

    fn columns_of(&self, item: &Item) -> Vec<Column> {
        let is_program = |column: &Column| column.server == Side::Meshed;
        let taken = |column: &&Column| is_program(column) || item.in_column(&column.name, self.extent);
        self.columns.iter().filter(taken).cloned().collect()
    }

    fn load(&mut self, measure: &Measure, columns: &[Column], found: &mut Results) {
        let (item, name) = (Item::Load(*measure), measure.name());
        let mut latency: BTreeMap<usize, Histogram> = BTreeMap::new();
        for round in 0..item.rounds(self.extent) {
            // Each round begins with another column, so that none always follows the same one.
            for turn in 0..columns.len() {
                let at = (turn + round) % columns.len();
                let column = &columns[at];
                if found.missing.iter().any(|note| note.column == column.name) {
                    continue;
                }
                let heard = latency.entry(at).or_default();
                if let Err(error) = self.sample(measure, column, found, heard) {
                    found.note(&name, &column.name, &format!("{error:#}"));
                }
            }
        }
        let drawn = latency.iter().filter(|(_, all)| all.total() > 0);
        found.latency.extend(drawn.map(|(at, all)| Curve::new(&name, &columns[*at].name, all)));
    }

    /// Takes one measure of one column.
    fn sample(
        &mut self,
        measure: &Measure,
        column: &Column,
        found: &mut Results,
        latency: &mut Histogram,
    ) -> anyhow::Result<()> {
        let window = measure.window(self.extent.window, self.extent.quick);
        let sample = self.stage(column, measure.route.server())?.take(measure, window)?;
        let name = measure.name();
        sample.numbers.iter().for_each(|number| found.measures.add(&name, &column.name, number));
        latency.merge(&sample.latency);
        let doubt = sample.doubt.map(|text| Note { measure: name, column: column.name.clone(), text });
        found.doubts.extend(doubt);
        Ok(())
    }

    /// Where a column's load is put.
    fn stage(&mut self, column: &Column, server: Role) -> anyhow::Result<Stage<'_>> {
        let bed = &mut self.beds[column.bed];
        let client = bed.place(column.client, Role::Client)?.netns.clone();
        let proxies = bed.proxies.clone();
        let place = bed.place(column.server, server)?;
        let to = place.address;
        let server = place.server.as_mut().context("a place that answers")?;
        Ok(Stage { program: &self.load, client, server, to, proxies, more: &[] })
    }

    /// What needs no load between pods.
    fn other(&mut self, item: &Item, found: &mut Results) -> anyhow::Result<()> {
        let (name, rounds) = (item.name(), item.rounds(self.extent));
        for _ in 0..rounds {
            if matches!(item, Item::Handshake) {
                let done = apart::handshake(&self.load, &mut found.measures);
                found.note_failure(&name, OURS, done);
                continue;
            }
            if matches!(item, Item::Idle | Item::Held) {
                for bed in &mut self.beds {
                    let done = match item {
                        Item::Held => memory::held(bed, &self.load, &mut found.measures),
                        _ => memory::idle(bed, &mut found.measures),
                    };
                    found.note_failure(&name, &bed.name.clone(), done);
                }
                continue;
            }
            let worlds = self.asked.worlds()?;
            for program in &self.programs {
                let failed = found.missing.iter().any(|note| note.column == program.name);
                let take = if matches!(item, Item::Worlds) { apart::world } else { apart::start };
                if !failed {
                    let done = take(&worlds, program, &mut found.measures);
                    found.note_failure(&name, &program.name, done);
                }
            }
        }
        Ok(())
    }
}

impl Results {
    /// Notes that something was not measured.
    pub(crate) fn note(&mut self, measure: &str, column: &str, text: &str) {
        let (measure, column, text) = (measure.to_owned(), column.to_owned(), text.to_owned());
        self.missing.push(Note { measure, column, text });
    }

    fn note_failure(&mut self, measure: &str, column: &str, done: anyhow::Result<()>) {
        if let Err(error) = done {
            self.note(measure, column, &format!("{error:#}"));
        }
    }
}

/// A row's columns in the order of tables.
fn found_columns(row: &Row) -> Vec<&str> {
    let others = row.runs.keys().map(String::as_str).filter(|name| ![NONE, PASSTHROUGH, OURS].contains(name));
    let has = |name: &&str| row.runs.contains_key(*name);
    [NONE, PASSTHROUGH, OURS].into_iter().filter(has).chain(others).collect()
}

/// Prints what was found.
pub(crate) fn print_rows(found: &Results) {
    found.measures.rows.iter().for_each(|row| print_row(row, &found_columns(row)));
}

fn print_row(row: &Row, columns: &[&str]) {
    let mut line = format!("  {:<32}", format!("{}, {}", row.what, row.unit));
    for column in columns {
        let Some(summary) = row.summary(column) else { continue };
        let spread = format!("({}..{})", short(summary.min), short(summary.max));
        line.push_str(&format!(" {column} {} {spread:<16}", short(summary.median)));
    }
    for other in columns.iter().filter(|column| ![NONE, PASSTHROUGH, OURS].contains(column)) {
        if let Some(ratio) = row.ratio(OURS, other) {
            line.push_str(&format!(" | ours/{other} {:.2}x", ratio.median));
        }
    }
    println!("{line}");
}
