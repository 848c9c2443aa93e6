//! One run: a network, a server, proxies; measures in turn, results kept after each.
//!
//! In: what was asked. Out: printed progress, files. A measure that fails in a column is noted, and the run goes on.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use lateen_load::histogram::Histogram;
use lateen_net::netns::Netns;

use super::{
    control::Control,
    measures::{self, ALL, EACH, FEW, HALF, HELD, IDLE, MANY, PLAIN, RATE_FEW, RATE_MANY, RATE_RATIO, ROUTES, TUNNELS},
    program::{IDENTITY, On, Place, Running, SERVER},
    report,
    scene::Scene,
};
use crate::{
    config::{self, NONE, OURS, PEER, Program},
    header::Header,
    load::Load,
    measure::{Number, Sample, Stage},
    output,
    proc::Memory,
    profile,
    results::{Curve, Note, Results},
    run::print_rows,
};

/// Idle connections that are held.
const HELD_COUNT: usize = 10_000;
/// How long before they count as idle: proxies may give back what only a busy connection needs.
const HELD_FOR: Duration = Duration::from_secs(25);
/// Where the server answers HTTP without a proxy.
const DIRECT: ([u8; 4], u16) = ([127, 0, 0, 1], SERVER + 4);

/// Measures, prints and writes.
pub(crate) fn run(asked: &config::L7) -> anyhow::Result<ExitCode> {
    let (programs, load) = (asked.programs()?, asked.load()?);
    let wanted: Vec<&str> = ALL.into_iter().filter(|name| asked.wants(name)).collect();
    if wanted.is_empty() {
        bail!("--only {}: no measure has such a name; there are {}", asked.only.join(","), ALL.join(", "));
    }
    if !programs.iter().any(|program| program.name == PEER) {
        println!("No Envoy was given (--peer PATH or PEER_ENVOY=PATH): the rest is measured.");
    }
    let header = Header::now(&programs, asked.rounds, asked.seconds)?;
    let directory = tempfile::tempdir().context("a directory")?;
    let control = Control::new()?;
    control.identity(IDENTITY, directory.path())?;
    let netns = Netns::create().context("a network; this needs root")?;
    netns.loopback_up()?;
    let serve = ["serve".to_owned(), SERVER.to_string()];
    let server = On::Load.run(|| Load::start(&load, &netns, &serve))?;
    let place =
        Place { netns, control: &control, directory: directory.path(), load: &load, logs: asked.logs.as_deref() };
    let results = Results { header, ..Results::default() };
    let mut runner = Runner { asked, programs, place, server, running: Vec::new(), started: 0, results };
    for name in wanted {
        println!("{name}");
        runner.measure(name)?;
        if let Some(out) = &asked.out {
            report::keep(out, &runner.results)?;
        }
    }
    let results = runner.results;
    runner.running.clear();
    drop((runner.server, runner.place));
    control.end();
    results.doubts.iter().for_each(|note| println!("doubtful: {} for {}: {}", note.measure, note.column, note.text));
    results.missing.iter().for_each(|note| println!("not measured: {} {}: {}", note.measure, note.column, note.text));
    Ok(if results.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Runner<'a> {
    asked: &'a config::L7,
    programs: Vec<Program>,
    place: Place<'a>,
    server: Load,
    running: Vec<(String, Scene, Running)>,
    /// How many were started.
    started: u16,
    results: Results,
}

impl Runner<'_> {
    fn measure(&mut self, name: &str) -> anyhow::Result<()> {
        let mut found = Results::default();
        if measures::needs_peer(name) && self.half().is_none() {
            self.results.note(name, "", "Envoy's rate was not measured in this run");
            return Ok(());
        }
        let mut columns: Vec<String> = self.programs.iter().map(|program| program.name.clone()).collect();
        if !self.asked.subjects_only {
            columns.insert(0, NONE.to_owned());
        }
        columns.retain(|column| measures::takes(name, column));
        let is_memory = [IDLE, MANY, HELD].contains(&name);
        let mut latency: BTreeMap<String, Histogram> = BTreeMap::new();
        for round in 0..if is_memory { 1 } else { self.asked.rounds } {
            for turn in 0..columns.len() {
                // Each round begins with another column, so that none always follows the same one.
                let column = columns[(turn + round) % columns.len()].clone();
                if found.missing.iter().any(|note| note.column == column) {
                    continue;
                }
                let heard = latency.entry(column.clone()).or_default();
                match self.numbers(name, &column, heard) {
                    Ok(samples) => take(name, &column, samples, &mut found),
                    Err(error) => found.note(name, &column, &format!("{error:#}")),
                }
            }
        }
        let drawn = latency.iter().filter(|(_, all)| all.total() > 0);
        found.latency.extend(drawn.map(|(column, all)| Curve::new(name, column, all)));
        print_rows(&found);
        found.missing.iter().for_each(|note| println!("  not measured: {}: {}", note.column, note.text));
        found.done.push(name.to_owned());
        self.results.merge(found);
        if !self.asked.profile || is_memory {
            return Ok(());
        }
        // What hinders this hinders nothing else.
        self.profile(name).unwrap_or_else(|error| println!("  no profile: {error:#}"));
        Ok(())
    }

    /// One round of one column.
    fn numbers(&mut self, name: &str, column: &str, latency: &mut Histogram) -> anyhow::Result<Sample> {
        let window = Duration::from_secs_f64(self.asked.seconds);
        let usual = measures::scenes(name, column).first().copied();
        let sample = match name {
            ROUTES => return self.routes(column, window),
            IDLE | MANY => return self.memory(column, usual.unwrap_or(FEW)),
            HELD => return self.held(column, usual.unwrap_or(FEW)),
            HALF => {
                let rate = self.half().context("Envoy's rate")?;
                self.take(&measures::paced(rate), (column, usual), window * 2)?
            }
            _ => self.take(&measures::full(), (column, usual), window)?,
        };
        latency.merge(&sample.latency);
        let mut sample = sample;
        if name == TUNNELS {
            sample.numbers.extend(self.beside_plain(column, &sample));
        }
        Ok(sample)
    }

    /// Half of what Envoy did at most in this run.
    fn half(&self) -> Option<f64> {
        Some(self.results.row(PLAIN, "rate")?.summary(PEER)?.median / 2.0)
    }

    /// What tunnels make of the same program's plain numbers.
    fn beside_plain(&self, column: &str, sample: &Sample) -> Vec<Number> {
        let of = |what: &str, name: &'static str| {
            let plain = self.results.row(PLAIN, what)?.summary(column)?.median;
            let with = sample.numbers.iter().find(|number| number.what == what)?.value;
            Some(Number { what: name, unit: "x", value: with / plain })
        };
        let both = [of("rate", "rate, tunnels / plain"), of("CPU of the proxies", "CPU, tunnels / plain")];
        both.into_iter().flatten().collect()
    }

    fn routes(&mut self, column: &str, window: Duration) -> anyhow::Result<Sample> {
        let mut numbers = Vec::new();
        let mut rates = [0.0; 2];
        for (at, scene) in measures::scenes(ROUTES, column).into_iter().enumerate() {
            let sample = self.take(&measures::full(), (column, Some(scene)), window)?;
            rates[at] = sample.numbers.iter().find(|number| number.what == "rate").map_or(0.0, |number| number.value);
        }
        let named = [(RATE_FEW, "/s", rates[0]), (RATE_MANY, "/s", rates[1]), (RATE_RATIO, "x", rates[1] / rates[0])];
        numbers.extend(named.map(|(what, unit, value)| Number { what, unit, value }));
        Ok(Sample { numbers, ..Sample::default() })
    }

    /// What a proxy holds that has had one request.
    fn memory(&mut self, column: &str, scene: Scene) -> anyhow::Result<Sample> {
        let at = self.start(column, scene)?;
        let memory = Memory::of(self.running[at].2.pid)?;
        let megabytes = |what, bytes: u64| Number { what, unit: "MB", value: bytes as f64 / 1e6 };
        let numbers = vec![megabytes("RSS", memory.rss), megabytes("anonymous", memory.anonymous)];
        Ok(Sample { numbers, ..Sample::default() })
    }

    /// What idle connections add to a fresh proxy.
    fn held(&mut self, column: &str, scene: Scene) -> anyhow::Result<Sample> {
        self.running.retain(|(of, with, _)| !(of == column && *with == scene));
        let at = self.start(column, scene)?;
        let proxy = &self.running[at].2;
        let before = Memory::of(proxy.pid)?;
        let words = [
            "hold".to_owned(),
            proxy.address.to_string(),
            "--connections".to_owned(),
            HELD_COUNT.to_string(),
            "--paths".to_owned(),
            self.paths(&scene)?.display().to_string(),
        ];
        let _held = On::Load.run(|| Load::start(self.place.load, &self.place.netns, &words))?;
        let at_once = Memory::of(proxy.pid)?;
        std::thread::sleep(HELD_FOR);
        let after = Memory::of(proxy.pid)?;
        let each = |what, after: u64, before: u64| {
            let value = after.saturating_sub(before) as f64 / HELD_COUNT as f64;
            Number { what, unit: "bytes", value }
        };
        let numbers = vec![
            each(EACH, after.rss, before.rss),
            each("RSS, each, at once", at_once.rss, before.rss),
            each("anonymous, each", after.anonymous, before.anonymous),
            Number { what: "RSS", unit: "MB", value: after.rss as f64 / 1e6 },
        ];
        Ok(Sample { numbers, ..Sample::default() })
    }

    /// One window of load.
    fn take(
        &mut self,
        measure: &crate::measure::Measure,
        (column, scene): (&str, Option<Scene>),
        window: Duration,
    ) -> anyhow::Result<Sample> {
        let more = self.more(scene.as_ref())?;
        let (to, proxies) = self.target(column, scene)?;
        let (program, client) = (self.place.load, self.place.netns.clone());
        let mut stage = Stage { program, client, server: &mut self.server, to, proxies, more: &more };
        On::Load.run(|| stage.take(measure, window))
    }

    /// Where requests go, and whose work counts.
    fn target(&mut self, column: &str, scene: Option<Scene>) -> anyhow::Result<(std::net::SocketAddr, Vec<i32>)> {
        match scene {
            None => Ok((DIRECT.into(), Vec::new())),
            Some(scene) => {
                let at = self.start(column, scene)?;
                Ok((self.running[at].2.address, vec![self.running[at].2.pid]))
            }
        }
    }

    /// The load's further words.
    fn more(&self, scene: Option<&Scene>) -> anyhow::Result<Vec<String>> {
        let file = self.paths(scene.unwrap_or(&FEW))?;
        Ok(vec!["--paths".to_owned(), file.display().to_string()])
    }

    fn paths(&self, scene: &Scene) -> anyhow::Result<PathBuf> {
        let file = self.place.directory.join(format!("paths-{}", scene.routes));
        std::fs::write(&file, scene.paths().join("\n")).context("writing paths")?;
        Ok(file)
    }

    /// The running proxy of a column in a scene, started if need be.
    fn start(&mut self, column: &str, scene: Scene) -> anyhow::Result<usize> {
        if let Some(at) = self.running.iter().position(|(of, with, _)| of == column && *with == scene) {
            return Ok(at);
        }
        let program = self.programs.iter().find(|program| program.name == column).context("a column's program")?;
        // Ports of those that ended are not used again.
        self.started += 1;
        let running =
            self.place.start((program, &scene), self.started).with_context(|| format!("starting {column}"))?;
        self.running.push((column.to_owned(), scene, running));
        Ok(self.running.len() - 1)
    }

    /// Looks where the cycles go.
    fn profile(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(out) = &self.asked.out else { return Ok(()) };
        let columns: Vec<String> =
            self.programs.iter().map(|one| one.name.clone()).filter(|column| column != PEER).collect();
        for column in columns {
            let Some(scene) = measures::scenes(name, &column).pop() else { continue };
            let more = self.more(Some(&scene))?;
            let (to, proxies) = self.target(&column, Some(scene))?;
            let (program, client) = (self.place.load, self.place.netns.clone());
            let stage = Stage { program, client, server: &mut self.server, to, proxies, more: &more };
            let folded = On::Load.run(|| stage.profile(&measures::full(), Duration::from_secs(3)))?;
            let build = self.results.header.build_of(&column).to_owned();
            output::draw(
                out,
                &output::Flame { measure: &format!("l7.{name}"), column: &column, build: &build },
                &folded,
            )?;
            if column == OURS {
                let shares = profile::shares(&folded);
                self.results.profiles.push(crate::results::Profile { measure: name.to_owned(), shares });
            }
        }
        Ok(())
    }
}

fn take(name: &str, column: &str, sample: Sample, found: &mut Results) {
    sample.numbers.iter().for_each(|number| found.measures.add(name, column, number));
    let doubt = sample.doubt.map(|text| Note { measure: name.to_owned(), column: column.to_owned(), text });
    found.doubts.extend(doubt);
}
