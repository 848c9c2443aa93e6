//! A condition as it is decided, before it is written: what is asked, the answer, and why.

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// Yes.
    True,
    /// No.
    False,
    /// It cannot be said here.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The question.
    pub kind: &'static str,
    /// The answer.
    pub truth: Truth,
    /// One word for programs.
    pub reason: &'static str,
    /// Sentences for people.
    pub message: String,
}
