//! Where results go: `controller.json`, `CONTROLLER.md`, and the README's section.
//!
//! In: results. Out: files, each written whole or not at all.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;

use crate::{config::Run, results::Results, table};

const RESULTS: &str = "controller.json";
const REPORT: &str = "CONTROLLER.md";
const BEGIN: &str =
    "<!-- bench-controller:begin (written by `lateen-bench-controller readme` from bench/controller.json) -->";
const END: &str = "<!-- bench-controller:end -->";
const NOTHING: &str = "No results are published yet; a run of `make bench-controller` writes them here.";

/// Results without columns, of this machine, now.
pub(crate) fn header(asked: &Run) -> Results {
    let size = asked.size();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Results {
        command: command(std::env::args()),
        date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        commit: commit(),
        machine: format!(
            "{}, {cores} cores, Linux {}",
            model.map_or("unknown", |(_, name)| name.trim()),
            kernel.trim()
        ),
        nodes: size.nodes,
        pods: size.pods,
        services: size.services,
        used: size.used,
        columns: Vec::new(),
    }
}

/// argv, with paths cut to their ends.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let one = |word: String| {
        let (name, path) = word.split_once('=').map_or((None, word.as_str()), |(name, path)| (Some(name), path));
        let end = if path.starts_with('/') { path.rsplit('/').next().unwrap_or(path) } else { path };
        name.map_or_else(|| end.to_owned(), |name| format!("{name}={end}"))
    };
    let mut words: Vec<String> = arguments.skip(1).map(one).collect();
    words.insert(0, "lateen-bench-controller".to_owned());
    words.join(" ")
}

fn commit() -> String {
    let asked = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if said.is_empty() { "unknown".to_owned() } else { said }
}

/// Writes what was asked for.
pub(crate) fn keep(asked: &Run, results: &Results) -> anyhow::Result<()> {
    let Some(out) = &asked.out else { return Ok(()) };
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    replace(&out.join(RESULTS), &format!("{}\n", serde_json::to_string_pretty(results)?))?;
    replace(&out.join(REPORT), &report(results))
}

fn report(results: &Results) -> String {
    let about = "Written by `make bench-controller` (`bench/README.md` says how); the same numbers are in `controller.json`. \
                 What they mean, and what was\nchanged for them: `docs/performance/controller.md`.";
    format!("# The controller under a crowd\n\n{about}\n\n{}", table::whole(results))
}

/// Writes the README's section.
pub(crate) fn readme(readme: &Path, results: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(readme).with_context(|| format!("reading {}", readme.display()))?;
    replace(readme, &with_section(&text, Some(&Results::read(results)?))?)
}

fn with_section(readme: &str, results: Option<&Results>) -> anyhow::Result<String> {
    let begin = readme.find(BEGIN).with_context(|| format!("the README has no line {BEGIN}"))?;
    let end = readme[begin..].find(END).with_context(|| format!("the README has no line {END}"))?;
    let section = results.map_or_else(|| format!("{NOTHING}\n"), table::short);
    Ok(format!("{}{BEGIN}\n{section}{}", &readme[..begin], &readme[begin + end..]))
}

fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let partial = file.with_extension("partial");
    fs::write(&partial, text).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, file).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Option<Results> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(RESULTS);
        file.exists().then(|| Results::read(&file).expect("results"))
    }

    /// What the README claims is what was measured.
    #[test]
    fn the_readme_says_what_the_results_say() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let text = fs::read_to_string(file).expect("the README");
        let written = with_section(&text, published().as_ref()).expect("its section");
        assert_eq!(text, written, "run `lateen-bench-controller readme`");
    }

    #[test]
    fn the_report_says_what_the_results_say() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(REPORT);
        match published() {
            Some(results) => assert_eq!(fs::read_to_string(file).expect("the report"), report(&results)),
            None => assert!(!file.exists(), "a report of no results"),
        }
    }

    #[test]
    fn commands_hold_no_directories_of_a_machine() {
        let words = ["x", "run", "--ours", "target/quick/c", "--peer", "/opt/p/pilot", "--subject", "b=/tmp/b"];
        let shown = command(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(shown, "lateen-bench-controller run --ours target/quick/c --peer pilot --subject b=b");
    }
}
