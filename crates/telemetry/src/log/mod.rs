//! The log: events to lines on stdout, in the reference's plain form or as JSON, at a level that can change while running.
//!
//! In: [`Config`]. Out: [`Log`], which flushes when dropped and changes the level.
//! Lines are made into text and written by a thread of their own; when it falls 10,000 lines behind, those who log wait
//! and nothing is lost.

mod collect;
mod format;
mod layer;
#[cfg(test)]
mod tests;
mod writer;

use parking_lot::Mutex;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

pub use collect::{Collected, collect};
pub use format::Format;
pub(crate) use format::Shown;
use layer::Lines;
use writer::Writer;

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directives as in `RUST_LOG`: `info`, `info,dns=debug`, …
    pub filter: String,
    /// The form of a line.
    pub format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Plain }
    }
}

/// Why the log could not be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The directives cannot be read.
    #[error(
        "invalid level {given:?}: {reason}; use <level> or <target>=<level>, levels are off, error, warn, info, debug and trace"
    )]
    Level { given: String, reason: String },
    /// There is a log already.
    #[error("the log is already set up in this process")]
    Twice,
    /// The log's thread cannot be started.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(String),
    /// The subscriber is gone, which happens at shutdown only.
    #[error("the log is shutting down")]
    Gone,
}

/// The running log. Keep it until the end of `main`: dropping it writes what is still queued.
pub struct Log {
    level: Level,
    _writer: Writer,
}

/// The level of the running log; clones change the same one.
#[derive(Clone)]
pub struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    words: std::sync::Arc<Mutex<Words>>,
}

struct Words {
    started_with: String,
    current: String,
}

/// Begins logging to stdout. Once per process.
pub fn init(config: &Config) -> Result<Log, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&config.filter)?);
    let writer =
        Writer::start(config.format, std::io::stdout()).map_err(|error| LogError::Thread(error.to_string()))?;
    let words = Words { started_with: config.filter.clone(), current: config.filter.clone() };
    tracing_subscriber::registry()
        .with(Lines(writer.queue()).with_filter(filter))
        .try_init()
        .map_err(|_| LogError::Twice)?;
    Ok(Log { level: Level { filter: handle, words: std::sync::Arc::new(Mutex::new(words)) }, _writer: writer })
}

impl Log {
    /// A handle that shows and changes the level.
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Level {
    /// The directives in force.
    pub fn current(&self) -> String {
        self.words.lock().current.clone()
    }

    /// Adds `directives` to those in force; a later one wins over an earlier one for the same target.
    pub fn add(&self, directives: &str) -> Result<(), LogError> {
        check(directives)?;
        let next = format!("{},{directives}", self.current());
        self.set(next)
    }

    /// Goes back to the directives the process started with, then adds `directives`, if any.
    pub fn reset(&self, directives: Option<&str>) -> Result<(), LogError> {
        let started_with = self.words.lock().started_with.clone();
        match directives {
            None => self.set(started_with),
            Some(directives) => {
                check(directives)?;
                self.set(format!("{started_with},{directives}"))
            }
        }
    }

    fn set(&self, directives: String) -> Result<(), LogError> {
        let directives = shortened(&directives);
        self.filter.reload(parse(&directives)?).map_err(|_| LogError::Gone)?;
        self.words.lock().current = directives;
        Ok(())
    }
}

/// Without the directives a later one for the same target replaces, so that repeated changes do not grow the text.
fn shortened(directives: &str) -> String {
    let target = |directive: &str| directive.split_once('=').map(|(target, _)| target.to_owned());
    let all: Vec<&str> = directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    let kept = all.iter().enumerate().filter(|(at, directive)| {
        let mine = target(directive);
        !all[at + 1..].iter().any(|later| target(later) == mine)
    });
    kept.map(|(_, directive)| *directive).collect::<Vec<_>>().join(",")
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A directive given while running is `<level>` or `<target>=<level>`; a bare target is refused, because it is nearly
/// always a mistyped level and would mean `trace`.
fn check(directives: &str) -> Result<(), LogError> {
    for directive in directives.split(',').map(str::trim) {
        let (target, level) = directive.split_once('=').unwrap_or(("-", directive));
        if target.is_empty() || !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let reason = format!("{level:?} is not a level");
            return Err(LogError::Level { given: directive.to_owned(), reason });
        }
    }
    Ok(())
}

/// Noise nobody asked for: the DNS server library logs each malformed query a client sends.
const ALWAYS: &str = "hickory_server::server=off";

/// The filter for `directives`. The reference's module paths begin with `ztunnel`, ours with `lateen_ztunnel`; the
/// words operators know keep working.
fn parse(directives: &str) -> Result<EnvFilter, LogError> {
    let ours = directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()).map(|directive| {
        let ours = directive == "ztunnel" || directive.starts_with("ztunnel:") || directive.starts_with("ztunnel=");
        if ours { format!("lateen_{directive}") } else { directive.to_owned() }
    });
    let text = std::iter::once(ALWAYS.to_owned()).chain(ours).collect::<Vec<_>>().join(",");
    EnvFilter::builder()
        .parse(text)
        .map_err(|e| LogError::Level { given: directives.to_owned(), reason: e.to_string() })
}
