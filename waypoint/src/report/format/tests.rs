//! Formats, and what they make of records.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use jiff::Timestamp;

use super::{Format, FormatError};
use crate::report::{
    Party,
    record::{Client, Line, Record, Upstream, kept},
};

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// A request as `format` keeps it.
fn record(format: &Format) -> Record {
    let request = headers(&[("user-agent", "curl/8"), ("x-request-id", "id-1"), ("x-evil", "a\"b")]);
    let response = headers(&[("x-envoy-upstream-service-time", "7")]);
    let client = Client {
        party: Arc::new(Party::default()),
        hop: "10.0.0.9:4444".parse().expect("an address"),
        own_identity: Some("spiffe://td/ns/a/sa/w".into()),
        server_name: None,
        tls_version: None,
        is_mutual: true,
    };
    Record {
        client: Arc::new(client),
        hostname: "w-1".into(),
        start: "2026-01-02T03:04:05.678Z".parse::<Timestamp>().expect("a time"),
        remote: "10.0.0.1:5555".parse().expect("an address"),
        local: "10.96.0.1:80".parse().expect("an address"),
        line: Some(Line {
            method: Method::GET,
            target: "/a?x=1".parse().expect("a target"),
            authority: Some(HeaderValue::from_static("s.a:80")),
            scheme: "http",
            version: Version::HTTP_11,
            headers: kept(format.request_headers(), &request),
        }),
        response: kept(format.response_headers(), &response),
        trailers: kept(format.trailers(), &HeaderMap::new()),
        status: 503,
        grpc_status: Some(14),
        flags: smallvec::smallvec!["UF", "URX"],
        details: "upstream_reset_before_response_started{connection timeout}".into(),
        termination: None,
        transport_failure: None,
        received: 3,
        sent: 95,
        duration: Duration::from_millis(12),
        request_took: None,
        answered_after: Some(Duration::from_millis(9)),
        upstream: Some(Upstream {
            host: Some("10.0.0.2:8080".parse().expect("an address")),
            local: None,
            cluster: "inbound-vip|80|http|s.a.svc.cluster.local".to_owned(),
            version: Some(Version::HTTP_2),
            attempts: 2,
        }),
        route: Some("default".into()),
    }
}

fn line(format: &Format) -> String {
    let mut out = String::new();
    format.write(&record(format), &mut out);
    out
}

#[test]
fn the_default_text_is_the_references() {
    let expected = "[2026-01-02T03:04:05.678Z] \"GET /a?x=1 HTTP/1.1\" 503 UF,URX \
        upstream_reset_before_response_started{connection_timeout} - \"-\" 3 95 12 7 \"-\" \"curl/8\" \"id-1\" \"s.a:80\" \
        \"10.0.0.2:8080\" inbound-vip|80|http|s.a.svc.cluster.local - 10.96.0.1:80 10.0.0.1:5555 - default\n";
    assert_eq!(line(&Format::text("").expect("compiles")), expected);
}

#[test]
fn the_default_json_has_numbers_and_nulls() {
    let text = line(&Format::json("").expect("compiles"));
    assert!(
        text.starts_with(r#"{"start_time":"2026-01-02T03:04:05.678Z","route_name":"default","method":"GET","#),
        "{text}"
    );
    assert!(text.ends_with("}\n"));
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["response_code"], 503);
    assert_eq!(value["bytes_sent"], 95);
    assert_eq!(value["upstream_service_time"], "7");
    assert!(value["x_forwarded_for"].is_null() && value["requested_server_name"].is_null());
    assert_eq!(value.as_object().expect("an object").len(), 23);
}

#[test]
fn own_formats_are_compiled_once_and_ended() {
    for (text, expected) in [
        ("%REQ(:METHOD)%", "GET\n"),
        ("%REQ(:METHOD)%\n", "GET\n"),
        ("100%% %RESPONSE_CODE%", "100% 503\n"),
        ("%START_TIME(%Y/%m/%d)%", "2026/01/02\n"),
        ("%REQ(USER-AGENT):4%", "curl\n"),
        ("%REQ(X-NONE?USER-AGENT)%|%REQ(X-NONE)%", "curl/8|-\n"),
        ("%REQ_WITHOUT_QUERY(:PATH)%", "/a\n"),
        ("%QUERY_PARAM(x)% %QUERY_PARAM(y)%", "1 -\n"),
        ("%RESPONSE_FLAGS_LONG%", "UpstreamConnectionFailure,UpstreamRetryLimitExceeded\n"),
        ("%GRPC_STATUS% %GRPC_STATUS_NUMBER% %GRPC_STATUS(NUMBER)%", "Unavailable 14 14\n"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_PROTOCOL%", "2 HTTP/2\n"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_PORT%", "10.0.0.1 4444\n"),
        ("%DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_PEER_URI_SAN%", "spiffe://td/ns/a/sa/w -\n"),
        ("%RESPONSE_DURATION% %RESPONSE_TX_DURATION% %REQUEST_DURATION%", "9 3 -\n"),
        ("%HOSTNAME% %TRACE_ID% %TRAILER(grpc-status)%", "w-1 - -\n"),
    ] {
        let format = Format::text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(line(&format), expected, "{text}");
    }
    let nested = Format::json(r#"{"a":"%RESPONSE_CODE%","b":{"c":"x-%RESPONSE_CODE%","d":"%REQ(x-evil)%"}}"#);
    let expected = "{\"a\":503,\"b\":{\"c\":\"x-503\",\"d\":\"a\\\"b\"}}\n";
    assert_eq!(line(&nested.expect("compiles")), expected);
}

#[test]
fn what_a_request_does_not_know_is_a_fault_of_the_configuration() {
    let unknown = |name: &str| FormatError::Unknown(name.to_owned());
    for (text, expected) in [
        ("%NONSENSE%", unknown("NONSENSE")),
        ("%CEL(request.path)%", unknown("CEL")),
        ("%DYNAMIC_METADATA(a:b)%", unknown("DYNAMIC_METADATA")),
        ("%VIRTUAL_CLUSTER_NAME%", unknown("VIRTUAL_CLUSTER_NAME")),
        ("%REQ(a b)%", FormatError::Argument("REQ(a b)".to_owned())),
        ("%REQ(a):x%", FormatError::Argument("REQ(a):x".to_owned())),
        ("%START_TIME(%!)%", FormatError::Argument("START_TIME(%!)".to_owned())),
        ("100%", FormatError::Open),
    ] {
        assert_eq!(Format::text(text), Err(expected), "{text}");
    }
    assert!(matches!(Format::json("[]"), Err(FormatError::Labels(_))));
    assert!(matches!(Format::json(r#"{"a":1}"#), Err(FormatError::Labels(_))));
}

/// Of a request that was refused before it was read, or of a connection, little is known.
#[test]
fn a_record_without_a_request_has_dashes() {
    let format =
        Format::text("%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %REQ(USER-AGENT)% %BYTES_SENT%").expect("compiles");
    let mut out = String::new();
    format.write(&Record { line: None, ..record(&format) }, &mut out);
    assert_eq!(out, "- - - - 95\n");
}
