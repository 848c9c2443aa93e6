//! A page of `docs/tasks`, followed as a reader follows it.
//!
//! In: a page's `sh` blocks and the `text` blocks below them. Out: each command run on a lab; what it must show was shown.
//! A command with a `text` block is tried until it shows what it should: configuration may be on its way.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use super::{Lab, NAME, built, printed, until};
use crate::deploy::{root, text};

/// One command, and the lines it must show.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    shows: Vec<String>,
}

/// How long one command of a page may take: it may wait for pods.
const COMMAND_SECONDS: &str = "150";

impl Lab {
    /// Follows a page of `docs/tasks` from its beginning to its end.
    pub fn follow(&self, page: &str) {
        let programs = self.reader();
        let steps = steps(&text(&format!("docs/tasks/{page}")));
        assert!(steps.iter().any(|step| !step.shows.is_empty()), "{page} shows nothing");
        for step in steps {
            let run = || self.bash(&programs, &step.command);
            if step.shows.is_empty() {
                run().unwrap_or_else(|error| panic!("{page}: {}\n{error}", step.command));
                continue;
            }
            let mut last = String::new();
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                until("what the page says is shown", || {
                    last = run().unwrap_or_else(|error| error);
                    missing(&step.shows, &last).is_none().then_some(())
                });
            }));
            assert!(seen.is_ok(), "{page}: {}\nshows\n{last}\nand not {:?}", step.command, missing(&step.shows, &last));
        }
    }

    /// What a reader's shell prints, or its complaint.
    pub fn shell(&self, command: &str) -> Result<String, String> {
        self.bash(&self.reader(), command)
    }

    /// What a shell prints that has our `lateen`, and a `kubectl` that reaches into pods of a lab.
    fn bash(&self, programs: &Path, command: &str) -> Result<String, String> {
        let mut bash = Command::new("timeout");
        bash.args(["-k", "1", COMMAND_SECONDS, "bash", "-euo", "pipefail", "-c", command]).current_dir(root());
        let state = self.dir.path().join("state");
        bash.env("KUBECONFIG", state.join(NAME).join("kubeconfig")).env("LATEEN_LAB_STATE", &state);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = [programs.to_owned(), built().to_owned()].into_iter().chain(std::env::split_paths(&path));
        bash.env("PATH", std::env::join_paths(all).expect("a path")).stdin(Stdio::null());
        printed(bash.output().expect("bash is installed"))
    }

    /// A directory with the lab's `kubectl`.
    fn reader(&self) -> PathBuf {
        static WRITES: Mutex<()> = Mutex::new(());
        // A program that is being written cannot be run, so who comes second leaves it as it is.
        let _alone = WRITES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let directory = self.dir.path().join("reader");
        let program = directory.join("kubectl");
        if !program.exists() {
            std::fs::create_dir_all(&directory).expect("made");
            std::fs::write(&program, KUBECTL.replace("@NAME@", NAME)).expect("written");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
        }
        directory
    }
}

/// The lab's API carries no exec; there it goes through `lateen`.
const KUBECTL: &str = r#"#!/usr/bin/env bash
set -euo pipefail
PATH=${PATH#*:}
[ "${1:-}" = exec ] || exec kubectl "$@"
shift
namespace=default pod=
while (($#)); do
	case $1 in
	-n) namespace=$2 && shift 2 ;;
	--) shift && break ;;
	deploy/*) pod=$(kubectl get pods -n "$namespace" -l "app=${1#deploy/}" -o 'jsonpath={.items[0].metadata.name}') && shift ;;
	*) pod=$1 && shift ;;
	esac
done
exec lateen lab exec --name @NAME@ -n "$namespace" "$pod" -- "$@"
"#;

/// The page's commands, each with what is shown below it.
fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut block): (Vec<Step>, Option<(&str, Vec<&str>)>) = (Vec::new(), None);
    for line in page.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(kind)) => block = Some((kind, Vec::new())),
            (None, None) => {}
            (Some((_, lines)), None) => lines.push(line),
            (Some(_), Some(_)) => match block.take() {
                Some(("sh", lines)) => steps.push(Step { command: lines.join("\n"), shows: Vec::new() }),
                Some(("text", lines)) => {
                    let step = steps.last_mut().expect("a text block stands below a command");
                    step.shows.extend(lines.into_iter().map(str::to_owned));
                }
                other => panic!("a page has blocks of sh and text, not {other:?}"),
            },
        }
    }
    steps
}

/// The first line that is to be shown and is not.
fn missing<'a>(shows: &'a [String], shown: &str) -> Option<&'a str> {
    let is_there = |line: &&String| shown.lines().any(|one| is_shown(line, one));
    shows.iter().find(|line| !is_there(line)).map(String::as_str)
}

/// Word by word; `180±40` is any number within forty of it.
fn is_shown(line: &str, shown: &str) -> bool {
    let (wanted, found): (Vec<&str>, Vec<&str>) =
        (line.split_whitespace().collect(), shown.split_whitespace().collect());
    let same = |(wanted, found): (&&str, &&str)| match wanted.split_once('±') {
        None => wanted == found,
        Some((middle, by)) => match (middle.parse::<i64>(), by.parse::<i64>(), found.parse::<i64>()) {
            (Ok(middle), Ok(by), Ok(found)) => (found - middle).abs() <= by,
            _ => false,
        },
    };
    wanted.len() == found.len() && wanted.iter().zip(&found).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_its_commands_and_what_they_show() {
        let page = "# Title\n\nText.\n\n```sh\none\ntwo\n```\n```text\n10±2 x\n```\n\n```sh\nthree\n```\n";
        let step = |command: &str, shows: &[&str]| Step {
            command: command.to_owned(),
            shows: shows.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(steps(page), [step("one\ntwo", &["10±2 x"]), step("three", &[])]);
    }

    #[test]
    fn numbers_may_differ_by_what_is_said() {
        for (line, shown, expected) in [
            ("10±2 x", "  12 x", true),
            ("10±2 x", "13 x", false),
            ("10±2 x", "ten x", false),
            ("10±2 x", "10 y", false),
            ("a b", "a b c", false),
        ] {
            assert_eq!(is_shown(line, shown), expected, "{line:?} {shown:?}");
        }
    }
}
