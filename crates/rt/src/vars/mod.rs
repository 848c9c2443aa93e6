//! The environment as a map, read once.
//!
//! In: the process environment, or a list in a test. Out: texts and parsed values, with errors that name the variable.
//! An empty value counts as unset, except where [`Vars::raw`] is used on purpose.

use std::{collections::BTreeMap, time::Duration};

mod error;
pub mod text;

pub use error::ConfigError;

/// All variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vars(BTreeMap<String, String>);

impl Vars {
    /// The variables of this process.
    pub fn from_env() -> Result<Self, ConfigError> {
        let pairs = std::env::vars_os().map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            let value = value.into_string().map_err(|_given| ConfigError::Variable {
                name: name.clone(),
                reason: "it must be UTF-8".to_owned(),
            })?;
            Ok((name, value))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// These variables.
    pub fn new(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The value as it is, empty or not.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value, if there is one.
    pub fn text(&self, name: &str) -> Option<String> {
        self.raw(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Variables whose name begins with `prefix`: the rest of the name, and the value.
    pub fn with_prefix<'v>(&'v self, prefix: &'v str) -> impl Iterator<Item = (&'v str, &'v str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// The value read by `parse`, whose error says what would be right and nothing of what was given.
    pub fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, ConfigError> {
        let Some(given) = self.text(name) else { return Ok(None) };
        let value = parse(given.trim());
        value.map(Some).map_err(|reason| ConfigError::Variable { name: name.to_owned(), reason })
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        self.parsed(name, |given| match given.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("it must be true or false".to_owned()),
        })
    }

    /// A flag with a default.
    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self.flag(name)?.unwrap_or(default))
    }

    /// A whole number of any size, with a default.
    pub fn number_or<N: std::str::FromStr>(&self, name: &str, default: N) -> Result<N, ConfigError> {
        let parse = |given: &str| given.parse::<N>().map_err(|_| "it must be a whole number in range".to_owned());
        Ok(self.parsed(name, parse)?.unwrap_or(default))
    }

    /// A length of time, with a default.
    pub fn duration_or(&self, name: &str, default: Duration) -> Result<Duration, ConfigError> {
        Ok(self.parsed(name, text::duration)?.unwrap_or(default))
    }
}
