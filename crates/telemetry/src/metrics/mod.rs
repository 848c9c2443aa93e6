//! The metrics registry behind the crate `metrics`.
//!
//! In: `metrics::counter!`, `gauge!`, `histogram!` from anywhere, and collectors that are asked at each scrape.
//! Out: OpenMetrics text ([`Registry::render`]) and the HTTP answer that carries it ([`answer`]).
//! Absent on purpose: any program's metric names; a program hands its table of [`Description`]s to [`Registry::new`].

mod expire;
mod process;
mod registry;
mod render;
#[cfg(test)]
mod tests;

pub use process::{process_collector, runtime_collector};
pub use registry::{Description, Kind, Registry, SERIES_PER_FAMILY_MAX, Sample};

use crate::admin::{Answer, Request};

const OPEN_METRICS: &str = "application/openmetrics-text;charset=utf-8;version=1.0.0";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// The answer to a scrape: the same text whatever is accepted, under the content type the scraper knows,
/// compressed if it takes gzip.
pub fn answer(registry: &Registry, request: &Request) -> Answer {
    let accepts_open_metrics = request.header("accept").is_some_and(|accept| {
        accept.split(',').any(|element| {
            let media_type = element.split(';').next().unwrap_or_default();
            media_type.trim().eq_ignore_ascii_case("application/openmetrics-text")
        })
    });
    let content_type = if accepts_open_metrics { OPEN_METRICS } else { PLAIN_TEXT };
    Answer::new(200, content_type, registry.render()).compressed_for(request)
}
