//! Requests from their beginning to their record and their counters.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::Write,
    sync::{Arc, mpsc},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Version};
use jiff::Timestamp;
use lateen_hbone::request::Baggage;
use lateen_telemetry::metrics::Registry;
use tokio::time::Instant;

use super::{
    Client, Ending, Head, Opening, Report, Reporter, Reporting, Writer, catalogue, format::Format, handles, judged, tcp,
};

/// Takes what is written.
struct Lines(mpsc::SyncSender<String>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Bed {
    reporting: Arc<Reporting>,
    client: Arc<Client>,
    format: Arc<Format>,
    lines: mpsc::Receiver<String>,
    /// Lines that came with one write and were not asked for yet.
    read: RefCell<VecDeque<String>>,
    _writer: Writer,
    registry: Registry,
}

impl Bed {
    fn new(format: &str) -> Self {
        let (out, lines) = mpsc::sync_channel(64);
        let writer = Writer::start(Lines(out)).expect("a thread");
        let reporting = Arc::new(Reporting::new(writer.log(), "w-1"));
        let identity = "spiffe://td/ns/a/sa/x".parse().expect("an identity");
        let baggage = Baggage { workload: Some("caller".to_owned()), ..Baggage::default() };
        let client = Client {
            party: reporting.party(None, &baggage, Some(&identity)),
            hop: ([10, 0, 0, 9], 4444).into(),
            own_identity: None,
            server_name: None,
            tls_version: None,
            is_mutual: true,
        };
        Self {
            reporting,
            client: Arc::new(client),
            format: Arc::new(Format::text(format).expect("compiles")),
            lines,
            read: RefCell::default(),
            _writer: writer,
            registry: Registry::new(catalogue::TABLE),
        }
    }

    fn report(&self) -> Report {
        let opening = Opening {
            reporter: Reporter::Waypoint,
            client: &self.client,
            format: Some(&self.format),
            began: Instant::now(),
            start: Timestamp::UNIX_EPOCH,
            is_grpc: false,
        };
        Report::open(&self.reporting, &opening)
    }

    fn line(&self) -> String {
        let mut read = self.read.borrow_mut();
        while read.is_empty() {
            let text = self.lines.recv_timeout(Duration::from_secs(10)).expect("a line");
            read.extend(text.split_inclusive('\n').map(ToOwned::to_owned));
        }
        read.pop_front().expect("there is one")
    }

    /// The value of the first series whose line begins with `name` and holds all of `parts`.
    fn value(&self, name: &str, parts: &[&str]) -> Option<f64> {
        let text = self.registry.render();
        let line = text.lines().find(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

#[test]
fn a_request_is_recorded_and_counted_once() {
    let bed =
        Bed::new("%REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESP(x-a)% %BYTES_SENT%");
    metrics::with_local_recorder(&bed.registry, || {
        let mut report = bed.report();
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("s.a"));
        report.asked(&Head {
            method: &Method::POST,
            target: None,
            scheme: "http",
            version: Version::HTTP_2,
            headers: &headers,
            remote: ([10, 0, 0, 1], 1).into(),
            local: ([10, 96, 0, 1], 80).into(),
        });
        let mut answer = HeaderMap::new();
        answer.insert("x-a", HeaderValue::from_static("b"));
        report.answered(200, &answer);
        report.finish(Ending { details: "via_upstream".into(), received: 5, sent: 7, ..Ending::default() });
    });
    assert_eq!(bed.line(), "POST s.a 200 via_upstream b 7\n");
    let labels = [
        "reporter=\"waypoint\"",
        "source_workload=\"caller\"",
        "source_principal=\"spiffe://td/ns/a/sa/x\"",
        "destination_service=\"unknown\"",
        "request_protocol=\"http\"",
        "response_code=\"200\"",
        "grpc_response_status=\"\"",
        "response_flags=\"-\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    assert_eq!(bed.value("istio_requests_total", &labels), Some(1.0));
    assert_eq!(bed.value("istio_request_bytes_sum", &labels), Some(5.0));
    assert_eq!(bed.value("istio_response_bytes_sum", &labels), Some(7.0));
    assert_eq!(bed.value("istio_request_duration_milliseconds_count", &labels), Some(1.0));
    assert_eq!(bed.value("istio_request_duration_milliseconds_bucket", &["le=\"3600000"]), Some(1.0));
    assert!(bed.read.borrow().is_empty() && bed.lines.try_recv().is_err(), "one record");
}

#[test]
fn what_was_forgotten_is_told() {
    let bed = Bed::new("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%");
    metrics::with_local_recorder(&bed.registry, || drop(bed.report()));
    assert_eq!(bed.line(), "0 DC downstream_remote_disconnect\n");
    assert_eq!(bed.value("istio_requests_total", &["response_code=\"0\"", "response_flags=\"DC\""]), Some(1.0));
}

#[test]
fn counters_are_named_once_for_each_label_set() {
    let bed = Bed::new("x");
    metrics::with_local_recorder(&bed.registry, || {
        for status in [200, 200, 503, 200] {
            let mut report = bed.report();
            report.answered(status, &HeaderMap::new());
            report.finish(Ending::default());
        }
    });
    assert_eq!(handles::remembered(), 2);
    assert_eq!(bed.value("istio_requests_total", &["response_code=\"200\""]), Some(3.0));
    let baggage = Baggage { workload: Some("caller".to_owned()), ..Baggage::default() };
    let identity = "spiffe://td/ns/a/sa/x".parse().expect("an identity");
    let again = bed.reporting.party(None, &baggage, Some(&identity));
    assert!(Arc::ptr_eq(&again, &bed.client.party), "another connection of the same client counts with it");
    let other = bed.reporting.party(None, &Baggage::default(), Some(&identity));
    assert!(!Arc::ptr_eq(&other, &bed.client.party));
}

#[test]
fn a_connection_is_opened_and_closed_once_and_flushed_between() {
    let bed = Bed::new("%REQ(:METHOD)% %BYTES_RECEIVED% %BYTES_SENT% %CONNECTION_TERMINATION_DETAILS%");
    let opening = tcp::Opening {
        reporter: Reporter::Waypoint,
        client: &bed.client,
        format: Some(&bed.format),
        ends: tcp::Ends { remote: ([10, 0, 0, 1], 1).into(), local: ([10, 96, 0, 1], 27017).into() },
        service: None,
        workload: None,
    };
    metrics::with_local_recorder(&bed.registry, || {
        let mut report = tcp::Report::open(&bed.reporting, &opening);
        report.flush(10, 20);
        assert_eq!(bed.value("istio_tcp_received_bytes_total", &["request_protocol=\"tcp\""]), Some(10.0));
        let termination = Some("rbac_access_denied_matched_policy[none]".into());
        report.finish(Ending { received: 11, sent: 22, termination, ..Ending::default() });
        drop(tcp::Report::open(&bed.reporting, &opening));
    });
    assert_eq!(bed.line(), "- 11 22 rbac_access_denied_matched_policy[none]\n");
    assert_eq!(bed.line(), "- 0 0 -\n");
    assert_eq!(bed.value("istio_tcp_sent_bytes_total", &[]), Some(22.0));
    assert_eq!(bed.value("istio_tcp_connections_opened_total", &[]), Some(2.0));
    assert_eq!(bed.value("istio_tcp_connections_closed_total", &["response_flags=\"-\""]), Some(1.0));
    assert_eq!(bed.value("istio_tcp_connections_closed_total", &["response_flags=\"DC\""]), Some(1.0));
    let opened = bed.registry.render();
    assert!(!opened.contains("response_code"), "a connection has no answer");
}

#[test]
fn denials_and_dry_runs_are_counted_by_policy() {
    use crate::authorize::{Decision, DryRun, Refusal, Speaker, Verdict};
    let bed = Bed::new("x");
    let key = "foo/bar".parse().expect("a key");
    let speaker = Speaker { policy: &key, rule: 0 };
    metrics::with_local_recorder(&bed.registry, || {
        let decision = Decision::Refused(Refusal::Denied(speaker));
        judged(&Verdict { decision, audited: None, dry_run: vec![DryRun::WouldDeny(speaker)] });
    });
    let denied = ["reason=\"denied_by_policy\"", "policy=\"foo/bar\""];
    assert_eq!(bed.value("lateen_requests_denied_total", &denied), Some(1.0));
    let tried = ["action=\"deny\"", "result=\"denied\"", "policy=\"foo/bar\""];
    assert_eq!(bed.value("istio_authz_dry_run_total", &tried), Some(1.0));
}
