//! `lateen ztunnel-config`: what a ztunnel knows, as tables.
//!
//! In: one or more configuration dumps (`dump`). Out: rows (`view`), printed as a table, or the raw objects as JSON or YAML.
//! Absent on purpose: talking to the control plane; this is what the data plane itself holds.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

mod connections;
mod dump;
mod view;

use crate::{
    output::{self, Output},
    table::Table,
};

/// The verbs of `lateen ztunnel-config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ZtunnelConfig {
    /// Workloads, their addresses and how they are reached
    #[command(visible_alias = "w")]
    Workload {
        #[command(flatten)]
        source: Source,
        /// Only workloads of this namespace
        #[arg(long)]
        workload_namespace: Option<String>,
        /// Only workloads on this node
        #[arg(long)]
        workload_node: Option<String>,
        /// Only the workload with this address
        #[arg(long)]
        address: Option<String>,
    },
    /// Services, their virtual addresses and endpoints
    #[command(visible_aliases = ["services", "svc", "s"])]
    Service {
        #[command(flatten)]
        source: Source,
        /// Only services of this namespace
        #[arg(long)]
        service_namespace: Option<String>,
    },
    /// Authorization policies
    #[command(visible_aliases = ["pol", "p"])]
    Policy {
        #[command(flatten)]
        source: Source,
        /// Only policies of this namespace
        #[arg(long)]
        policy_namespace: Option<String>,
    },
    /// Certificates ztunnel holds for the workloads of its node
    #[command(visible_aliases = ["certificates", "cert"])]
    Certificate {
        #[command(flatten)]
        source: Source,
    },
    /// Live connections
    #[command(visible_alias = "cons")]
    Connections {
        #[command(flatten)]
        source: Source,
        /// Only connections of workloads of this namespace
        #[arg(long)]
        workload_namespace: Option<String>,
        /// Only one direction
        #[arg(long)]
        direction: Option<Direction>,
        /// Print addresses instead of names
        #[arg(long)]
        raw: bool,
    },
    /// Everything above
    All {
        #[command(flatten)]
        source: Source,
    },
}

/// Where the dump comes from, and how it is shown.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The lab whose ztunnels are asked
    #[arg(long, default_value = "default")]
    name: String,
    /// Only the ztunnel of this node
    #[arg(long)]
    node: Option<String>,
    /// A dump saved earlier (`/config_dump` of a ztunnel) instead of a live one
    #[arg(short, long)]
    file: Option<std::path::PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// As seen from the pod that ztunnel serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// Does what the verb says.
pub(crate) fn run(verb: &ZtunnelConfig) -> anyhow::Result<ExitCode> {
    match verb {
        ZtunnelConfig::Workload { source, workload_namespace, workload_node, address } => show(source, |dump| {
            let keep = view::Keep { namespace: workload_namespace, node: workload_node, address };
            (view::workloads(dump, &keep), view::objects(dump, "workloads", |workload| keep.workload(workload)))
        }),
        ZtunnelConfig::Service { source, service_namespace } => show(source, |dump| {
            let keep = view::in_namespace(service_namespace);
            (view::services(dump, &keep), view::objects(dump, "services", &keep))
        }),
        ZtunnelConfig::Policy { source, policy_namespace } => show(source, |dump| {
            let keep = view::in_namespace(policy_namespace);
            (view::policies(dump, &keep), view::objects(dump, "policies", &keep))
        }),
        ZtunnelConfig::Certificate { source } => {
            show(source, |dump| (view::certificates(dump), view::objects(dump, "certificates", |_| true)))
        }
        ZtunnelConfig::Connections { source, workload_namespace, direction, raw } => show(source, |dump| {
            let wanted = connections::Wanted { namespace: workload_namespace, direction: *direction, raw: *raw };
            (connections::table(dump, &wanted), dump.get("workloadState").cloned().unwrap_or_default())
        }),
        ZtunnelConfig::All { source } => all(source),
    }
}

/// One section of every dump that the source names.
fn show(source: &Source, section: impl Fn(&Value) -> (Table, Value)) -> anyhow::Result<ExitCode> {
    let dumps = dump::read(&source.name, source.node.as_deref(), source.file.as_deref())?;
    for dump in &dumps {
        if dumps.len() > 1 && source.output == Output::Table {
            output::line(format_args!("{}:", dump.of))?;
        }
        let (table, objects) = section(&dump.value);
        match source.output {
            Output::Table => output::text(table)?,
            Output::Json | Output::Yaml => source.output.print(&objects)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all(source: &Source) -> anyhow::Result<ExitCode> {
    show(source, |dump| (view::workloads(dump, &view::Keep::all()), dump.clone()))?;
    if source.output != Output::Table {
        return Ok(ExitCode::SUCCESS);
    }
    let everything = view::in_namespace(&None);
    let wanted = connections::Wanted { namespace: &None, direction: None, raw: false };
    show(source, |dump| (view::services(dump, &everything), Value::Null))?;
    show(source, |dump| (view::policies(dump, &everything), Value::Null))?;
    show(source, |dump| (view::certificates(dump), Value::Null))?;
    show(source, |dump| (connections::table(dump, &wanted), Value::Null))
}
