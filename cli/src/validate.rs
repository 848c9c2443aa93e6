//! `lateen validate`: whether files say what can work, in the words the webhook uses.
//!
//! In: YAML or JSON with any number of documents, of files, folders or standard input. Out: findings, and a failure if
//! one of them is an error. Absent on purpose: the cluster; nothing is asked of it.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use lateen_cluster::validate::{Finding, Level, review};
use serde_json::{Value, json};

use crate::output::{self, Output, Unread};

/// The largest file read.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// A file, a folder (its .yaml, .yml and .json files, and those of folders in it) or - for standard input
    #[arg(short, long = "filename", required = true)]
    files: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(arguments: &Validate) -> anyhow::Result<ExitCode> {
    let mut looked_at = Vec::new();
    for given in &arguments.files {
        for path in files(given)? {
            looked_at.extend(objects(&path)?.into_iter().map(|object| Looked::at(&path, &object)));
        }
    }
    let failed = looked_at.iter().flat_map(|one| &one.findings).any(|one| one.level == Level::Error);
    let printed = match arguments.output {
        Output::Table => print(&looked_at),
        Output::Json | Output::Yaml => {
            arguments.output.print(&Value::Array(looked_at.iter().flat_map(Looked::views).collect()))
        }
    };
    match printed {
        // Nobody reads on, but somebody may wait for the exit code.
        Err(error) if error.is::<Unread>() => {}
        printed => printed?,
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// An object and what was found.
struct Looked {
    file: String,
    /// `AuthorizationPolicy shop/p`.
    object: String,
    findings: Vec<Finding>,
}

impl Looked {
    fn at(path: &Path, object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace = match text("/metadata/namespace") {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        let object_name = format!("{} {namespace}{}", text("/kind"), text("/metadata/name"));
        Self { file: path.display().to_string(), object: object_name, findings: review(object) }
    }

    fn views(&self) -> impl Iterator<Item = Value> {
        self.findings.iter().map(|one| {
            json!({
                "file": self.file, "object": self.object, "level": one.level.as_str(),
                "field": one.field, "reason": one.reason, "mend": one.mend,
            })
        })
    }
}

fn print(looked_at: &[Looked]) -> anyhow::Result<()> {
    for one in looked_at {
        for finding in &one.findings {
            let level = finding.level.as_str();
            output::line(format_args!("{}: {}: {level}: {finding}", one.file, one.object))?;
        }
    }
    let count = |level: Level| looked_at.iter().flat_map(|one| &one.findings).filter(|one| one.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    output::line(format_args!("{} objects, {errors} errors, {warnings} warnings", looked_at.len()))
}

/// The files below `given`, in order.
fn files(given: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if given == Path::new("-") || !given.is_dir() {
        return Ok(vec![given.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![given.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if kind.is_dir() {
                folders.push(path);
            } else if matches!(extension, "yaml" | "yml" | "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The objects of a file; lists are taken apart.
fn objects(path: &Path) -> anyhow::Result<Vec<Value>> {
    let mut text = String::new();
    let reading = if path == Path::new("-") {
        std::io::stdin().take(BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
    };
    reading.with_context(|| format!("reading {}", path.display()))?;
    // As kubectl reads it: y and n are text.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents = serde_saphyr::from_multiple_with_options::<Value>(&text, options)
        .with_context(|| format!("{}", path.display()))?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match document.get("items").and_then(Value::as_array) {
            Some(items) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                objects.extend(items.iter().cloned());
            }
            Some(_) | None => objects.push(document),
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, output: Output) -> anyhow::Result<ExitCode> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("deeper")).expect("writable");
        std::fs::write(folder.path().join("deeper/some.yaml"), text).expect("writable");
        std::fs::write(folder.path().join("other.txt"), "}").expect("writable");
        run(&Validate { files: vec![folder.path().to_owned()], output })
    }

    #[test]
    fn documents_and_lists_are_looked_at_and_only_errors_fail() {
        let bad =
            "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p}, spec: {action: DENY}}";
        let good = "{apiVersion: v1, kind: Service, metadata: {name: s, labels: {istio.io/dataplane-mode: x}}}";
        let list = format!("kind: List\napiVersion: v1\nitems:\n- {bad}\n");
        for output in [Output::Table, Output::Json, Output::Yaml] {
            assert_eq!(checked(&format!("{good}\n---\n{bad}\n"), output).expect("readable"), ExitCode::FAILURE);
            assert_eq!(checked(&list, output).expect("readable"), ExitCode::FAILURE);
            assert_eq!(checked(&format!("---\n---\n{good}\n"), output).expect("readable"), ExitCode::SUCCESS);
        }
        let text = "{apiVersion: v1, kind: Service, metadata: {name: s, labels: {istio.io/use-waypoint: y}}}";
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("s.json");
        std::fs::write(&file, text).expect("writable");
        assert_eq!(objects(&file).expect("readable")[0]["metadata"]["labels"]["istio.io/use-waypoint"], "y");
        assert!(checked("{", Output::Table).is_err());
    }
}
