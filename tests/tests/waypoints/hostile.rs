//! Clients that leave, stall, pour and drip, and servers that do not read, do not answer or do not end: others are served
//! meanwhile, memory has a bound, and in the end nothing is left of any of them, at the waypoint or the ztunnels of the path.

use std::sync::Arc;

use lateen_tests::lab::{
    Lab, Load,
    manifest::{echo, namespace},
    until,
};

use crate::call::{Program, deployment, port, rolled_out};

const CLIENT: &str = "hostile/client";
const OTHER: &str = "hostile/other";
const GATEWAY: &str = "hostile/waypoint";
const URL: &str = "http://server.hostile/";
const MIB: f64 = 1024.0 * 1024.0;
/// What a pod of the waypoint, or a ztunnel, may take beside what it took at rest, whatever clients do here: for each of the
/// hundred and fifty that stall at a time the windows and buffers of two streams, one from its client and one to its server.
const MEMORY_MAX: f64 = 150.0 * 2.0 * MIB;
/// What is kept of it when all is over: what the allocator holds for the next.
const KEPT_MAX: f64 = 64.0 * MIB;
/// Connections to the server that are kept for the next request when all is over; fewer than of any kind of client here.
const KEPT_CONNECTIONS: f64 = 40.0;

/// A waypoint with its surroundings, and what they took at rest.
struct Town {
    lab: Arc<Lab>,
    waypoint: Vec<Load>,
    ztunnels: Vec<Load>,
}

fn most(loads: &[Load]) -> f64 {
    loads.iter().map(|load| load.memory).fold(0.0, f64::max)
}

impl Town {
    fn new() -> Self {
        let lab = Lab::shared();
        let parts = [
            namespace("hostile", true),
            echo(CLIENT, "node-1", ""),
            echo(OTHER, "node-1", ""),
            deployment("hostile/server", (Program::Server, &["8080", "server"]), 8080, 1),
            port("hostile/server", ("http", 80), 8080),
        ];
        lab.apply(&parts.concat());
        lab.ready("hostile", &["client", "other"]);
        rolled_out(&lab, "hostile", "server");
        lab.waypoint("hostile", (CLIENT, URL));
        until("both pods of the waypoint are there", || (lab.loads(OTHER, GATEWAY).len() == 2).then_some(()));
        let (waypoint, ztunnels) = (lab.loads(OTHER, GATEWAY), lab.ztunnels(OTHER, "hostile"));
        Self { lab, waypoint, ztunnels }
    }

    fn now(&self) -> [Vec<Load>; 2] {
        [self.lab.loads(OTHER, GATEWAY), self.lab.ztunnels(OTHER, "hostile")]
    }

    fn hostile(&self, words: &[&'static str]) -> String {
        let said = Program::Hostile.ask(&self.lab, CLIENT, &[&["server.hostile", "80"], words].concat());
        said.unwrap_or_else(|error| error).trim().to_owned()
    }

    /// Nobody takes more than it may.
    fn bounded(&self, when: &str) {
        for (now, rest) in self.now().iter().zip([&self.waypoint, &self.ztunnels]) {
            assert!(most(now) < most(rest) + MEMORY_MAX, "{when}: {now:?}; at rest: {rest:?}");
        }
    }

    /// So many clients ask for `path` and read nothing; others are served meanwhile.
    fn stalled(&self, count: &'static str, path: &'static str) {
        let words = ["server.hostile", "80", "stall", count, "/tmp/enough", path];
        let mut clients = self.lab.run(CLIENT, &Program::Hostile.command(&words));
        let wanted: f64 = count.parse().expect("a number");
        until(&format!("{count} of {path} are under way"), || {
            let active: f64 = self.lab.loads(OTHER, GATEWAY).iter().map(|load| load.active).sum();
            assert!(!clients.has_ended(), "the clients ended");
            (active >= wanted).then_some(())
        });
        self.lab.get(OTHER, URL).expect("others are served");
        self.bounded(&format!("with {count} of {path}"));
        self.lab.exec(CLIENT, &["touch", "/tmp/enough"]).expect("told");
        clients.finish().expect("they leave");
        self.lab.exec(CLIENT, &["rm", "/tmp/enough"]).expect("removed");
        self.idle(path);
    }

    fn idle(&self, after: &str) {
        until(&format!("nothing is under way after {after}"), || {
            let now = self.lab.loads(OTHER, GATEWAY);
            now.iter().all(|load| load.active == 0.0).then_some(())
        });
    }

    /// What it does not read is its ztunnel's to keep until it gives up, and the tunnels of others stand behind it.
    fn server_is_alone(&self) {
        // One request more than those that were left: this one.
        let under_way = || self.lab.get(OTHER, &format!("{URL}under-way"));
        until("the server has nobody either", || (under_way().ok()? == "0").then_some(()));
    }

    /// Neither requests nor connections, descriptors or memory.
    fn left(&self) {
        self.idle("everything");
        let descriptors = |loads: &[Load]| loads.iter().map(|load| load.descriptors).fold(0.0, f64::max);
        until("descriptors are given back", || {
            let now = self.lab.loads(OTHER, GATEWAY);
            (descriptors(&now) < descriptors(&self.waypoint) + 20.0).then_some(())
        });
        until("the ztunnels carry nobody", || {
            let now = self.lab.ztunnels(OTHER, "hostile");
            now.iter().all(|load| load.active < KEPT_CONNECTIONS).then_some(())
        });
        until("memory is given back", || {
            let [waypoint, ztunnels] = self.now();
            let kept = |now: &[Load], rest: &[Load]| most(now) < most(rest) + KEPT_MAX;
            (kept(&waypoint, &self.waypoint) && kept(&ztunnels, &self.ztunnels)).then_some(())
        });
    }
}

#[test]
fn nothing_is_left_of_clients_that_leave_stall_pour_or_drip() {
    let town = Town::new();

    assert_eq!(town.hostile(&["drip"]), "200");
    assert_eq!(town.hostile(&["header", "50000"]), "200");
    assert_eq!(town.hostile(&["header", "100000"]), "431");
    assert_eq!(town.hostile(&["headers", "80"]), "200");
    assert_eq!(town.hostile(&["headers", "200"]), "431");

    assert_eq!(town.hostile(&["abort", "2000"]), "2000x200");
    town.bounded("after aborted downloads");
    town.idle("aborted downloads");
    town.stalled("150", "/endless");
    town.stalled("150", "/silent");

    assert_eq!(town.hostile(&["pour", "10", "16000000", "/", "40"]), "10x200");
    assert_eq!(town.hostile(&["pour", "20", "100000000", "/unread", "3"]), "20xblocked");
    town.bounded("after endless bodies");
    town.idle("endless bodies");
    town.server_is_alone();

    // A server's endless head is not read to its end, and what it cut short is not taken for whole.
    let code = ["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"];
    let vast = format!("{URL}vast");
    let vast = [&code[..], &[vast.as_str()]].concat();
    for _ in 0..20 {
        assert_eq!(town.lab.exec(CLIENT, &vast).as_deref(), Ok("502"));
    }
    let torn = town.lab.get(CLIENT, &format!("{URL}torn")).expect_err("cut short");
    assert!(["curl: (18)", "curl: (56)"].iter().any(|end| torn.contains(end)), "{torn}");
    town.bounded("after endless heads");

    town.server_is_alone();
    town.left();
    town.lab.kubectl(&["delete", "namespace", "hostile", "--wait=false"]);
}
