//! One event as one line.
//!
//! In: the event's parts with their types. Out: the line, ending in a line feed. Runs on the log's thread.
//! Plain: `<time>\t<level>\t<target[:span{k=v}…]>\t<message>\t<k=v k=v …>`. JSON: `level`, `time`, `scope`, `message`, the
//! fields, then one object per span.

use std::{
    fmt::{Display, Write as _},
    str::FromStr,
};

use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use tracing::Level;

use crate::access::Entry;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: tab-separated.
    #[default]
    Plain,
    /// For programs.
    Json,
}

/// What is not a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be a log format: plain or json")]
pub struct NotAFormat;

impl FromStr for Format {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(NotAFormat),
        }
    }
}

/// A field's value, kept: text is quoted in the plain form, everything else is not.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Shown(String),
    Json(Json),
}

/// Fields in the order they were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields(pub(super) Vec<(&'static str, Value)>);

/// A field's value on its way into a line.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'v> {
    /// Text, quoted in the plain form.
    Quoted(&'v dyn Display),
    /// Text, not quoted.
    Bare(&'v dyn Display),
    /// A whole number.
    Number(u64),
    /// Anything else.
    Json(&'v Json),
}

impl Fields {
    fn each(&self, put: &mut dyn FnMut(&'static str, Shown<'_>)) {
        for (key, value) in &self.0 {
            put(
                key,
                match value {
                    Value::Text(text) => Shown::Quoted(text),
                    Value::Shown(text) => Shown::Bare(text),
                    Value::Json(value) => Shown::Json(value),
                },
            );
        }
    }
}

/// A span an event happened in.
pub(super) struct Span {
    pub(super) name: &'static str,
    pub(super) fields: Fields,
}

/// An event with everything a line shows.
pub(super) struct Line {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) target: &'static str,
    pub(super) spans: Vec<Span>,
    pub(super) message: String,
    pub(super) fields: Fields,
    pub(super) entry: Option<Box<Entry>>,
}

/// The target as it is shown: our own crates without their prefix.
fn shown_target(target: &str) -> &str {
    target.strip_prefix("lateen_ztunnel::").or_else(|| target.strip_prefix("lateen_")).unwrap_or(target)
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl Line {
    /// Appends the line to `out`.
    pub(super) fn write(&self, format: Format, out: &mut String) {
        match format {
            Format::Plain => self.plain(out),
            Format::Json => self.json(out),
        }
    }

    fn each(&self, put: &mut dyn FnMut(&'static str, Shown<'_>)) {
        if let Some(entry) = &self.entry {
            entry.each(put);
        }
        self.fields.each(put);
    }

    fn plain(&self, out: &mut String) {
        let _infallible = write!(out, "{:.6}\t{}\t{}", self.time, level_word(self.level), shown_target(self.target));
        for span in &self.spans {
            out.push(':');
            out.push_str(span.name);
            if !span.fields.0.is_empty() {
                out.push('{');
                let mut between = "";
                span.fields.each(&mut |key, value| plain_field(out, &mut between, key, value));
                out.push('}');
            }
        }
        out.push('\t');
        bare(out, &self.message);
        let mut between = "\t";
        self.each(&mut |key, value| plain_field(out, &mut between, key, value));
        out.push('\n');
    }

    fn json(&self, out: &mut String) {
        // Written key by key: the order is part of the format, and a JSON map would sort it.
        let mut between = "{";
        json_field(out, &mut between, "level", Shown::Quoted(&level_word(self.level)));
        json_field(out, &mut between, "time", Shown::Quoted(&format_args!("{:.6}", self.time)));
        json_field(out, &mut between, "scope", Shown::Quoted(&shown_target(self.target)));
        if !self.message.is_empty() {
            json_field(out, &mut between, "message", Shown::Quoted(&self.message));
        }
        self.each(&mut |key, value| json_field(out, &mut between, key, value));
        for span in &self.spans {
            let mut fields = Map::new();
            span.fields.each(&mut |key, value| {
                fields.insert(key.to_owned(), json_value(value));
            });
            json_field(out, &mut between, span.name, Shown::Json(&Json::Object(fields)));
        }
        out.push_str("}\n");
    }
}

fn plain_field(out: &mut String, between: &mut &'static str, key: &str, value: Shown<'_>) {
    out.push_str(std::mem::replace(between, " "));
    out.push_str(key);
    out.push('=');
    match value {
        Shown::Quoted(text) => quoted(out, text),
        Shown::Bare(text) => bare(out, text),
        Shown::Number(number) => append(out, &number),
        Shown::Json(value) => append(out, value),
    }
}

fn json_field(out: &mut String, between: &mut &'static str, key: &str, value: Shown<'_>) {
    out.push_str(std::mem::replace(between, ","));
    json_text(out, &key);
    out.push(':');
    match value {
        Shown::Quoted(text) | Shown::Bare(text) => json_text(out, text),
        Shown::Number(number) => append(out, &number),
        Shown::Json(value) => append(out, value),
    }
}

/// A JSON string, escaped as `serde_json` does. As with [`quoted`], nearly all text has nothing to escape.
fn json_text(out: &mut String, text: &dyn Display) {
    let start = out.len();
    out.push('"');
    append(out, text);
    if out.as_bytes()[start + 1..].iter().all(|byte| *byte >= b' ' && !matches!(byte, b'"' | b'\\')) {
        out.push('"');
    } else {
        let text = out.split_off(start).split_off(1);
        append(out, &Json::from(text));
    }
}

fn json_value(value: Shown<'_>) -> Json {
    match value {
        Shown::Quoted(text) | Shown::Bare(text) => text.to_string().into(),
        Shown::Number(number) => number.into(),
        Shown::Json(value) => value.clone(),
    }
}

fn append(out: &mut String, text: &dyn Display) {
    let _infallible = write!(out, "{text}");
}

/// As `{:?}` of the text. Nearly all text has nothing to escape; it is written once and only looked at.
fn quoted(out: &mut String, text: &dyn Display) {
    let start = out.len();
    out.push('"');
    append(out, text);
    if out.as_bytes()[start + 1..].iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.push('"');
    } else {
        let text = out.split_off(start).split_off(1);
        let _infallible = write!(out, "{text:?}");
    }
}

/// A peer's text must not be able to begin a new line of the log.
fn bare(out: &mut String, text: &dyn Display) {
    let start = out.len();
    append(out, text);
    if out.as_bytes()[start..].iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        let text = out.split_off(start);
        out.push_str(&text.replace('\n', "\\n").replace('\r', "\\r"));
    }
}
