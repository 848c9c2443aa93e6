//! Where results go, and where a resumed run finds them.
//!
//! In: results. Out: files, each written whole or not at all.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    config::{OURS, Run},
    flame,
    header::Header,
    markdown, plot,
    results::{Results, replace},
};

const RESULTS: &str = "results.json";
const REPORT: &str = "RESULTS.md";
const PLOTS: &str = "plots";
const FLAMES: &str = "flames";

/// The results to go on with: those of the run that is resumed, or none under a new header.
pub(crate) fn begun(asked: &Run, header: Header) -> anyhow::Result<Results> {
    let kept = asked.out.as_ref().filter(|_| asked.resume).map(|out| out.join(RESULTS));
    let Some(file) = kept.filter(|file| file.exists()) else {
        return Ok(Results { header, ..Results::default() });
    };
    let results = Results::read(&file)?;
    if !results.header.is_like(&header) {
        bail!(
            "{} is of other programs, another machine, or other rounds and seconds; run without --resume",
            file.display()
        );
    }
    println!("going on: {} measures are there already", results.done.len());
    Ok(results)
}

/// Writes everything asked for.
pub(crate) fn keep(asked: &Run, results: &Results) -> anyhow::Result<()> {
    if let Some(file) = &asked.json {
        results.write(file)?;
    }
    let Some(out) = &asked.out else { return Ok(()) };
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    results.write(&out.join(RESULTS))?;
    report(out, results)
}

/// What a flame graph is of.
pub(crate) struct Flame<'f> {
    /// The load.
    pub measure: &'f str,
    /// Whose cycles.
    pub column: &'f str,
    /// How that program was built.
    pub build: &'f str,
}

impl Flame<'_> {
    /// Ours is called by the measure alone, so that a page can show it whichever run has drawn it last.
    fn file(&self) -> String {
        match self.column {
            OURS => format!("{}.svg", self.measure),
            other => format!("{}.{other}.svg", self.measure),
        }
    }
}

/// Draws a measure's flame graph.
pub(crate) fn draw(out: &Path, of: &Flame<'_>, folded: &str) -> anyhow::Result<()> {
    let out = out.join(FLAMES);
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let title = format!("{}: {} (profile {})", of.measure, of.column, of.build);
    replace(&out.join(of.file()), &flame::draw(folded, &title)?)
}

/// `RESULTS.md` and its plots, from what is in `out` already.
pub(crate) fn again(out: &Path) -> anyhow::Result<()> {
    report(out, &Results::read(&out.join(RESULTS))?)
}

fn report(out: &Path, results: &Results) -> anyhow::Result<()> {
    let (pictures, plots) = (plot::all(results), out.join(PLOTS));
    fs::create_dir_all(&plots).with_context(|| format!("making {}", plots.display()))?;
    for picture in &pictures {
        replace(&plots.join(&picture.file), &picture.svg)?;
    }
    replace(&out.join(REPORT), &markdown::report(results, &pictures))
}

/// Writes the README's section from results.
pub(crate) fn readme(readme: &Path, results: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(readme).with_context(|| format!("reading {}", readme.display()))?;
    replace(readme, &markdown::with_section(&text, Some(&Results::read(results)?))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the README claims is what was measured.
    #[test]
    fn the_readme_says_what_the_results_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let readme = fs::read_to_string(root.join("README.md")).expect("the README");
        let file = root.join("bench").join(RESULTS);
        let results = file.exists().then(|| Results::read(&file).expect("results"));
        let written = markdown::with_section(&readme, results.as_ref()).expect("its section");
        assert_eq!(readme, written, "run `lateen-bench readme`");
    }

    #[test]
    fn the_report_says_what_the_results_say() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        if !here.join(RESULTS).exists() {
            assert!(!here.join(REPORT).exists(), "a report of no results");
            return;
        }
        let results = Results::read(&here.join(RESULTS)).expect("results");
        let report = fs::read_to_string(here.join(REPORT)).expect("the report");
        assert_eq!(report, markdown::report(&results, &plot::all(&results)), "run `lateen-bench report`");
    }
}
