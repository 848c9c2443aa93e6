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
    }
}

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|error| DecodeError::new("", Wrong::Bytes(error.to_string())))
}
