//! The server's side: what is published, and the driver of one proxy's stream.
//!
//! In: batches of published resources ([`Table::publish`]), one stream of requests per proxy ([`serve`]). Out: responses.
//! Absent on purpose: deriving resources, accepting connections, proving who the proxy is (the caller's `admit` decides).

mod requests;
mod responses;
mod stream;
mod table;
mod turn;

pub use requests::REQUEST_MAX;
pub use responses::{METHOD, answer};
pub use stream::{Events, Responses, serve};
pub use table::{Publish, Table, View};

/// What the server knows of a proxy beside its subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its node id, for the log.
    pub id: String,
    /// Groups whose members it gets unasked even where it asks key by key: `node/<its node>`.
    pub groups: Vec<String>,
}

impl Peer {
    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }
}
