//! The list of invalid inputs as files for `kubectl`, and whether what it said of them is what the list expects.
//!
//! Read by its path by the suites that ask a real API server, beside `cases.rs`.

use std::path::{Path, PathBuf};

use super::cases::Case;

/// Kinds that the API server asks about.
pub fn is_asked_about(case: &Case) -> bool {
    case.object()["apiVersion"].as_str().is_some_and(|version| version.contains('/'))
}

fn errors(case: &Case) -> Vec<&str> {
    case.finds.iter().filter_map(|finding| finding.strip_prefix("error ")).collect()
}

fn warnings(case: &Case) -> impl Iterator<Item = &str> {
    case.finds.iter().filter_map(|finding| finding.strip_prefix("warning "))
}

/// The cases as files, each with a name of its own.
pub struct Rows {
    folder: PathBuf,
    all: Vec<Case>,
}

impl Rows {
    /// Writes `cases` into `folder`.
    pub fn write(folder: &Path, cases: impl Iterator<Item = Case>) -> Self {
        let rows = Self { folder: folder.to_owned(), all: cases.collect() };
        for (at, case) in rows.all.iter().enumerate() {
            let mut object = case.object();
            if object["metadata"]["name"] == "it" {
                object["metadata"]["name"] = format!("it-{at}").into();
            }
            std::fs::write(rows.path(at, case), object.to_string()).expect("writable");
        }
        rows
    }

    /// What `kubectl apply -f` is to be given.
    pub fn folder(&self) -> &str {
        self.folder.to_str().expect("text")
    }

    fn path(&self, at: usize, case: &Case) -> PathBuf {
        self.folder.join(format!("{at:03}-{}.json", case.row))
    }

    /// The rows of which kubectl did not say what the list expects, for people.
    pub fn wrong(&self, said: &str, webhook: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (at, case) in self.all.iter().enumerate() {
            let path = self.path(at, case);
            if let Err(found) = judged(case, &format!("{path:?}"), said, webhook) {
                wrong.push(format!("{}: {:#?} {:?}, but {found}", path.display(), case.finds, case.schema));
            }
        }
        wrong
    }
}

/// Whether what kubectl `said` of a file is what the case expects: our words, or those of the schema.
fn judged(case: &Case, path: &str, said: &str, webhook: &str) -> Result<(), String> {
    let errors = errors(case);
    // Several lines, up to what is said of the next file.
    let start = said.find(&format!("error when creating {path}: ")).or_else(|| said.find(&format!("{path}: ")));
    let own = start.map(|start| {
        let rest = &said[start..];
        rest.find("\nError from server").map_or(rest, |end| &rest[..end])
    });
    match (own, &case.schema) {
        (None, None) if errors.is_empty() => {
            let missing = warnings(case).find(|words| !said.contains(words));
            missing.map_or(Ok(()), |words| Err(format!("nobody warned: {words}")))
        }
        (None, Some(words)) if words.is_empty() => Ok(()),
        (None, _) => Err("it was taken".to_owned()),
        (Some(own), Some(words)) if !words.is_empty() && own.contains(words) && !own.contains(webhook) => Ok(()),
        (Some(own), None) if !errors.is_empty() => {
            let framed = format!("{path}: admission webhook {webhook:?} denied the request: {}", errors.join("\n"));
            if own.contains(&framed) { Ok(()) } else { Err(own.to_owned()) }
        }
        (Some(own), _) => Err(own.to_owned()),
    }
}
