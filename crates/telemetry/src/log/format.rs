//! One event as one line.
//!
//! In: the event's parts with their types. Out: the line, ending in a line feed.
//! Plain: `<time>\t<level>\t<target[:span{k=v}…]>\t<message>\t<k=v k=v …>`. JSON: `level`, `time`, `scope`, `message`, the
//! fields, then one object per span.

use std::{fmt::Write as _, str::FromStr};

use serde_json::{Map, Value as Json};

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
#[error("{0:?} is not a log format; use plain or json")]
pub struct NotAFormat(pub String);

impl FromStr for Format {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(NotAFormat(text.to_owned())),
        }
    }
}

/// A field's value: text is quoted in the plain form, everything else is not.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Shown(String),
    Json(Json),
}

/// Fields in the order they were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields(pub(super) Vec<(&'static str, Value)>);

/// A span an event happened in.
pub(super) struct Span {
    pub(super) name: &'static str,
    pub(super) fields: Fields,
}

/// An event with everything a line shows.
pub(super) struct Line<'e> {
    pub(super) time: String,
    pub(super) level: &'static str,
    pub(super) target: &'e str,
    pub(super) spans: Vec<Span>,
    pub(super) message: String,
    pub(super) fields: Fields,
}

/// The target as it is shown: our own crates without their prefix.
pub(super) fn shown_target(target: &str) -> &str {
    target.strip_prefix("lateen_ztunnel::").or_else(|| target.strip_prefix("lateen_")).unwrap_or(target)
}

impl Line<'_> {
    pub(super) fn plain(&self) -> String {
        let mut out = format!("{}\t{}\t{}", self.time, self.level, shown_target(self.target));
        for span in &self.spans {
            let _infallible = write!(out, ":{}", span.name);
            if !span.fields.0.is_empty() {
                let _infallible = write!(out, "{{{}}}", plain_fields(&span.fields));
            }
        }
        out.push('\t');
        out.push_str(&one_line(&self.message));
        if !self.fields.0.is_empty() {
            out.push('\t');
            out.push_str(&plain_fields(&self.fields));
        }
        out.push('\n');
        out
    }

    pub(super) fn json(&self) -> String {
        // Written key by key: the order is part of the format, and a JSON map would sort it.
        let mut out = String::from("{");
        let mut put = |key: &str, value: &Json| {
            let comma = if out.len() == 1 { "" } else { "," };
            let _infallible = write!(out, "{comma}{}:{value}", Json::from(key));
        };
        put("level", &self.level.into());
        put("time", &self.time.as_str().into());
        put("scope", &shown_target(self.target).into());
        if !self.message.is_empty() {
            put("message", &self.message.as_str().into());
        }
        for (key, value) in &self.fields.0 {
            put(key, &json_value(value));
        }
        for span in &self.spans {
            let fields: Map<String, Json> =
                span.fields.0.iter().map(|(key, value)| ((*key).to_owned(), json_value(value))).collect();
            put(span.name, &Json::Object(fields));
        }
        out.push_str("}\n");
        out
    }
}

fn plain_fields(fields: &Fields) -> String {
    let mut out = String::new();
    for (key, value) in &fields.0 {
        let space = if out.is_empty() { "" } else { " " };
        let _infallible = match value {
            Value::Text(text) => write!(out, "{space}{key}={text:?}"),
            Value::Shown(text) => write!(out, "{space}{key}={}", one_line(text)),
            Value::Json(value) => write!(out, "{space}{key}={value}"),
        };
    }
    out
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Text(text) | Value::Shown(text) => text.as_str().into(),
        Value::Json(value) => value.clone(),
    }
}

/// A peer's text must not be able to begin a new line of the log.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r")
}
