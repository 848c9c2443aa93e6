//! How a verb prints: for people, or for programs.
//!
//! In: `-o`. Out: JSON or YAML on standard output; tables are each verb's own.

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::Value;

/// The value of `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
}

impl Output {
    /// Prints objects as YAML where that was asked for, else as JSON.
    pub(crate) fn print(self, objects: &Value) -> anyhow::Result<()> {
        match self {
            Self::Yaml => print!("{}", serde_saphyr::to_string(objects).context("printing YAML")?),
            Self::Table | Self::Json => println!("{}", serde_json::to_string_pretty(objects)?),
        }
        Ok(())
    }
}
