//! `lateen lab`: start, find, enter and end a lab.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod up;

/// The verbs of `lateen lab`.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Start a lab and wait until it is ready
    Up(up::Up),
    /// End a lab
    Down(Named),
}

/// Which lab.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The lab's name
    #[arg(long, default_value = "default")]
    pub name: String,
}

/// Does what the verb says.
pub(crate) fn run(verb: Lab) -> anyhow::Result<ExitCode> {
    match verb {
        Lab::Up(up) => up::run(&up),
        Lab::Down(lab) => {
            let was = lateen_lab::world::up::down(&lab.name)?;
            println!("{}", if was { "the lab has ended" } else { "there was no such lab" });
            Ok(ExitCode::SUCCESS)
        }
    }
}
