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

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

mod apart;
mod bed;
mod churn;
mod config;
mod flame;
mod header;
mod item;
mod l7;
mod load;
mod markdown;
mod measure;
mod memory;
mod outer;
mod output;
mod plot;
mod pods;
mod proc;
mod profile;
mod results;
mod run;
mod table;
mod target;
mod visit;

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
    /// Whether our ztunnel's memory grows while connections, pods and policies come and go
    Churn(config::Churn),
    /// Measure our proxy of requests beside Envoy
    L7(config::L7),
    /// Write L7.md again from l7.json
    L7Report {
        /// Where they are
        #[arg(default_value = "bench")]
        out: PathBuf,
    },
    /// List what can be measured
    List,
    /// Write RESULTS.md and plots/ again from results.json
    Report {
        /// Where they are
        #[arg(default_value = "bench")]
        out: PathBuf,
    },
    /// Write the README's table of results again
    Readme {
        /// The file with the table
        #[arg(default_value = "README.md")]
        readme: PathBuf,
        /// What the table says
        #[arg(default_value = "bench/results.json")]
        results: PathBuf,
    },
    /// Draw folded stacks as a flame graph, an SVG on standard output
    Flame {
        /// The stacks; - reads standard input
        folded: PathBuf,
        /// What stands above it
        #[arg(long, default_value = "")]
        title: String,
    },
}

/// How long a run may take past its bound: labs that end, a measure that hangs.
const AFTER: Duration = Duration::from_secs(120);

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
        Verb::Run(asked) => outer::guarded(asked.bound() + AFTER, || run::run(&asked)),
        Verb::Churn(asked) => outer::guarded(asked.length() + AFTER, || churn::run(&asked)),
        Verb::L7(asked) => outer::guarded(asked.length() + AFTER, || l7::run(&asked)),
        Verb::L7Report { out } => l7::again(&out).map(|()| ExitCode::SUCCESS),
        Verb::List => {
            item::all().iter().for_each(|item| println!("{}", item.name()));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Report { out } => output::again(&out).map(|()| ExitCode::SUCCESS),
        Verb::Readme { readme, results } => output::readme(&readme, &results).map(|()| ExitCode::SUCCESS),
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
