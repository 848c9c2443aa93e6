//! The pages of `docs/tasks`, followed on a lab. What they say is what happens.
//!
//! Pages that work on the same example follow one another; the others have namespaces of their own, and go on beside them.

use lateen_tests::{deploy::root, lab::Lab};

/// On the example.
const BOOKS: &[&str] = &[
    "request-routing.md",
    "traffic-shifting.md",
    "fault-injection.md",
    "request-timeouts.md",
    "circuit-breaking.md",
    "mirroring.md",
    "ingress.md",
    "istio-gateway.md",
];

/// Each in namespaces of its own.
const OTHERS: &[&str] = &[
    "tcp-traffic-shifting.md",
    "authorization.md",
    "egress-tls.md",
    "tls-passthrough.md",
    "tcp-ingress.md",
    "grpc-and-websockets.md",
];

#[test]
fn what_is_said_of_the_example_is_what_happens() {
    let lab = Lab::shared();
    BOOKS.iter().for_each(|page| lab.follow(page));
}

#[test]
fn what_the_other_pages_say_is_what_happens() {
    let lab = Lab::shared();
    OTHERS.iter().for_each(|page| lab.follow(page));
}

#[test]
fn every_page_is_followed_and_listed() {
    let directory = root().join("docs/tasks");
    let list = std::fs::read_to_string(directory.join("README.md")).expect("a list of the pages");
    for entry in std::fs::read_dir(&directory).expect("a directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        if name.ends_with(".md") && name != "README.md" {
            assert!(BOOKS.iter().chain(OTHERS).any(|page| *page == name), "nobody follows {name}");
            assert!(list.contains(&format!("]({name})")), "README.md does not list {name}");
        }
    }
}
