//! The mesh for an ordinary user: no privilege but user namespaces.

use std::fs;

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
    until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

/// A user this machine has no name for.
const NOBODY_IN_PARTICULAR: u32 = 54_321;

#[test]
fn an_ordinary_user_has_the_mesh_too_and_leaves_nothing() {
    let lab = Lab::start_as(geteuid().is_root().then_some(NOBODY_IN_PARTICULAR));
    let parts = [
        namespace("user", true),
        echo("user/client", "node-1", ""),
        echo("user/server", "node-2", ""),
        service("user/server", "app: server", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("user", &["--all"]);
    lab.enrolled("user", &["client", "server"]);
    let capture = lab.capture();
    lab.get("user/client", "http://server.user/?my-secret").expect("an answer");
    let wire = capture.finish();
    assert!(wire.bytes_to(15008) > 0 && !wire.shows("my-secret"));

    let first = Pid::from_raw(lab.first_process());
    let theirs = fs::read_link(format!("/proc/{first}/ns/pid")).expect("it runs");
    kill(first, Signal::SIGKILL).expect("killed");
    until("every process is gone", || {
        let mut all = fs::read_dir("/proc").expect("listed").flatten();
        let lives = all.any(|entry| fs::read_link(entry.path().join("ns/pid")).is_ok_and(|of| of == theirs));
        (!lives).then_some(())
    });
}
