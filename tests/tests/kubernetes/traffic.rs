//! Two nodes, one label: plain before, TLS with it, plain after.

use super::{
    app::{APP_PORT, App, SECRET},
    driver::{SYSTEM, note, until},
    wire::{Capture, Wire},
};

const HBONE_PORT: u16 = 15008;

/// A call, and what crossed meanwhile; `None` where the wire is not ours to look at.
fn watched_call(app: &App) -> Option<Wire> {
    let Some(ours) = &app.cluster.ours else {
        note("NOT LOOKED AT: the wire between the nodes of this cluster");
        app.call().expect("an answer");
        return None;
    };
    let capture = Capture::begin(app.cluster, ours);
    let answer = app.call();
    let wire = capture.finish();
    let answer = answer.expect("an answer");
    assert!(answer.contains("Hostname: server-"), "{answer}");
    note(format_args!(
        "{}: ports {:?}; to {APP_PORT} {} bytes, to {HBONE_PORT} {} bytes; the secret is {}",
        app.namespace,
        wire.ports(),
        wire.bytes_to(APP_PORT),
        wire.bytes_to(HBONE_PORT),
        if wire.shows(SECRET) { "READABLE" } else { "not readable" }
    ));
    Some(wire)
}

/// Fails where anything but TLS to port 15008 crossed.
pub fn assert_tunnelled(wire: &Wire) {
    assert!(wire.bytes_to(HBONE_PORT) > 0, "nothing went to port {HBONE_PORT}");
    assert!(wire.only_tls_to(HBONE_PORT), "what went to port {HBONE_PORT} is not TLS");
    assert_eq!(wire.bytes_to(APP_PORT), 0, "something went to port {APP_PORT} in plain");
    assert!(!wire.shows(SECRET), "the secret can be read on the wire");
}

fn assert_plain(app: &App) {
    until("calls go in plain", || {
        let wire = watched_call(app);
        let Some(wire) = wire else { return Some(()) };
        (wire.bytes_to(APP_PORT) > 0 && wire.bytes_to(HBONE_PORT) == 0 && wire.shows(SECRET)).then_some(())
    });
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_label_encrypts_and_its_removal_ends_it() {
    let app = App::start("lateen-test-traffic");
    assert_plain(&app);
    app.label();
    if let Some(wire) = watched_call(&app) {
        assert_tunnelled(&wire);
    }
    both_identities_are_on_record(&app);
    app.cluster.kubectl(&["label", "namespace", app.namespace, "istio.io/dataplane-mode-"]);
    app.enrolled(0);
    assert_plain(&app);
}

fn both_identities_are_on_record(app: &App) {
    let record = until("both ends write an access record", || {
        let logs = app.cluster.kubectl(&["logs", "-n", SYSTEM, "-l", "app=ztunnel", "--tail=300"]);
        let of_app = |line: &&str| {
            ["client", "server"]
                .iter()
                .all(|account| line.contains(&format!("spiffe://cluster.local/ns/{}/sa/{account}", app.namespace)))
        };
        let lines: Vec<&str> = logs.lines().filter(of_app).collect();
        let both = ["outbound", "inbound"].iter().all(|way| lines.iter().any(|line| line.contains(way)));
        both.then(|| lines.last().map(|line| (*line).to_owned()))?
    });
    note(record);
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_pod_that_starts_in_a_labelled_namespace_is_never_bare() {
    let app = App::start_enrolled("lateen-test-newborn");
    let Some(ours) = &app.cluster.ours else {
        println!("NOT LOOKED AT: the wire between the nodes of this cluster");
        return;
    };
    let capture = Capture::begin(app.cluster, ours);
    // Calls from its first moment on.
    let script = format!(
        "until timeout 10 wget -q -O - 'http://server.{}.svc.cluster.local/pay?{SECRET}'; do :; done; sleep infinity",
        app.namespace
    );
    app.pod("newborn", &script);
    until("the pod's first call is answered", || {
        let log = app.cluster.try_kubectl(&["logs", "-n", app.namespace, "newborn"]).ok()?;
        log.contains("Hostname: server-").then_some(())
    });
    assert_tunnelled(&capture.finish());
}
