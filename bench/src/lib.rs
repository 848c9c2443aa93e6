//! The bench: labs side by side, load in their pods, what each proxy spent on it.
//!
//! In: programs to measure, and what to measure. Out: tables of medians and ratios.
//!
//! ```text
//! lateen-bench (watches signals) ─► lateen-bench (worker) ─┬─► lab "ours":  2 nodes, our ztunnel
//!                                                          ├─► lab "peer":  2 nodes, the peer's ztunnel
//!                                                          └─► lateen-load in pods' networks, one pair at a time
//! ```
//! All labs are up at once and used in turn, so that a machine that drifts drifts under all of them. Absent on purpose:
//! judgement. Numbers are compared with the targets where results are printed, never in tests.

// A measuring program talks on standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bed;
mod config;
mod flame;
mod load;
mod measure;
mod memory;
mod outer;
mod pods;
mod proc;
mod run;
mod table;

#[derive(Debug, Parser)]
#[command(name = "lateen-bench", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure programs side by side
    Run(config::Run),
    /// List what can be measured
    List,
    /// Draw folded stacks as a flame graph, an SVG on standard output
    Flame {
        /// The stacks; - reads standard input
        folded: std::path::PathBuf,
        /// What stands above it
        #[arg(long, default_value = "")]
        title: String,
    },
}

/// Parses argv and does what it says.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let done = match arguments.verb {
        Verb::Run(asked) => outer::guarded(|| run::run(&asked)),
        Verb::List => {
            measure::all().iter().for_each(|measure| println!("{}", measure.name()));
            println!("{}", memory::HELD);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Flame { folded, title } => flame::draw_file(&folded, &title).map(|svg| {
            print!("{svg}");
            ExitCode::SUCCESS
        }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("lateen-bench: {error:#}");
        ExitCode::FAILURE
    })
}
