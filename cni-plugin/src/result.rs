//! What the runtime reads from our stdout.
//!
//! In: an error or a supported-versions question. Out: CNI JSON. Absent on purpose: printing.

use serde_json::{Value, json};

/// A version of the CNI specification we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CniVersion {
    /// 0.3.0
    V030,
    /// 0.3.1
    V031,
    /// 0.4.0, the first with CHECK.
    V040,
    /// 1.0.0
    V100,
    /// 1.1.0, the first with STATUS and GC.
    V110,
}

impl CniVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [Self::V030, Self::V031, Self::V040, Self::V100, Self::V110];
    /// The newest, used where the runtime did not say which it speaks.
    pub const NEWEST: Self = Self::V110;

    /// As the specification writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V030 => "0.3.0",
            Self::V031 => "0.3.1",
            Self::V040 => "0.4.0",
            Self::V100 => "1.0.0",
            Self::V110 => "1.1.0",
        }
    }

    /// The version with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

/// Error codes of the CNI specification, section "Error"; 100 and up are the plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The runtime speaks a version that we do not, or the version lacks the command.
    IncompatibleVersion,
    /// The container is not known or does not look as it should.
    UnknownContainer,
    /// A variable of the environment is missing or wrong.
    InvalidEnvironment,
    /// Reading or writing failed.
    Io,
    /// What was read is not what was announced.
    Decode,
    /// The network configuration is wrong.
    InvalidConfig,
    /// Nothing is wrong with the pod; the same call later may succeed.
    TryAgain,
    /// The plugin cannot serve an ADD now (answer to STATUS).
    Unavailable,
    /// The agent refused for a reason that trying again will not mend.
    Refused,
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::TryAgain => 11,
            Self::Unavailable => 50,
            Self::Refused => 100,
        }
    }
}

/// A command that failed: the code for the runtime, and for a person what is wrong and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details}")]
pub struct Failure {
    /// The kind.
    pub code: Code,
    /// The field or object, and what is wrong with it.
    pub msg: String,
    /// How to mend it.
    pub details: String,
}

impl Failure {
    /// A failure of `code` about `msg`, mended by `details`.
    pub fn new(code: Code, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: details.into() }
    }

    /// As the runtime reads it.
    pub fn to_json(&self, version: CniVersion) -> Value {
        json!({"cniVersion": version.as_str(), "code": self.code.number(), "msg": self.msg, "details": self.details})
    }
}

/// The answer to VERSION.
pub fn versions(spoken: CniVersion) -> Value {
    let supported: Vec<&str> = CniVersion::ALL.iter().map(|version| version.as_str()).collect();
    json!({"cniVersion": spoken.as_str(), "supportedVersions": supported})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_parse_back() {
        for version in CniVersion::ALL {
            assert_eq!(CniVersion::parse(version.as_str()), Some(version));
        }
        assert!(CniVersion::V031 < CniVersion::V040);
        assert_eq!(CniVersion::parse("0.2.0"), None);
        assert_eq!(CniVersion::parse("2.0.0"), None);
    }
}
