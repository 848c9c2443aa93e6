//! What variables mean, and what the process says when it refuses them.
use std::time::Duration;

use lateen_identity::channel::{Roots, Token};
use prost_types::value::Kind;

use super::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    Config::from_vars(&Vars::new(pairs), None, 8).expect("a valid configuration")
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    Config::from_vars(&Vars::new(pairs), None, 8).expect_err("it should be refused").to_string()
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = config(&[]);
    assert_eq!(config.proxy.mode, ProxyMode::Shared);
    assert_eq!(config.proxy.in_pod.mark, Some(1337));
    assert_eq!(config.proxy.in_pod.uds.to_str(), Some("/var/run/ztunnel/ztunnel.sock"));
    assert_eq!(config.proxy.source, SourcePolicy::BestEffort);
    assert_eq!(config.proxy.hbone.stream_window, 4_194_304);
    assert_eq!(config.proxy.hbone.connection_window, 16_777_216);
    assert_eq!(config.proxy.hbone.frame_size, 1_048_576);
    assert_eq!(config.proxy.hbone.streams_max, 100);
    assert_eq!(config.proxy.hbone.unused_timeout, Duration::from_secs(300));
    assert_eq!(config.proxy.sockets.keepalive_time, Duration::from_secs(180));
    assert!(config.dns.enabled && config.dns.port == 15053 && config.dns.address.is_none());
    assert_eq!(config.place.cluster.as_str(), "Kubernetes");
    assert_eq!(config.control.server.as_ref().map(|server| server.address.as_str()), Some("https://localhost:15012"));
    assert_eq!(config.ca.secret_ttl, Duration::from_secs(86400));
    assert_eq!(config.admin.admin, AdminAddr::Localhost(15000));
    assert_eq!((config.worker_threads, config.drain_timeout), (2, Duration::from_secs(5)));
    assert_eq!(config.istio_version, "unknown");
}

#[test]
fn addresses_get_a_scheme_and_an_empty_one_switches_off() {
    let in_cluster = config(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]);
    assert_eq!(in_cluster.ca.server.address, "https://istiod.istio-system.svc:15012");
    let set = config(&[
        ("XDS_ADDRESS", "example.org:15010"),
        ("XDS_ROOT_CA", "/roots.pem"),
        ("CA_ADDRESS", "http://ca:80"),
        ("CA_ROOT_CA", "-----BEGIN CERTIFICATE-----"),
        ("XDS_HEADER_Foo", "bar"),
        ("AUTH_TOKEN", "tok123"),
        ("ALT_XDS_HOSTNAME", "istiod.other.svc"),
    ]);
    let server = set.control.server.expect("on");
    assert_eq!(
        (server.address.as_str(), server.roots),
        ("https://example.org:15010", Roots::File("/roots.pem".into()))
    );
    assert_eq!(server.headers, [("foo".to_owned(), "bar".to_owned())]);
    assert_eq!(server.token, Token::Inline("tok123".to_owned()));
    assert!(!format!("{:?}", server.token).contains("tok123"), "a token is not printed");
    assert_eq!(server.alternative_host.as_deref(), Some("istiod.other.svc"));
    assert!(set.ca.server.headers.is_empty());
    assert_eq!(set.ca.server.roots, Roots::Pem("-----BEGIN CERTIFICATE-----".to_owned()));
    assert_eq!(config(&[("CA_ADDRESS", "unix:///run/ca.sock")]).ca.server.address, "unix:///run/ca.sock");
    assert!(config(&[("XDS_ADDRESS", "")]).control.server.is_none());
    assert!(refusal(&[("CA_ADDRESS", "")]).contains("CA_ADDRESS"));
}

#[test]
fn the_environment_overrides_the_mesh_file_field_by_field() {
    let mesh = "defaultConfig:\n  discoveryAddress: file:1\n  statsPort: 1111\n  concurrency: 3\n  unknownField: {a: 1}\n  \
                proxyMetadata: {ISTIO_META_A: file, B: file, ISTIO_META_DNS_CAPTURE: \"false\"}\nrootNamespace: x\n";
    let vars = Vars::new(&[
        (
            "PROXY_CONFIG",
            "{\"discoveryAddress\": \"env:2\", \"proxyAdminPort\": 2222, \"proxyMetadata\": {\"B\": \"env\"}}",
        ),
        ("ISTIO_META_A", "variable"),
        ("ISTIO_META_CLUSTER_ID", "c1"),
        ("CLUSTER_ID", "c2"),
    ]);
    let config = Config::from_vars(&vars, Some(mesh), 8).expect("valid");
    assert_eq!(config.control.server.expect("on").address, "https://env:2");
    assert_eq!(config.admin, Admin { admin: AdminAddr::Localhost(2222), stats_port: 1111, ready_port: 15021 });
    assert_eq!(config.worker_threads, 3);
    assert_eq!(config.place.cluster.as_str(), "c1");
    assert!(!config.dns.enabled);
    let fields = config.control.node.metadata.expect("metadata").fields;
    let text = |key: &str| match &fields[key].kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{key} is {other:?}"),
    };
    assert_eq!((text("A"), text("B"), text("CLUSTER_ID")), ("variable".into(), "env".into(), "c1".into()));
}

#[test]
fn the_node_says_who_we_are() {
    let node = config(&[
        ("POD_NAME", "zt"),
        ("POD_NAMESPACE", "istio-system"),
        ("INSTANCE_IP", "10.0.0.1"),
        ("NODE_NAME", "n1"),
        ("ISTIO_METAJSON_LABELS", "{\"a\":1,\"b\":[true,null,\"x\"],\"c\":{\"d\":-2.5}}"),
    ])
    .control
    .node;
    assert_eq!(node.id, "ztunnel~10.0.0.1~zt.istio-system~istio-system.svc.cluster.local");
    let fields = node.metadata.expect("metadata").fields;
    let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
    assert_eq!(keys, ["INSTANCE_IPS", "LABELS", "NAME", "NAMESPACE", "NODE_NAME"]);
    let Some(Kind::StructValue(labels)) = &fields["LABELS"].kind else { panic!("not a struct") };
    assert_eq!(labels.fields["a"].kind, Some(Kind::NumberValue(1.0)));
    let Some(Kind::ListValue(list)) = &labels.fields["b"].kind else { panic!("not a list") };
    assert_eq!(list.values[0].kind, Some(Kind::BoolValue(true)));
    assert_eq!(list.values[1].kind, Some(Kind::NullValue(0)));
    assert_eq!(list.values[2].kind, Some(Kind::StringValue("x".into())));
}

#[test]
fn threads_follow_limits_requests_and_cores() {
    let threads = |pairs: &[(&str, &str)], cores| {
        Config::from_vars(&Vars::new(pairs), None, cores).expect("valid").worker_threads
    };
    assert_eq!(threads(&[], 1), 2);
    assert_eq!(threads(&[], 64), 16);
    assert_eq!(threads(&[("ZTUNNEL_RESOURCE_CPU_REQUEST", "3500m")], 4), 4);
    assert_eq!(threads(&[("ZTUNNEL_RESOURCE_CPU_LIMIT", "500m")], 64), 1);
    assert_eq!(threads(&[("ZTUNNEL_RESOURCE_CPU_LIMIT", "1"), ("ZTUNNEL_RESOURCE_CPU_REQUEST", "3")], 64), 3);
    assert_eq!(threads(&[("ZTUNNEL_WORKER_THREADS", "50%"), ("ZTUNNEL_CPU_LIMIT", "10")], 64), 5);
    assert_eq!(threads(&[("ZTUNNEL_WORKER_THREADS", "0")], 6), 6);
    assert_eq!(threads(&[("PROXY_CONFIG", "concurrency: 0")], 6), 6);
}

#[test]
fn the_drain_leaves_time_to_end() {
    let drain = |pairs: &[(&str, &str)]| config(pairs).drain_timeout.as_secs();
    assert_eq!(drain(&[("TERMINATION_GRACE_PERIOD_SECONDS", "30")]), 25);
    assert_eq!(drain(&[("TERMINATION_GRACE_PERIOD_SECONDS", "10")]), 9);
    assert_eq!(drain(&[("TERMINATION_GRACE_PERIOD_SECONDS", "1")]), 1);
    assert_eq!(drain(&[("TERMINATION_GRACE_PERIOD_SECONDS", "30"), ("CONNECTION_TERMINATION_DEADLINE", "2m")]), 120);
}

#[test]
fn pods_of_one_node_meet_directly_unless_told_otherwise() {
    assert!(config(&[]).proxy.same_node);
    assert!(config(&[("SAME_NODE", "direct")]).proxy.same_node);
    assert!(!config(&[("SAME_NODE", "hbone")]).proxy.same_node);
    let refused = refusal(&[("SAME_NODE", "off")]);
    for word in ["SAME_NODE", "direct", "hbone"] {
        assert!(refused.contains(word), "{refused}");
    }
}

#[test]
fn dedicated_mode_needs_its_workload_and_has_no_mark() {
    let config = config(&[("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "ns/name/sa")]);
    let ProxyMode::Dedicated(workload) = config.proxy.mode else { panic!("not dedicated") };
    assert_eq!((workload.namespace.as_str(), workload.service_account.as_str()), ("ns", "sa"));
    assert_eq!(config.proxy.in_pod.mark, None);
    assert!(refusal(&[("PROXY_MODE", "dedicated")]).contains("PROXY_WORKLOAD_INFO"));
}

#[test]
fn refusals_name_the_variable_and_the_mend() {
    let check = |pairs: &[(&str, &str)], words: &[&str]| {
        let text = refusal(pairs);
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    check(&[("PROXY_MODE", "both")], &["PROXY_MODE", "shared or dedicated"]);
    check(&[("IPV6_ENABLED", "maybe")], &["IPV6_ENABLED", "true or false"]);
    check(&[("SECRET_TTL", "soon")], &["SECRET_TTL", "10s"]);
    check(&[("ISTIO_META_DNS_PROXY_ADDR", "here")], &["ISTIO_META_DNS_PROXY_ADDR", "localhost:<port>"]);
    check(&[("ZTUNNEL_WORKER_THREADS", "many")], &["ZTUNNEL_WORKER_THREADS", "50%"]);
    check(&[("HTTP2_FRAME_SIZE", "1")], &["HTTP2_FRAME_SIZE", "16384"]);
    check(&[("LOG_FORMAT", "xml")], &["LOG_FORMAT", "plain or json"]);
    check(&[("PROXY_CONFIG", "[")], &["PROXY_CONFIG", "YAML"]);
    check(&[("ISTIO_METAJSON_X", "{")], &["ISTIO_METAJSON_X", "JSON"]);
    check(&[("XDS_ADDRESS", "ftp://x")], &["XDS_ADDRESS", "https://"]);
    check(&[("LOCAL_XDS", "a"), ("LOCAL_XDS_PATH", "b")], &["LOCAL_XDS_PATH and LOCAL_XDS"]);
    check(&[("XDS_ON_DEMAND", "true")], &["XDS_ON_DEMAND", "DNS_CAPTURE"]);
    check(&[("FAKE_CA", "true")], &["FAKE_CA", "CA_ADDRESS"]);
}

/// Errors go to logs, and any variable may hold a secret, at the latest when somebody mixes two up.
#[test]
fn refusals_never_show_what_was_given() {
    const SECRET: &str = "s3cr\u{1}t";
    for name in [
        "XDS_HEADER_AUTHORIZATION",
        "CA_HEADER_AUTHORIZATION",
        "XDS_ADDRESS",
        "CA_ADDRESS",
        "PROXY_CONFIG",
        "ISTIO_METAJSON_TOKEN",
        "ISTIO_META_DNS_PROXY_ADDR",
        "LOG_FORMAT",
        "SECRET_TTL",
        "ZTUNNEL_WORKER_THREADS",
        "ZTUNNEL_CPU_LIMIT",
        "PACKET_MARK",
        "PROXY_MODE",
        "COMPLIANCE_POLICY",
        "HTTP2_FRAME_SIZE",
        "INPOD_PORT_REUSE",
        "CRL_PATH",
    ] {
        let error = Config::from_vars(&Vars::new(&[(name, SECRET)]), None, 4).expect_err(name);
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(shown.contains(name) && !shown.contains("s3cr"), "{shown}");
        }
    }
    let mesh = "defaultConfig:\n  proxyMetadata: s3cret-token\n";
    let error = Config::from_vars(&Vars::new(&[]), Some(mesh), 4).expect_err("not a map").to_string();
    assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
    let config = Config::from_vars(&Vars::new(&[("AUTH_TOKEN", SECRET), ("XDS_HEADER_X", "s3cret")]), None, 4);
    let shown = format!("{:?}", config.expect("valid"));
    assert!(!shown.contains("s3cr"), "the settings themselves are printed without them: {shown}");
}

#[test]
fn what_this_build_cannot_do_is_refused_and_not_ignored() {
    let check = |name: &str, given: &str| {
        let text = refusal(&[(name, given)]);
        assert!(text.contains(name) && text.contains("this build") && text.contains("leave it unset"), "{text}");
    };
    check("ENABLE_PROXY", "false");
    check("TLS12_ENABLED", "true");
    check("UNSTABLE_ENABLE_SOCKS5", "true");
    check("CRL_PATH", "/etc/crl/revoked.pem");
    let same =
        [("ENABLE_PROXY", "true"), ("TLS12_ENABLED", "false"), ("UNSTABLE_ENABLE_SOCKS5", "0"), ("CRL_PATH", "")];
    assert!(!config(&same).proxy.pqc_only, "what changes nothing is accepted");
    assert!(config(&[("COMPLIANCE_POLICY", "pqc")]).proxy.pqc_only);
}

#[test]
fn the_systems_roots_are_a_file_or_a_clear_refusal() {
    let read = Config::from_vars(&Vars::new(&[("XDS_ROOT_CA", "SYSTEM")]), None, 4);
    match read {
        Ok(config) => {
            let server = config.control.server.expect("a server");
            assert!(matches!(server.roots, lateen_identity::channel::Roots::File(path) if path.exists()));
        }
        Err(error) => assert!(error.to_string().contains("name a PEM file"), "{error}"),
    }
}
