use super::*;
use crate::fixtures::{HOST, pod, service, world};

fn labels_of(source: &Party, destination: &Party, service: Option<&Service>) -> Vec<(String, String)> {
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
    let labels = labels_of(&Party::default(), &destination, world.services().next().map(|service| &**service));
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
