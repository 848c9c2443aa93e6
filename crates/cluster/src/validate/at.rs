//! A place in an object, and what is found there.
//!
//! In: JSON of any shape; a member of the wrong type reads as absent, since [`super::shape`] speaks of types.

use serde_json::Value;

use super::{Finding, Level};

/// A value with the way to it.
pub(super) struct At<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
}

impl<'a> At<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// The path of a member, there or not.
    pub(super) fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The path of an entry of a map whose keys may hold dots.
    pub(super) fn entry(&self, key: &str) -> String {
        format!("{}[{key}]", self.path)
    }

    /// A member that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self { value, path: self.field(key) })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The entries of a list, nulls included.
    pub(super) fn items(&self) -> Vec<Self> {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(|(at, value)| Self { value, path: format!("{}[{at}]", self.path) }).collect()
    }

    /// The entries of a member that is a list.
    pub(super) fn list(&self, key: &str) -> Vec<Self> {
        self.get(key).map(|list| list.items()).unwrap_or_default()
    }

    /// The members that are not null, with their names.
    pub(super) fn members(&self) -> Vec<(&'a str, Self)> {
        let members = self.value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        members.map(|(key, value)| (key.as_str(), Self { value, path: self.entry(key) })).collect()
    }

    /// All members, nulls included.
    pub(super) fn all_members(&self) -> Vec<(&'a str, Self)> {
        let members = self.value.as_object().into_iter().flatten();
        members.map(|(key, value)| (key.as_str(), Self { value, path: self.entry(key) })).collect()
    }

    /// Itself as text; empty if it is none.
    pub(super) fn word(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// A member as text; empty if there is none.
    pub(super) fn text(&self, key: &str) -> &'a str {
        self.value.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A member as a whole number.
    pub(super) fn number(&self, key: &str) -> Option<i64> {
        self.value.get(key).and_then(Value::as_i64)
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn error(&mut self, field: impl Into<String>, reason: impl Into<String>, mend: impl Into<String>) {
        self.add(Level::Error, field.into(), (reason.into(), mend.into()));
    }

    pub(super) fn warn(&mut self, field: impl Into<String>, reason: impl Into<String>, mend: impl Into<String>) {
        self.add(Level::Warning, field.into(), (reason.into(), mend.into()));
    }

    /// Whether something was said of a field.
    pub(super) fn is_about(&self, field: &str) -> bool {
        self.findings.iter().any(|finding| finding.field == field)
    }

    fn add(&mut self, level: Level, field: String, (reason, mend): (String, String)) {
        self.findings.push(Finding { level, field, reason, mend });
    }

    pub(super) fn into_findings(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| finding.level);
        self.findings
    }
}
