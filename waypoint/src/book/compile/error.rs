//! Why a resource is refused, with the way to the field.

use std::{fmt, time::Duration};

use crate::{
    authorize::decode::PolicyError,
    book::credential::CredentialError,
    filter::{format::FormatError, rewrite::SubstitutionError},
    report,
    route::regexes::PatternError,
};

/// Why a resource is refused; the text goes into the NACK.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeError {
    /// Where: `ports[0].http[3].match.path`.
    field: String,
    /// What.
    wrong: Wrong,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Wrong {
    /// The bytes are not the message.
    #[error("not a protobuf message of the announced type: {0}")]
    Bytes(String),
    /// It must be set.
    #[error("must be set")]
    Missing,
    /// A closed set has no such member.
    #[error("{0} is not a value this version knows")]
    Enum(i32),
    /// A number is out of its range.
    #[error("{given} is not {expected}")]
    Number {
        /// The number.
        given: u64,
        /// What it should be.
        expected: &'static str,
    },
    /// A time is negative or out of range.
    #[error("is not a time this version can wait")]
    Time,
    /// A text is not what it should be.
    #[error("{given:?} is not {expected}")]
    Text {
        /// The text, cut.
        given: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A substitution.
    #[error(transparent)]
    Substitution(#[from] SubstitutionError),
    /// A value with operators.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Keys and certificates.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The form of access records.
    #[error(transparent)]
    AccessFormat(#[from] report::format::FormatError),
    /// A policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}", self.wrong),
            field => write!(f, "{field}: {}", self.wrong),
        }
    }
}

impl DecodeError {
    pub(super) fn new(field: &str, wrong: impl Into<Wrong>) -> Self {
        Self { field: field.to_owned(), wrong: wrong.into() }
    }

    /// Where.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What.
    pub fn wrong(&self) -> &Wrong {
        &self.wrong
    }

    fn within(mut self, outer: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => outer.to_owned(),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

/// Says where an error came from.
pub(super) trait Within<T> {
    /// Inside the field `outer`.
    fn within(self, outer: &str) -> Result<T, DecodeError>;
}

impl<T> Within<T> for Result<T, DecodeError> {
    fn within(self, outer: &str) -> Self {
        self.map_err(|error| error.within(outer))
    }
}

/// Compiles each member of the list `field`.
pub(super) fn each<W, T>(
    field: &str,
    list: Vec<W>,
    mut one: impl FnMut(W) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    list.into_iter()
        .enumerate()
        .map(|(at, item)| one(item).map_err(|error| error.within(&format!("{field}[{at}]"))))
        .collect()
}

/// What must be set.
pub(super) fn required<T>(field: &str, given: Option<T>) -> Result<T, DecodeError> {
    given.ok_or_else(|| DecodeError::new(field, Wrong::Missing))
}

/// Reads a closed enum's number.
pub(super) fn known<E: TryFrom<i32>>(field: &str, given: i32) -> Result<E, DecodeError> {
    E::try_from(given).map_err(|_| DecodeError::new(field, Wrong::Enum(given)))
}

/// A port, which is not 0.
pub(super) fn port(field: &str, given: u32) -> Result<u16, DecodeError> {
    let port = u16::try_from(given).ok().filter(|port| *port != 0);
    port.ok_or_else(|| DecodeError::new(field, Wrong::Number { given: given.into(), expected: "a port (1 to 65535)" }))
}

/// A time; `None` where it is not set.
pub(super) fn time(field: &str, given: Option<prost_types::Duration>) -> Result<Option<Duration>, DecodeError> {
    let read =
        |given: prost_types::Duration| Duration::try_from(given).map_err(|_| DecodeError::new(field, Wrong::Time));
    given.map(read).transpose()
}

/// A text that is not what it should be.
pub(super) fn bad_text(field: &str, given: &str, expected: &'static str) -> DecodeError {
    DecodeError::new(field, Wrong::Text { given: given.chars().take(128).collect(), expected })
}

/// A text, if it says anything.
pub(super) fn some_text<'t, T: From<&'t str>>(given: &'t str) -> Option<T> {
    (!given.is_empty()).then(|| given.into())
}
