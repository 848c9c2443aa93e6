//! The verbs of `lateen`, one file each.
//!
//! In: argv. Out: text on standard output, an exit code (0 done, 1 failed, 64 not understood).
//! Absent on purpose: any program of the mesh; only shared crates are linked.

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

mod cni;
mod demo;
mod lab;
mod output;
mod table;
mod validate;
mod waypoint;
mod ztunnel_config;

/// Lateen: an ambient service mesh.
#[derive(Debug, Parser)]
#[command(name = "lateen", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A whole cluster on this machine, without containers
    #[command(subcommand)]
    Lab(lab::Lab),
    /// What ztunnels know: workloads, services, policies, certificates, connections
    #[command(subcommand, visible_alias = "zc")]
    ZtunnelConfig(ztunnel_config::ZtunnelConfig),
    /// Make, find, watch and remove waypoints
    Waypoint(waypoint::Waypoint),
    /// What the node agents say of the pods they enrolled
    #[command(subcommand)]
    Cni(cni::Cni),
    /// Whether manifests say what can work; the same words as the webhook
    Validate(validate::Validate),
    /// Show the mesh's main job on a lab, step by step; ends by itself
    Demo,
    /// Print the version
    Version {
        /// How to print
        #[arg(short, long, value_enum, default_value = "table")]
        output: output::Output,
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
        Verb::Lab(verb) => lab::run(verb),
        Verb::ZtunnelConfig(verb) => ztunnel_config::run(&verb),
        Verb::Waypoint(verb) => waypoint::run(&verb),
        Verb::Cni(verb) => cni::run(&verb),
        Verb::Validate(verb) => validate::run(&verb),
        Verb::Demo => demo::run(),
        Verb::Version { output } => version(output),
    };
    done.unwrap_or_else(|error| {
        if error.is::<output::Unread>() {
            return ExitCode::SUCCESS;
        }
        // If nobody listens there either, the exit code says enough.
        drop(writeln!(std::io::stderr(), "lateen: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Our own version; those of running programs are in their dumps.
fn version(output: output::Output) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match output {
        output::Output::Table => output::line(format_args!("lateen {version}"))?,
        output::Output::Json | output::Output::Yaml => output.print(&serde_json::json!({ "lateen": version }))?,
    }
    Ok(ExitCode::SUCCESS)
}
