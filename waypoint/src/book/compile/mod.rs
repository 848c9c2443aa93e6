//! Wire messages to the compiled book: the one door, behind which nobody sees protocol buffers.
//!
//! In: the bytes of one resource. Out: a [`Change`], or the field for which this resource alone is refused. Whatever
//! arrives, nothing panics and no other resource is touched. Absent on purpose: looking up what a resource names; that is
//! asked when a request needs it, so that resources may come in any order.

mod cluster;
mod credential;
mod edits;
mod error;
mod matches;
mod proxy;
mod route;
mod service;

use std::sync::Arc;

use lateen_wire::proxy as wire;
use prost::Message;

pub use self::error::{DecodeError, Wrong};
use super::names::{Change, Kind};
use crate::authorize;

/// Compiles the resource `name` of `kind`.
pub fn resource(kind: Kind, name: &Arc<str>, bytes: &[u8]) -> Result<Change, DecodeError> {
    match kind {
        Kind::Proxy => proxy::proxy(read(bytes)?).map(|proxy| Change::Proxy(Arc::new(proxy))),
        Kind::Service => service::service(read(bytes)?).map(|service| Change::Service(Arc::new(service))),
        Kind::Destination => cluster::destination(read(bytes)?),
        Kind::Credential => {
            let credential = credential::credential(&read::<wire::Credential>(bytes)?)?;
            Ok(Change::Credential { name: name.clone(), credential: Arc::new(credential) })
        }
        Kind::Policy => {
            let policy = authorize::decode::policy(bytes).map_err(|error| DecodeError::new("", Wrong::from(error)))?;
            Ok(Change::Policy { name: name.clone(), policy: Arc::new(policy) })
        }
    }
}

/// What to do about a resource that [`resource`] refused: what was held of it stays. Of a policy that was never held a
/// stand-in refuses what it may have refused, so that a policy nobody can read opens nothing.
pub fn unreadable(kind: Kind, name: &Arc<str>, bytes: &[u8]) -> Option<Change> {
    match kind {
        Kind::Policy => {
            let policy = authorize::decode::stand_in(name, bytes)?;
            Some(Change::PolicyIfNew { name: name.clone(), policy: Arc::new(policy) })
        }
        // What names one of these refuses while it is not here.
        Kind::Proxy | Kind::Service | Kind::Destination | Kind::Credential => None,
    }
}

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|error| DecodeError::new("", Wrong::Bytes(error.to_string())))
}
