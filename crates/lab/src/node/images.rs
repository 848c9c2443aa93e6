//! Which local program an image's name stands for. Pure, but for the search on `PATH`.
//!
//! In: an image name and the table of the lab. Out: a program with its fixed arguments and what it brings along.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The images of a lab; keys are names without registry and tag.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Images {
    /// The known ones.
    pub known: BTreeMap<String, Image>,
}

/// One image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Image {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Files it carries: where they appear, and where they are.
    pub carries: Vec<(PathBuf, PathBuf)>,
}

/// A container's program before its arguments' variables are expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where things it carries appear, and where they are.
    pub carries: Vec<(PathBuf, PathBuf)>,
    /// The image's tag, which the offered servers report as their version.
    pub tag: String,
}

/// An image that stands for nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "image {0:?} stands for no program of this lab: use one of {1}, the name of a program on PATH, or give a command"
)]
pub(super) struct UnknownImage(String, String);

impl Images {
    /// What `image` with the pod's `command` and `args` runs.
    pub(super) fn program(&self, image: &str, command: &[String], args: &[String]) -> Result<Program, UnknownImage> {
        let (name, tag) = split(image);
        let base = name.rsplit('/').next().unwrap_or(name);
        // With and without the organisation, so that `lateen/echo`, `echo` and `docker.io/lateen/echo` are one.
        let known = self.known.get(base);
        let entrypoint = match (command, known) {
            ([_, ..], _) => command.to_vec(),
            ([], Some(image)) => image.entrypoint.clone(),
            ([], None) => vec![on_path(base).ok_or_else(|| self.unknown(image))?],
        };
        let carries = known.map(|image| image.carries.clone()).unwrap_or_default();
        let command = entrypoint.into_iter().chain(args.iter().cloned()).collect();
        Ok(Program { command, carries, tag: tag.to_owned() })
    }

    fn unknown(&self, image: &str) -> UnknownImage {
        UnknownImage(image.to_owned(), self.known.keys().cloned().collect::<Vec<_>>().join(", "))
    }
}

/// Name and tag; a port of the registry is no tag, and a digest is dropped.
fn split(image: &str) -> (&str, &str) {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

fn on_path(name: &str) -> Option<String> {
    let found = super::PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    found.map(|path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(image: &str, command: &[&str], args: &[&str]) -> Result<(Vec<String>, String), String> {
        let echo = Image { entrypoint: vec!["/bin/lateen-echo".into()], carries: Vec::new() };
        let images = Images { known: BTreeMap::from([("echo".to_owned(), echo)]) };
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let program = images.program(image, &own(command), &own(args)).map_err(|error| error.to_string())?;
        Ok((program.command, program.tag))
    }

    #[test]
    fn images_are_names_of_programs() {
        let echo = |tag: &str| Ok((vec!["/bin/lateen-echo".to_owned()], tag.to_owned()));
        assert_eq!(check("echo", &[], &[]), echo("latest"));
        assert_eq!(check("lateen/echo:v2", &[], &[]), echo("v2"));
        assert_eq!(check("localhost:5000/lateen/echo@sha256:00", &[], &[]), echo("latest"));
        assert_eq!(check("sleep", &[], &["5"]).expect("on PATH").0[1], "5");
        assert_eq!(check("any/thing:1", &["/x"], &["y"]).expect("a command").0, ["/x", "y"]);
        assert!(check("any/thing:1", &[], &["y"]).expect_err("unknown").contains("echo"));
    }
}
