//! A duration as the mesh's kinds and the Gateway API write it, `1.5s` or `1h30m`.

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::validate::duration;

/// A length of time, zero or more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let nanoseconds = duration::parse(&text).and_then(|all| u64::try_from(all).ok());
        let length = nanoseconds.map(std::time::Duration::from_nanos);
        length.map(Self).ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration; write for example 5s")))
    }
}
