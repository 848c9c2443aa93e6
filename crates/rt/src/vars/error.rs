//! Why the process refuses to start: which variable, what is wrong, what would be right.
//!
//! Absent on purpose: what was given. Variables carry tokens, and a token may stand in the wrong one; errors go to logs.

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One variable's value.
    #[error("environment variable {name} is not valid: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong and what would be right; nothing of the value.
        reason: String,
    },
    /// A variable that is needed.
    #[error("environment variable {name} is not set: {reason}")]
    Missing {
        /// Its name.
        name: &'static str,
        /// Why it is needed, and its form.
        reason: &'static str,
    },
    /// Variables that do not go together.
    #[error("{variables} cannot be used like this: {reason}")]
    Conflict {
        /// Their names.
        variables: &'static str,
        /// Why not, and what to change.
        reason: &'static str,
    },
    /// A file.
    #[error("configuration file {path}: {reason}")]
    File {
        /// Where.
        path: String,
        /// What is wrong.
        reason: String,
    },
}
