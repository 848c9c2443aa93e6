//! The `traceparent` header (W3C Trace Context): `00-<trace id>-<parent id>-<flags>`.

use std::{fmt, str::FromStr};

/// Ties the records of both ends together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    parent: u64,
    flags: u8,
}

/// The value is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
pub struct BadTraceParent;

impl TraceParent {
    /// A new trace, not sampled.
    pub fn random() -> Self {
        Self { trace: rand::random(), parent: rand::random(), flags: 0 }
    }

    /// The trace id in hexadecimal, as records show it.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The parent (span) id in hexadecimal.
    pub fn parent_id(&self) -> String {
        format!("{:016x}", self.parent)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = BadTraceParent;

    fn from_str(text: &str) -> Result<Self, BadTraceParent> {
        let mut parts = text.split('-');
        let parts: [Option<&str>; 5] = std::array::from_fn(|_| parts.next());
        let [Some("00"), Some(trace), Some(parent), Some(flags), None] = parts else { return Err(BadTraceParent) };
        let digits = |text: &str, length: usize| {
            let hex = text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(BadTraceParent)
        };
        let parent = u64::try_from(digits(parent, 16)?).map_err(|_| BadTraceParent)?;
        let flags = u8::try_from(digits(flags, 2)?).map_err(|_| BadTraceParent)?;
        Ok(Self { trace: digits(trace, 32)?, parent, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_and_printed() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let read: TraceParent = text.parse().expect("valid");
        assert_eq!(read.to_string(), text);
        assert_eq!(
            (read.trace_id(), read.parent_id()),
            ("4bf92f3577b34da6a3ce929d0e0e4736".into(), "00f067aa0ba902b7".into())
        );
        let random = TraceParent::random();
        assert_eq!(random.to_string().len(), 55);
        assert_eq!(random.to_string().parse(), Ok(random));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-000",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-",
        ] {
            assert!(text.parse::<TraceParent>().is_err(), "{text:?} was accepted");
        }
    }
}
