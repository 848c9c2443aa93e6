//! What is counted and logged of each query.

use std::time::Duration;

use hickory_proto::rr::RecordType;
use lateen_state::workload::Workload;
use metrics::Label;

/// How the query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One query's labels.
pub(super) struct Report {
    labels: Vec<Label>,
}

impl Report {
    /// Counts the query.
    pub(super) fn begin(record_type: RecordType, transport: Transport, client: &Workload) -> Self {
        let kind = match record_type {
            // 65,000 possible numbers must not become as many series.
            RecordType::Unknown(_) => "unknown".to_owned(),
            known => known.to_string().to_ascii_lowercase(),
        };
        let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        let protocol = match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        let labels = vec![
            Label::new("request_query_type", kind),
            Label::new("request_protocol", protocol),
            Label::new("source_canonical_service", or_unknown(&client.canonical_name)),
            Label::new("source_canonical_revision", or_unknown(&client.canonical_revision)),
        ];
        metrics::counter!("istio_dns_requests", labels.clone()).increment(1);
        Self { labels }
    }

    /// Counts one forwarded query and how long it took.
    pub(super) fn forwarded(&self, took: Duration, failed: bool) {
        metrics::counter!("istio_dns_upstream_requests", self.labels.clone()).increment(1);
        if failed {
            metrics::counter!("istio_dns_upstream_failures", self.labels.clone()).increment(1);
        }
        metrics::histogram!("istio_dns_upstream_request_duration_seconds", self.labels.clone()).record(took);
    }
}
