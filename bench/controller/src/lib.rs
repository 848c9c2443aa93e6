//! The controller under a crowd: many nodes, pods and services, pods that come and go, a proxy on every node.
//!
//! In: how many of each, which programs. Out: a table of memory, CPU, times and deliveries.
//!
//! ```text
//! this process ──► lateen-bench-controller api   the embedded API server, filled once with the crowd
//!   │   ▲ └──────► the controller, alone in its process; one program after the other, ours last
//!   │   └── proxies: a delta ADS stream each, with a token bound to a pod of their node
//!   └────── churn: pods that leave and pods that come, at a rate
//! ```
//! A proxy here counts what it is sent and acknowledges at once; it keeps nothing. Absent on purpose: judgement, and the
//! proxies' own cost (`lateen-bench` has it).

// A measuring program talks on standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

mod api;
mod churn;
mod config;
mod crowd;
mod deliveries;
mod fill;
mod measure;
mod message;
mod output;
mod proc;
mod program;
mod proxy;
mod rest;
pub mod results;
mod run;
mod table;

#[derive(Debug, Parser)]
#[command(name = "lateen-bench-controller", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure controllers, one after the other, under one crowd
    Run(config::Run),
    /// Serve an empty cluster's API until standard input ends (`run` starts this)
    Api {
        /// Where to write the kubeconfig
        kubeconfig: PathBuf,
    },
    /// Write the README's table again
    Readme {
        /// The file with the table
        #[arg(default_value = "README.md")]
        readme: PathBuf,
        /// What the table says
        #[arg(default_value = "bench/controller.json")]
        results: PathBuf,
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
    // kube's TLS takes the process's provider.
    let _already_set = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = match arguments.verb {
        Verb::Run(asked) => run::run(&asked),
        Verb::Api { kubeconfig } => api::serve(&kubeconfig),
        Verb::Readme { readme, results } => output::readme(&readme, &results),
    };
    done.map_or_else(
        |error| {
            eprintln!("lateen-bench-controller: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
