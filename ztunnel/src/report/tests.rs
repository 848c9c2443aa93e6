use metrics::Label;

use super::*;
use crate::fixtures::{HOST, pod, service, world};

fn labels_of(source: &Party, destination: &Party, service: Option<&Arc<Service>>) -> Vec<(String, String)> {
    let labelled = Labelled { reporter: "source", source, destination, service, security: Security::MutualTls };
    let pair = |label: &Label| (label.key().to_owned(), label.value().to_owned());
    labelled.labels(Flag::Deny).iter().map(pair).collect()
}

#[test]
fn labels_come_in_order_with_unknown_for_what_is_missing() {
    let store = world(&[pod("server", &["10.0.0.2"])], &[service(HOST, &[], &[(80, 80)])]);
    let world = store.load();
    let workload = world.workload(&"Kubernetes//Pod/shop/server".into()).expect("known");
    let destination = Party::workload(workload).proven(Some(workload.identity.clone()));
    let labels = labels_of(&Party::default(), &destination, world.services().next());
    let names: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..3], ["reporter", "source_workload", "source_canonical_service"]);
    assert_eq!(names[9..12], ["destination_service", "destination_service_namespace", "destination_service_name"]);
    assert_eq!(names[20..23], ["request_protocol", "response_flags", "connection_security_policy"]);
    assert_eq!(names[23..], ["source_region", "source_zone", "destination_region", "destination_zone"]);
    let value = |name: &str| labels.iter().find(|(key, _)| key == name).expect("there").1.as_str();
    assert_eq!(value("source_workload"), "unknown");
    assert_eq!(value("destination_service"), HOST);
    assert_eq!(value("destination_principal"), "spiffe://cluster.local/ns/shop/sa/server");
    assert_eq!(value("destination_workload_namespace"), "shop");
    assert_eq!((value("response_flags"), value("connection_security_policy")), ("DENY", "mutual_tls"));
}

#[test]
fn localities_are_left_out_when_nobody_is_known() {
    assert_eq!(labels_of(&Party::default(), &Party::default(), None).len(), 23);
}

#[test]
fn baggage_names_the_app_after_the_workload() {
    let baggage =
        lateen_hbone::request::Baggage { workload: Some("w".into()), service: Some("s".into()), ..Default::default() };
    let labels = labels_of(&Party::baggage(&baggage), &Party::default(), None);
    let value = |name: &str| labels.iter().find(|(key, _)| key == name).expect("there").1.as_str();
    assert_eq!((value("source_app"), value("source_canonical_service"), value("source_workload")), ("w", "s", "w"));
}

fn opening(source: &Party, destination: &Party) -> Opening {
    Opening {
        direction: Direction::Outbound,
        client: "10.0.0.1:1000".parse().expect("valid"),
        hop: None,
        authority: None,
        source: source.clone(),
        destination: destination.clone(),
        service: None,
        security: Security::MutualTls,
        began: Instant::now(),
    }
}

fn closed(registry: &lateen_telemetry::metrics::Registry) -> Vec<String> {
    let text = registry.render();
    text.lines().filter(|line| line.starts_with("istio_tcp_connections_closed_total")).map(str::to_owned).collect()
}

/// What one connection between `source` and `destination` adds, as the registry shows it.
fn counted(registry: &lateen_telemetry::metrics::Registry, source: &Party, destination: &Party) -> Vec<String> {
    let opening = opening(source, destination);
    metrics::with_local_recorder(registry, || Report::open(opening, &Drain::new()).complete());
    closed(registry)
}

#[test]
fn what_ends_after_its_pods_end_was_cut_by_it() {
    let registry = lateen_telemetry::metrics::Registry::default();
    let drain = Drain::new();
    metrics::with_local_recorder(&registry, || {
        let report = Report::open(opening(&Party::default(), &Party::default()), &drain);
        drain.start();
        drain.force();
        // Its tunnel broke first, which looks like an end.
        report.complete();
    });
    let closed = closed(&registry);
    let count = |flag: &str| closed.iter().find(|line| line.contains(flag)).and_then(|line| line.rsplit(' ').next());
    assert_eq!((count("flags=\"CONNECT\""), count("flags=\"-\"")), (Some("1"), Some("0")), "{closed:?}");
}

#[test]
fn remembered_counters_follow_the_parties_not_their_addresses() {
    let registry = lateen_telemetry::metrics::Registry::default();
    let store = world(&[pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.2"])], &[]);
    let snapshot = store.load();
    let known = |name: &str| {
        let workload = snapshot.workload(&format!("Kubernetes//Pod/shop/{name}").as_str().into()).expect("known");
        Party::workload(workload).proven(Some(workload.identity.clone()))
    };
    let (a, b) = (known("a"), known("b"));
    assert_eq!(counted(&registry, &a, &b).len(), 1);
    let again = counted(&registry, &a, &b);
    assert_eq!(again.len(), 1);
    assert!(again[0].ends_with(" 2"), "{again:?}");
    assert_eq!(handles::remembered(), 1);
    // Each part of the key makes a series of its own.
    assert_eq!(counted(&registry, &b, &a).len(), 2);
    let other = "spiffe://cluster.local/ns/shop/sa/other".parse().expect("valid");
    assert_eq!(counted(&registry, &a.clone().proven(Some(other)), &b).len(), 3);
    assert_eq!(counted(&registry, &Party::default(), &b).len(), 4);
    assert_eq!(handles::remembered(), 4);
    // The world replaces a workload: the old object's counters are not the new one's.
    let renamed = lateen_wire::workload::Workload { workload_name: "renamed".into(), ..pod("a", &["10.0.0.1"]) };
    let newer = world(&[renamed], &[]).load();
    let renamed = newer.workload(&"Kubernetes//Pod/shop/a".into()).expect("known");
    let lines = counted(&registry, &Party::workload(renamed).proven(Some(renamed.identity.clone())), &b);
    assert!(lines.iter().any(|line| line.contains("source_workload=\"renamed\"") && line.ends_with(" 1")), "{lines:?}");
}

#[test]
fn what_is_remembered_is_bounded_and_does_not_keep_the_world() {
    let registry = lateen_telemetry::metrics::Registry::default();
    let destination = Party::default();
    for _ in 0..5_000 {
        let store = world(&[pod("a", &["10.0.0.1"])], &[]);
        let held = store.load().workload(&"Kubernetes//Pod/shop/a".into()).expect("known").clone();
        let before = Arc::strong_count(&held);
        counted_quietly(&registry, &Party::workload(&held), &destination);
        assert_eq!(Arc::strong_count(&held), before);
    }
    assert!(handles::remembered() <= 2_048, "{}", handles::remembered());
}

fn counted_quietly(registry: &lateen_telemetry::metrics::Registry, source: &Party, destination: &Party) {
    let labelled = Labelled { reporter: "source", source, destination, service: None, security: Security::Unknown };
    metrics::with_local_recorder(registry, || Handles::of(&labelled).opened.increment(1));
}

/// What lives as long as a connection and is ours: 10,000 idle ones must stay small. Raise it only with a reason.
#[test]
fn a_report_stays_small() {
    assert!(size_of::<Report>() <= 320, "{}", size_of::<Report>());
    assert!(size_of::<Flow>() <= 32, "{}", size_of::<Flow>());
}
