//! How a verb prints: for people, or for programs.
//!
//! In: lines, and `-o`. Out: text, JSON or YAML on standard output; tables are each verb's own.
//! Absent on purpose: `println!`. It panics when the reader is gone (`lateen … | head`); here that ends the verb quietly.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

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

/// The reader of our standard output is gone. No failure: it has seen what it wanted.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads what is printed")]
pub(crate) struct Unread;

impl Output {
    /// Prints objects as YAML where that was asked for, else as JSON.
    pub(crate) fn print(self, objects: &Value) -> anyhow::Result<()> {
        match self {
            Self::Yaml => text(serde_saphyr::to_string(objects).context("printing YAML")?),
            Self::Table | Self::Json => line(serde_json::to_string_pretty(objects)?),
        }
    }
}

/// Prints one line.
pub(crate) fn line(line: impl Display) -> anyhow::Result<()> {
    text(format_args!("{line}\n"))
}

/// Prints text that ends its lines itself.
pub(crate) fn text(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unread.into()),
        written => written.context("writing to standard output"),
    }
}
