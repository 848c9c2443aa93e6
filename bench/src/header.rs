//! What ran, and on what: without it no number means anything.
//!
//! In: what was asked for, the machine. Out: a [`Header`]. Absent on purpose: paths of this machine.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::Path,
    process::Command,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::config::Program;

/// Longer words of programs about themselves are cut.
const VERSION_MAX: usize = 160;

/// Above the numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// As typed, without directories.
    pub command: String,
    /// When the run began.
    pub date: String,
    /// The state of the sources.
    pub commit: String,
    /// Measurements of each ordinary number.
    pub rounds: usize,
    /// How long an ordinary one took.
    pub seconds: f64,
    /// The kernel.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// How many.
    pub cores: usize,
    /// What was measured, by column.
    pub programs: BTreeMap<String, Subject>,
}

/// A measured program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// What it says of itself.
    pub version: String,
    /// The directory it came from by its last name, which cargo calls after the profile.
    pub build: String,
    /// Tells it from every other.
    pub digest: String,
}

impl Header {
    /// Of this machine, now.
    pub fn now(programs: &[Program], rounds: usize, seconds: f64) -> anyhow::Result<Self> {
        let subjects = programs.iter().map(|program| Ok((program.name.clone(), Subject::of(&program.path)?)));
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            command: command(std::env::args()),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: commit(),
            rounds,
            seconds,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cpu: cpu(&cpuinfo),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            programs: subjects.collect::<anyhow::Result<_>>()?,
        })
    }

    /// How a column's program was built.
    pub fn build_of(&self, column: &str) -> &str {
        self.programs.get(column).map_or("unknown", |subject| &subject.build)
    }

    /// Whether numbers of two runs may stand in one table: the same programs, measured the same way, on the same machine.
    pub fn is_like(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.programs.clone(), it.rounds, it.kernel.clone(), it.cpu.clone(), it.cores);
        of(self) == of(other) && self.seconds == other.seconds
    }
}

impl Subject {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let build = path.parent().and_then(Path::file_name).unwrap_or_default();
        Ok(Self {
            version: version(path),
            build: build.to_string_lossy().into_owned(),
            digest: format!("{:016x}", hasher.finish()),
        })
    }
}

/// What a program says of itself, when asked in either way.
fn version(path: &Path) -> String {
    let ask = |word: &str| said(Command::new("timeout").args(["-k", "1", "5"]).arg(path).arg(word));
    let by_verb = ask("version");
    // Envoy knows the flag only, and says where it lies.
    let said = if by_verb.is_empty() || by_verb == "unknown" { ask("--version") } else { by_verb };
    said.rsplit("  version: ").next().map_or_else(|| said.clone(), str::to_owned)
}

/// The first line of what a command prints.
fn said(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").replace(['`', '|'], "");
    line.chars().take(VERSION_MAX).collect()
}

fn commit() -> String {
    let commit = said(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]));
    if commit.is_empty() { "unknown".to_owned() } else { commit }
}

/// argv, with paths cut to their ends.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let one = |word: String| {
        // NAME=PATH is one word.
        let (name, path) = word.split_once('=').map_or((None, word.as_str()), |(name, path)| (Some(name), path));
        let end = if path.starts_with('/') { path.rsplit('/').next().unwrap_or(path) } else { path };
        name.map_or_else(|| end.to_owned(), |name| format!("{name}={end}"))
    };
    let mut words: Vec<String> = arguments.skip(1).map(one).collect();
    words.insert(0, "lateen-bench".to_owned());
    words.join(" ")
}

fn cpu(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_hold_no_directories_of_a_machine() {
        let words = ["x", "run", "--ours", "target/release/ztunnel", "--peer", "/opt/peer/zt", "--subject", "b=/tmp/b"];
        let shown = command(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(shown, "lateen-bench run --ours target/release/ztunnel --peer zt --subject b=b");
    }

    #[test]
    fn the_processor_is_named() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: Fast CPU\n"), "Fast CPU");
        assert_eq!(cpu(""), "unknown");
    }

    #[test]
    fn runs_of_other_programs_are_not_alike() {
        let header = |digest: &str| Header {
            programs: [("ours".to_owned(), Subject { digest: digest.to_owned(), ..Subject::default() })].into(),
            ..Header::default()
        };
        assert!(header("1").is_like(&header("1")) && !header("1").is_like(&header("2")));
    }
}
