//! Who else gets a copy of a request.
//!
//! In: dice. Out: whether to send a copy, and the host it names. Absent on purpose: sending, and bodies.

use std::sync::Arc;

use super::fault::Share;
use crate::book::Upstream;

/// One mirror.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Where the copy goes, and of how many requests.
    pub share: Share<()>,
    /// The cluster.
    pub to: Arc<Upstream>,
}

/// The mirrors that get a copy; `dice` is thrown for each.
pub fn chosen(mirrors: &[Mirror], mut dice: impl FnMut() -> u64) -> impl Iterator<Item = &Arc<Upstream>> {
    mirrors.iter().filter(move |mirror| mirror.share.hits(dice()).is_some()).map(|mirror| &mirror.to)
}

/// The host of a copy where the mesh marks copies: `foo.com:8080` becomes `foo.com-shadow:8080`.
pub fn shadow(authority: &str) -> String {
    let host = crate::route::without_port(authority);
    format!("{host}-shadow{}", &authority[host.len()..])
}
