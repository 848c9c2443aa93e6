//! A namespace's waypoint is switched on and off, and taken away, while calls go on without a pause: none is dropped. The callers
//! try nothing twice, and keep connections for as long as they are kept for them.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace},
    until,
};

use crate::call::{Program, deployment, port, rolled_out};

const CLIENT: &str = "switched/client";
const URL: &str = "http://server.switched/";
/// So often it is switched on and off.
const TIMES: usize = 5;

/// Waits until new calls pass a waypoint, or pass none.
fn passed(lab: &Lab, expected: bool) {
    until(&format!("a waypoint is passed: {expected}"), || {
        let head = lab.exec(CLIENT, &["curl", "-sSf", "-m", "20", "-o", "/dev/null", "-D", "-", URL]);
        let head = head.unwrap_or_else(|error| panic!("a call failed while the waypoint was switched: {error}"));
        (head.to_ascii_lowercase().contains("x-envoy-upstream-service-time") == expected).then_some(())
    });
}

#[test]
fn no_call_fails_while_a_waypoint_is_switched_on_and_off() {
    let lab = Lab::shared();
    let parts = [
        namespace("switched", true),
        echo(CLIENT, "node-1", ""),
        deployment("switched/server", (Program::Server, &["8080", "server"]), 8080, 2),
        port("switched/server", ("http", 80), 8080),
        deployment("switched/grpc", (Program::GrpcServer, &["9090", "grpc"]), 9090, 2),
        port("switched/grpc", ("grpc", 9090), 9090),
    ];
    lab.apply(&parts.concat());
    lab.ready("switched", &["client"]);
    ["server", "grpc"].iter().for_each(|name| rolled_out(&lab, "switched", name));
    lab.waypoint("switched", (CLIENT, URL));
    until("gRPC passes", || Program::Grpc.ask(&lab, CLIENT, &["grpc.switched:9090", "say"]).ok());

    // What is kept leads through the waypoint at first.
    let calls = [
        lab.run(CLIENT, &Program::Calls.command(&["server.switched", "80", "/tmp/enough"])),
        lab.run(CLIENT, &Program::Grpc.command(&["grpc.switched:9090", "calls", "/tmp/enough"])),
    ];
    for _ in 0..TIMES {
        lab.kubectl(&["label", "namespace", "switched", "istio.io/use-waypoint-"]);
        passed(&lab, false);
        lab.kubectl(&["label", "namespace", "switched", "istio.io/use-waypoint=waypoint"]);
        passed(&lab, true);
    }
    lab.kubectl(&["label", "namespace", "switched", "istio.io/use-waypoint-"]);
    passed(&lab, false);
    // Some callers' connections still lead through it.
    lab.kubectl(&["delete", "gateway.gateway.networking.k8s.io", "-n", "switched", "waypoint"]);
    let label = "gateway.networking.k8s.io/gateway-name=waypoint";
    until("its pods are gone", || {
        let pods = lab.kubectl(&["get", "pods", "-n", "switched", "-l", label, "-o", "name"]);
        pods.trim().is_empty().then_some(())
    });
    lab.exec(CLIENT, &["touch", "/tmp/enough"]).expect("told");
    for run in calls {
        let said =
            run.finish().unwrap_or_else(|error| panic!("a call failed while the waypoint was switched: {error}"));
        let made = said.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
        assert!(made.is_some_and(|made| made > 0), "{said}");
    }
    lab.kubectl(&["delete", "namespace", "switched", "--wait=false"]);
}
