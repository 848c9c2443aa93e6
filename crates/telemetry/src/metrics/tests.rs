//! The text a scraper sees.
use std::io::Read as _;

use metrics::{Label, Unit};

use super::*;

const TABLE: [Description; 3] = [
    Description {
        name: "istio_tcp_received_bytes",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        help: "Bytes received",
        buckets: &[],
    },
    Description { name: "unused", kind: Kind::Gauge, unit: None, help: "Never set", buckets: &[] },
    Description {
        name: "wait_seconds",
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        help: "A wait (unstable)",
        buckets: &[0.5, 1.0],
    },
];

#[test]
fn the_text_is_open_metrics() {
    let registry = Registry::new(&TABLE);
    metrics::with_local_recorder(&registry, || {
        let labels = vec![Label::new("reporter", "source"), Label::new("app", "a\"b\\c\nd")];
        metrics::counter!("istio_tcp_received_bytes_total", labels.clone()).increment(4);
        metrics::counter!("istio_tcp_received_bytes", labels).increment(7);
        metrics::gauge!("open").set(2.5);
        let wait = metrics::histogram!("wait_seconds");
        for value in [0.25, 0.5, 0.75, 8.0] {
            wait.record(value);
        }
    });
    registry.collect_from(|samples| {
        samples.push(Sample {
            name: "busy_seconds",
            kind: Kind::Counter,
            help: "",
            labels: vec![("worker", "0".to_owned())],
            value: 1.5,
        });
    });
    let expected = r#"# TYPE busy_seconds counter
busy_seconds_total{worker="0"} 1.5
# HELP istio_tcp_received_bytes Bytes received
# TYPE istio_tcp_received_bytes counter
# UNIT istio_tcp_received_bytes bytes
istio_tcp_received_bytes_total{reporter="source",app="a\"b\\c\nd"} 11
# TYPE open gauge
open 2.5
# HELP wait_seconds A wait (unstable)
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
wait_seconds_sum 9.5
wait_seconds_count 4
wait_seconds_bucket{le="0.5"} 2
wait_seconds_bucket{le="1.0"} 3
wait_seconds_bucket{le="+Inf"} 4
# EOF
"#;
    assert_eq!(registry.render(), expected);
}

#[test]
fn a_family_of_one_kind_does_not_take_another() {
    let registry = Registry::default();
    metrics::with_local_recorder(&registry, || {
        metrics::counter!("thing").increment(1);
        metrics::gauge!("thing").set(5.0);
    });
    assert_eq!(registry.render(), "# TYPE thing counter\nthing_total 1\n# EOF\n");
}

#[test]
fn series_that_nobody_adds_to_are_forgotten() {
    let registry = Registry::default();
    let held = metrics::with_local_recorder(&registry, || {
        metrics::counter!("requests", "to" => "gone").increment(1);
        metrics::counter!("requests", "to" => "busy").increment(1);
        metrics::histogram!("sizes", "to" => "gone").record(1.0);
        metrics::counter!("others", "to" => "gone").increment(1);
        let held = metrics::counter!("requests", "to" => "held");
        held.increment(1);
        held
    });
    let look = || registry.expire(2, |family| family != "others");
    assert_eq!(look(), 0, "all are new");
    assert_eq!(look(), 0, "unchanged for the first time");
    metrics::with_local_recorder(&registry, || metrics::counter!("requests", "to" => "busy").increment(1));
    assert_eq!(look(), 2);
    let text = registry.render();
    assert!(!text.contains("requests_total{to=\"gone\"}") && !text.contains("sizes"), "{text}");
    assert!(text.contains("requests_total{to=\"busy\"} 2") && text.contains("others_total"), "{text}");
    held.increment(1);
    assert!(registry.render().contains("requests_total{to=\"held\"} 2"), "what is held counts on");
    drop(held);
    look();
    look();
    assert_eq!(look(), 1, "what was held is let go; the busy one went a look before");
}

#[test]
fn the_answer_follows_the_request() {
    let registry = Registry::default();
    metrics::with_local_recorder(&registry, || metrics::counter!("one").increment(1));
    let ask = |headers: &[(&str, &str)]| answer(&registry, &Request::test("GET", "/metrics", headers));

    let plain = ask(&[]);
    assert_eq!(plain.content_type, PLAIN_TEXT);
    assert!(plain.body.ends_with(b"# EOF\n"));

    let open = ask(&[("accept", "text/html;q=0.3, application/openmetrics-text;version=1.0.0;q=0.5")]);
    assert_eq!(open.content_type, OPEN_METRICS);

    let zipped = ask(&[("accept-encoding", "br;q=1.0, gzip;q=0.8")]);
    assert!(zipped.headers.contains(&("content-encoding", "gzip".to_owned())));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).expect("gzip");
    assert_eq!(text.as_bytes(), &plain.body[..]);

    let refused = ask(&[("accept-encoding", "gzip;q=0")]);
    assert_eq!(refused.body, plain.body);
}

#[test]
fn the_process_shows_its_descriptors() {
    let registry = Registry::default();
    registry.collect_from(process_collector);
    let text = registry.render();
    assert!(text.contains("\nprocess_open_fds "), "{text}");
    assert!(text.contains("\nprocess_max_fds "), "{text}");
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}
