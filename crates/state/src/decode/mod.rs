//! Wire messages to domain values: the one door, behind which nobody sees protocol buffers.
//!
//! In: the bytes of one resource. Out: a [`Change`], or why this resource alone is refused. Whatever arrives, nothing
//! panics and no other resource is touched.

mod address;
mod policy;
mod stand_in;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use lateen_types::WordError;
use lateen_wire::workload::{Address, address::Type};
use prost::Message as _;

pub use self::stand_in::Refused;
use crate::index::Change;

/// Why a resource is refused; the text goes into the NACK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not the message.
    #[error("not a protobuf message of the announced type: {0}")]
    Bytes(String),
    /// A word in it is not valid.
    #[error("{field}: {word}")]
    Word {
        /// Where.
        field: &'static str,
        /// What is wrong.
        word: WordError,
    },
    /// A closed set has no such member.
    #[error("{field}: {given} is not a value this version knows")]
    Enum {
        /// Where.
        field: &'static str,
        /// The number sent.
        given: i32,
    },
    /// Something else about a field.
    #[error("{field}: {reason}")]
    Field {
        /// Where.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: &'static str,
    },
}

/// One `istio.workload.Address`.
pub fn address(bytes: &[u8]) -> Result<Change, DecodeError> {
    address_named(&Arc::default(), bytes)
}

/// One `istio.workload.Address`, announced as `name`; a workload that is called so shares the name.
pub fn address_named(name: &Arc<str>, bytes: &[u8]) -> Result<Change, DecodeError> {
    let message = Address::decode(bytes).map_err(|error| DecodeError::Bytes(error.to_string()))?;
    match message.r#type {
        Some(Type::Workload(workload)) => Ok(Change::Workload(Arc::new(address::workload(name, workload)?))),
        Some(Type::Service(service)) => Ok(Change::Service(Box::new(address::service(service)?))),
        None => Err(DecodeError::Field { field: "type", reason: "must be a workload or a service, neither is set" }),
    }
}

/// One `istio.security.Authorization`.
pub fn policy(bytes: &[u8]) -> Result<Change, DecodeError> {
    let message = lateen_wire::security::Authorization::decode(bytes);
    let message = message.map_err(|error| DecodeError::Bytes(error.to_string()))?;
    Ok(Change::Policy(Box::new(policy::policy(message)?)))
}

/// What to do about an `istio.security.Authorization` that [`policy`] refused, announced as `name`: unless an earlier
/// state of it is held, a stand-in refuses what it may have refused, so that a policy nobody can read opens nothing.
pub fn unreadable_policy(name: &str, bytes: &[u8]) -> Option<Change> {
    policy::stand_in(name, bytes).map(|policy| Change::PolicyIfNew(Box::new(policy)))
}

/// What to do about an `istio.workload.Address` that [`address`] refused: its addresses are refused too, unless a held
/// version of the same resource answers there. `None` when not one of its addresses can be told.
pub fn unreadable_address(refused: &Refused<'_>) -> Option<Change> {
    stand_in::unusable(refused).map(|one| Change::Unusable(Box::new(one)))
}

/// Names the field a word was read from.
fn word<T>(field: &'static str, word: Result<T, WordError>) -> Result<T, DecodeError> {
    word.map_err(|word| DecodeError::Word { field, word })
}

/// Reads a closed enum's number.
fn known<E: TryFrom<i32>>(field: &'static str, given: i32) -> Result<E, DecodeError> {
    E::try_from(given).map_err(|_| DecodeError::Enum { field, given })
}
