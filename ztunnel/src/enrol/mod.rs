//! Which pods this proxy serves: told by the node agent, kept in a ledger, started and stopped by comparison.

pub mod ledger;
pub mod message;
pub mod stream;
