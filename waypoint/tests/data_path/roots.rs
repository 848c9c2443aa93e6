//! Servers that the machine's own roots verify, where nobody is named who does.

use std::{fs, process::Command};

use lateen_wire::proxy;

use crate::{
    authority::{Authority, sealed},
    rig::{Rig, Service, cluster},
};

/// Where a process of ours finds its machine's roots, in a directory of its own.
const ROOTS: &str = "roots.pem";

/// The environment is a process's: the test below is run in one of its own.
#[test]
fn without_an_authority_the_machines_own_roots_verify() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    child.args(["--ignored", "--exact", "roots::in_a_process_with_roots_of_its_own"]);
    child.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", directory.path().join(ROOTS)).current_dir(&directory);
    let output = child.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "run by without_an_authority_the_machines_own_roots_verify"]
async fn in_a_process_with_roots_of_its_own() {
    let (ca, other) = (Authority::new("root"), Authority::new("other"));
    let policy = proxy::TrafficPolicy { tls: Some(proxy::Tls::default()), ..Default::default() };
    let serving = || {
        let clusters = vec![cluster(proxy::Protocol::Http, policy.clone())];
        Rig::serving(Service { clusters, ..Service::default() }, &[])
    };
    let ask = b"GET / HTTP/1.1\r\nhost: a.example.com\r\nconnection: close\r\n\r\n";

    let rig = serving();
    let server = sealed(&rig, &ca.leaf(&["a.example.com"]), None).await;
    rig.endpoints(&[server.addr()]);
    let answer = rig.exchange(ask).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("own roots cannot be read"), "{answer}");
    assert_eq!(server.seen().len(), 0, "nothing is sent without them");

    // As soon as there are some, they count.
    fs::write(ROOTS, ca.pem()).expect("written");
    let answer = rig.exchange(ask).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let rig = serving();
    let stranger = sealed(&rig, &other.leaf(&["a.example.com"]), None).await;
    rig.endpoints(&[stranger.addr()]);
    let answer = rig.exchange(ask).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("UnknownIssuer"), "{answer}");
}
