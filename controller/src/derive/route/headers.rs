//! Changes of headers: removed first, then set, then added, each in the order of names.
//!
//! The host among them is no header but a rewrite (see [`authority`]); other names with a colon change nothing.

use lateen_cluster::api::{HeaderEdits, Headers};
use lateen_wire::proxy as wire;

/// Both directions; none where nothing changes.
#[derive(Debug, Default)]
pub(super) struct Edits {
    pub(super) request: Option<wire::HeaderEdits>,
    pub(super) response: Option<wire::HeaderEdits>,
}

pub(super) fn of(headers: Option<&Headers>) -> Edits {
    let Some(headers) = headers else { return Edits::default() };
    Edits { request: headers.request.as_ref().and_then(edits), response: headers.response.as_ref().and_then(edits) }
}

/// The host that changes of a request's headers ask for.
pub(super) fn authority(headers: Option<&Headers>) -> Option<String> {
    let request = headers?.request.as_ref()?;
    let both = request.set.iter().chain(&request.add);
    both.into_iter().find(|(name, _)| is_host(name)).map(|(_, value)| value.clone())
}

fn is_host(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority")
}

fn edits(written: &HeaderEdits) -> Option<wire::HeaderEdits> {
    let plain = |name: &str| !name.starts_with(':') && !is_host(name);
    let header = |(name, value): (&String, &String)| wire::Header {
        name: name.to_ascii_lowercase(),
        value: value.clone(),
        literal: false,
    };
    let made = wire::HeaderEdits {
        set: written.set.iter().filter(|(name, _)| plain(name)).map(header).collect(),
        add: written.add.iter().filter(|(name, _)| plain(name)).map(header).collect(),
        remove: written.remove.iter().filter(|name| plain(name)).map(|name| name.to_ascii_lowercase()).collect(),
    };
    (made != wire::HeaderEdits::default()).then_some(made)
}
