//! The pages of `docs/tasks`, followed on a lab. What they say is what happens.
//!
//! One lab for all of them, one after the other: they work on the same example, and two labs would only be slower.

use lateen_tests::{deploy::root, lab::Lab};

const PAGES: [&str; 6] = [
    "request-routing.md",
    "traffic-shifting.md",
    "fault-injection.md",
    "request-timeouts.md",
    "circuit-breaking.md",
    "tcp-traffic-shifting.md",
];

#[test]
fn what_the_tasks_say_is_what_happens() {
    let lab = Lab::shared();
    PAGES.iter().for_each(|page| lab.follow(page));
}

#[test]
fn every_page_is_followed_and_listed() {
    let directory = root().join("docs/tasks");
    let list = std::fs::read_to_string(directory.join("README.md")).expect("a list of the pages");
    for entry in std::fs::read_dir(&directory).expect("a directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        if name.ends_with(".md") && name != "README.md" {
            assert!(PAGES.contains(&name.as_str()), "nobody follows {name}");
            assert!(list.contains(&format!("]({name})")), "README.md does not list {name}");
        }
    }
}
