//! What the bench is asked for.
//!
//! In: argv and environment. Out: checked values.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;

/// What is measured, and what with.
#[derive(Debug, Args)]
struct Subjects {
    /// Our program; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    ours: Option<PathBuf>,
    /// Another's to measure beside ours: a ztunnel (also PEER_ZTUNNEL), or for l7 an Envoy (also PEER_ENVOY)
    #[arg(long, value_name = "PATH")]
    peer: Option<PathBuf>,
    /// Further builds of ours, as for before and after
    #[arg(long = "subject", value_name = "NAME=PATH")]
    further: Vec<String>,
    /// The load program; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    load: Option<PathBuf>,
}

impl Subjects {
    /// Ours, whose program has this `name`, its other builds, the peer, which a `variable` may name.
    fn programs(&self, name: &str, variable: &str) -> anyhow::Result<Vec<Program>> {
        let mut all = vec![program(OURS, &beside(self.ours.as_deref(), name)?)?];
        for subject in &self.further {
            let (name, path) =
                subject.split_once('=').with_context(|| format!("--subject {subject}: say NAME=PATH"))?;
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !plain || [NONE, PASSTHROUGH, PEER, OURS].contains(&name) {
                bail!("--subject {subject}: a name is a new word of a-z and 0-9");
            }
            all.push(program(name, Path::new(path))?);
        }
        if let Some(path) = self.peer.clone().or_else(|| named(variable).map(PathBuf::from)) {
            all.push(program(PEER, &path)?);
        }
        Ok(all)
    }

    /// The load program.
    fn load(&self) -> anyhow::Result<PathBuf> {
        whole(&beside(self.load.as_deref(), "lateen-load")?)
    }
}

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    subjects: Subjects,
    /// Only measures whose name contains one of these words (see `lateen-bench list`)
    #[arg(long, value_delimiter = ',', value_name = "WORD")]
    pub only: Vec<String>,
    /// Fewer and shorter measures, about two minutes of them
    #[arg(long)]
    pub quick: bool,
    /// How often each measure is taken; medians are reported
    #[arg(long, value_name = "COUNT")]
    pub rounds: Option<usize>,
    /// How long one measure is taken
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,
    /// Neither no mesh nor passthrough, as for before and after
    #[arg(long)]
    pub subjects_only: bool,
    /// Where to write results.json, RESULTS.md and plots/, after every measure
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
    /// Go on where the run that wrote --out ended: of the same programs and with the same rounds and seconds
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Where to write the results, one JSON object a measure
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// After this time no further measure is begun; what was not measured says so
    #[arg(long, value_name = "MINUTES")]
    pub minutes: Option<u32>,
    /// Record where cycles of ours and of --subject go, for each load that misses a target and for those that
    /// docs/performance shows (needs perf); flame graphs go to --out
    #[arg(long)]
    pub profile: bool,
    /// The program that tells a ztunnel a big mesh (`worlds`); by default the one beside this program
    #[arg(long, value_name = "PATH")]
    worlds: Option<PathBuf>,
}

/// Whether memory grows.
#[derive(Debug, Args)]
pub(crate) struct Churn {
    /// Our ztunnel; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    ours: Option<PathBuf>,
    /// The load program; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    load: Option<PathBuf>,
    /// How long
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    minutes: u32,
}

impl Churn {
    /// The program.
    pub fn program(&self) -> anyhow::Result<Program> {
        program(OURS, &beside(self.ours.as_deref(), "ztunnel")?)
    }

    /// The load program.
    pub fn load(&self) -> anyhow::Result<PathBuf> {
        whole(&beside(self.load.as_deref(), "lateen-load")?)
    }

    /// How long everything comes and goes.
    pub fn length(&self) -> Duration {
        // A little more, so that the last minute is looked at too.
        Duration::from_secs(60) * self.minutes.clamp(1, 600) + Duration::from_secs(5)
    }
}

/// One proxy of requests beside Envoy.
#[derive(Debug, Args)]
pub(crate) struct L7 {
    #[command(flatten)]
    subjects: Subjects,
    /// Only measures whose name contains one of these words
    #[arg(long, value_delimiter = ',', value_name = "WORD")]
    pub only: Vec<String>,
    /// How often each measure is taken; medians are reported
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub rounds: usize,
    /// How long one measure is taken
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub seconds: f64,
    /// Without a column of no proxy
    #[arg(long)]
    pub subjects_only: bool,
    /// Where to write l7.json and L7.md
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
    /// Record where cycles go (needs perf); flame graphs go to --out
    #[arg(long)]
    pub profile: bool,
    /// Where programs write what they log
    #[arg(long, value_name = "DIRECTORY")]
    pub logs: Option<PathBuf>,
}

impl L7 {
    /// The programs to measure, ours first.
    pub fn programs(&self) -> anyhow::Result<Vec<Program>> {
        self.subjects.programs("waypoint", "PEER_ENVOY")
    }

    /// The load program.
    pub fn load(&self) -> anyhow::Result<PathBuf> {
        self.subjects.load()
    }

    /// Whether a measure is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    /// How long all of it may take.
    pub fn length(&self) -> Duration {
        // Six measures of loads with some windows each, of some programs, and as long again around them.
        let windows = (self.subjects.further.len() + 3) * self.rounds.clamp(1, 1000) * 8;
        Duration::from_secs_f64(self.seconds.clamp(0.1, 600.0) * windows as f64 * 2.0 + 120.0)
    }
}

/// A program to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// What tables call it.
    pub name: String,
    /// The program.
    pub path: PathBuf,
}

/// The column without a mesh.
pub(crate) const NONE: &str = "none";
/// The column of a meshed client and a server outside the mesh.
pub(crate) const PASSTHROUGH: &str = "passthrough";
/// The name of our own ztunnel in tables.
pub(crate) const OURS: &str = "ours";
/// The name of the peer in tables.
pub(crate) const PEER: &str = "peer";

impl Run {
    /// The programs to measure, ours first.
    pub fn programs(&self) -> anyhow::Result<Vec<Program>> {
        self.subjects.programs("ztunnel", "PEER_ZTUNNEL")
    }

    /// The program that makes big meshes.
    pub fn worlds(&self) -> anyhow::Result<PathBuf> {
        whole(&beside(self.worlds.as_deref(), "worlds")?)
    }

    /// How long the run may begin measures.
    pub fn bound(&self) -> Duration {
        let minutes = self.minutes.unwrap_or(if self.quick { 5 } else { 28 });
        Duration::from_secs(60) * minutes.clamp(1, 600)
    }

    /// The load program.
    pub fn load(&self) -> anyhow::Result<PathBuf> {
        self.subjects.load()
    }
}

fn beside(given: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("looking for our own program")?;
    Ok(given.map_or_else(|| own.with_file_name(name), Path::to_owned))
}

fn program(name: &str, path: &Path) -> anyhow::Result<Program> {
    Ok(Program { name: name.to_owned(), path: whole(path)? })
}

/// The full path: other processes have other working directories.
fn whole(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("looking for the program {}", path.display()))
}

/// An environment variable that is set and not empty.
#[allow(clippy::disallowed_methods)]
fn named(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
