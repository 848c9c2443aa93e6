//! The delta protocol without sockets and clocks: messages in, messages out.
//!
//! ```text
//!  client                                   server
//!  open ── subscribe, versions held ──────► request ─► collect ─► next
//!  received ◄── resources, removals, nonce ──┘                     │ at most one unanswered
//!  applied ─── ACK or NACK with nonce ────► request ── next ◄──────┘ answer per type
//! ```

pub mod client;
pub mod server;
#[cfg(test)]
mod tests;
mod version;

/// Subscribes to everything; subscribed and unsubscribed at once it means nothing, for clients that ask key by key.
pub(crate) const EVERYTHING: &str = "*";
