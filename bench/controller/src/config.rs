//! What a run is asked for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::crowd::Size;

/// The column of our own controller.
pub(crate) const OURS: &str = "ours";

/// What proxies ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ask {
    /// Everything, as Istio's ztunnel and ours do by default
    All,
    /// Their node's workloads, which come unasked, and so many services (`XDS_ON_DEMAND=true`)
    OnDemand,
}

impl Ask {
    /// As tables call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::OnDemand => "on demand",
        }
    }
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// Nodes, with a proxy each
    #[arg(long, default_value_t = 1_000)]
    pub nodes: usize,
    /// Pods beside the proxies
    #[arg(long, default_value_t = 50_000)]
    pub pods: usize,
    /// Services
    #[arg(long, default_value_t = 2_000)]
    pub services: usize,
    /// Changes a second: in turn a pod leaves and a pod comes
    #[arg(long, default_value_t = 100.0)]
    pub churn: f64,
    /// How long pods come and go
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Services a proxy that asks on demand uses
    #[arg(long, default_value_t = 10)]
    pub used: usize,
    /// What the proxies ask for; each is measured with a controller of its own
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all,on-demand")]
    pub ask: Vec<Ask>,
    /// Our controller
    #[arg(long, default_value = "target/debug/lateen-controller")]
    pub ours: PathBuf,
    /// Another build of ours, NAME=PATH; may be given several times
    #[arg(long, value_parser = subject)]
    pub subject: Vec<Subject>,
    /// Istio's pilot-discovery
    #[arg(long)]
    pub peer: Option<PathBuf>,
    /// Where to write results
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Where programs write what they log (`NAME.log`)
    #[arg(long)]
    pub logs: Option<PathBuf>,
}

/// A program to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Its column.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Whether it is Istio's.
    pub is_peer: bool,
}

fn subject(text: &str) -> Result<Subject, String> {
    let (name, path) = text.split_once('=').ok_or("use NAME=PATH")?;
    Ok(Subject { name: name.to_owned(), path: path.into(), is_peer: false })
}

impl Run {
    /// How large the crowd is.
    pub fn size(&self) -> Size {
        Size { nodes: self.nodes, pods: self.pods, services: self.services, used: self.used }
    }

    /// All programs, ours last.
    pub fn programs(&self) -> Vec<Subject> {
        let peer =
            self.peer.iter().map(|path| Subject { name: "istiod".to_owned(), path: path.clone(), is_peer: true });
        let ours = Subject { name: OURS.to_owned(), path: self.ours.clone(), is_peer: false };
        peer.chain(self.subject.iter().cloned()).chain([ours]).collect()
    }

    /// Changes in all.
    pub fn changes(&self) -> usize {
        (self.churn * self.seconds as f64).round() as usize
    }

    /// Refuses what cannot be measured.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.nodes > 0 && self.services > 0, "--nodes and --services must be at least 1");
        anyhow::ensure!(self.churn > 0.0 && self.churn <= 1e4, "--churn must be above 0, at most 10000");
        let leaving = self.changes().div_ceil(2);
        anyhow::ensure!(
            leaving <= self.pods,
            "--pods {} are too few: {leaving} of them leave; lower --churn or --seconds",
            self.pods
        );
        Ok(())
    }
}
