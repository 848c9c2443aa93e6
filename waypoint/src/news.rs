//! Waiting a little for what the control plane has not told us yet: others may have heard sooner than we.
//!
//! In: what is looked for in the book and the world. Out: it, once it is there, or nothing after a short while. Absent on
//! purpose: what follows from nothing.

use std::time::Duration;

use lateen_rt::deadline::within;
use lateen_state::wait::Demands;
use lateen_types::name::NamespacedHostname;

use crate::lane::Shared;

/// How long a client waits for what it calls to become known here.
pub const NEWS_TIMEOUT: Duration = Duration::from_secs(2);

/// What `look` finds, now or with one of the next changes.
pub async fn until<T>(shared: &Shared, look: impl Fn() -> Option<T>) -> Option<T> {
    if let Some(found) = look() {
        return Some(found);
    }
    let (mut books, mut worlds) = (shared.book.subscribe(), shared.world.subscribe());
    let told = async {
        loop {
            // Subscribed before, so that no change is missed.
            if let Some(found) = look() {
                return Some(found);
            }
            tokio::select! {
                changed = books.changed() => changed.ok()?,
                changed = worlds.changed() => changed.ok()?,
            }
        }
    };
    within("what is called to become known", NEWS_TIMEOUT, told).await.ok().flatten()
}

/// Waits for the endpoints of a service: they are asked for when the service is configured, and come after it.
pub async fn of_service(shared: &Shared, key: &NamespacedHostname) {
    if let Demands::On(asked) = &shared.demands {
        asked.inbox().push(key.to_string());
    }
    let known = || shared.world.load().service(key).is_some().then_some(());
    if until(shared, known).await.is_none() {
        tracing::debug!(service = %key, "the endpoints of a service have not arrived");
    }
}
