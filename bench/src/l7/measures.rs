//! What is measured, by name. Pure.

use crate::{
    config::{NONE, PEER},
    measure::{Job, Measure, Route},
};

use super::scene::{Scene, Way};

/// Connections of clients.
const CONNECTIONS: usize = 64;

/// As many requests as possible: 100 routes, 50 policies, HTTP/1.1 on plain TCP.
pub(crate) const PLAIN: &str = "plain";
/// The same at half of Envoy's rate.
pub(crate) const HALF: &str = "plain.half";
/// 10 and 10,000 routes, no policy.
pub(crate) const ROUTES: &str = "routes";
/// As `plain`, with HBONE in and out.
pub(crate) const TUNNELS: &str = "tunnels";
/// Before the first request.
pub(crate) const IDLE: &str = "memory.idle";
/// With idle connections.
pub(crate) const HELD: &str = "memory.held";
/// With many routes.
pub(crate) const MANY: &str = "memory.routes10000";
/// All of them, in the order in which they are taken: memory of proxies without a past first.
pub(crate) const ALL: [&str; 7] = [IDLE, MANY, PLAIN, HALF, ROUTES, TUNNELS, HELD];

/// Few routes, and no policy.
pub(crate) const FEW: Scene = Scene { routes: 10, policies: 0, way: Way::Plain };
/// Many.
pub(crate) const THOUSANDS: Scene = Scene { routes: 10_000, ..FEW };

/// What of `routes` is told.
pub(crate) const RATE_FEW: &str = "rate, 10 routes";
/// The same with many.
pub(crate) const RATE_MANY: &str = "rate, 10,000 routes";
/// And how they compare.
pub(crate) const RATE_RATIO: &str = "rate, 10,000 / 10 routes";
/// Memory of a connection.
pub(crate) const EACH: &str = "RSS, each";

/// As many requests as possible.
pub(crate) fn full() -> Measure {
    Measure { route: Route::Same, job: Job::Requests(CONNECTIONS), quick: true }
}

/// So many a second.
pub(crate) fn paced(rate: f64) -> Measure {
    Measure { route: Route::Same, job: Job::Paced(CONNECTIONS, rate.max(1.0) as u32), quick: true }
}

/// The scenes that a measure takes of a column; the column without a proxy has none.
pub(crate) fn scenes(measure: &str, column: &str) -> Vec<Scene> {
    if column == NONE {
        return Vec::new();
    }
    match measure {
        PLAIN | HALF | HELD => vec![Scene::usual(Way::Plain)],
        ROUTES => vec![FEW, THOUSANDS],
        TUNNELS if column != PEER => vec![Scene::usual(Way::Tunnels)],
        IDLE => vec![FEW],
        MANY => vec![THOUSANDS],
        _ => Vec::new(),
    }
}

/// Whether a measure is taken of a column.
pub(crate) fn takes(measure: &str, column: &str) -> bool {
    let without_proxy = [PLAIN, HALF].contains(&measure);
    if column == NONE { without_proxy } else { !scenes(measure, column).is_empty() }
}

/// Whether Envoy's rate is to be known first.
pub(crate) fn needs_peer(measure: &str) -> bool {
    measure == HALF
}
