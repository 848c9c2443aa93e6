//! Endpoints and waypoints are replaced while calls go on without a pause, and none of them may fail. The callers try nothing
//! twice, and the mesh's settings are as they come.

use lateen_tests::lab::{
    Lab, Run,
    manifest::{echo, namespace},
    until,
};

use crate::call::{Program, deployment, port, rolled_out};

const CLIENT: &str = "roll/client";

/// Replaces every pod of a Deployment, and waits until the old ones are really gone: as long they may be asked.
fn replace(lab: &Lab, name: &str, label: &str) {
    let pods = || lab.kubectl(&["get", "pods", "-n", "roll", "-l", label, "-o", "name"]);
    let before = pods();
    lab.kubectl(&["rollout", "restart", "-n", "roll", &format!("deploy/{name}")]);
    rolled_out(lab, "roll", name);
    until(&format!("the old pods of {name} are gone"), || {
        let now = pods();
        (now.lines().count() == before.lines().count() && !now.lines().any(|pod| before.contains(pod))).then_some(())
    });
}

/// What the callers say at their end.
fn enough(lab: &Lab, calls: [Run; 2], during: &str) {
    lab.exec(CLIENT, &["touch", "/tmp/enough"]).expect("told");
    for run in calls {
        let said = run.finish().unwrap_or_else(|error| panic!("a call failed while {during}: {error}"));
        let made = said.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
        assert!(made.is_some_and(|made| made > 0), "{said}");
    }
    lab.exec(CLIENT, &["rm", "/tmp/enough"]).expect("removed");
}

#[test]
fn no_call_fails_while_endpoints_and_waypoints_are_replaced() {
    let lab = Lab::shared();
    let parts = [
        namespace("roll", true),
        echo(CLIENT, "node-1", ""),
        deployment("roll/server", (Program::Server, &["8080", "server"]), 8080, 2),
        port("roll/server", ("http", 80), 8080),
        deployment("roll/grpc", (Program::GrpcServer, &["9090", "grpc"]), 9090, 2),
        port("roll/grpc", ("grpc", 9090), 9090),
    ];
    lab.apply(&parts.concat());
    lab.ready("roll", &["client"]);
    ["server", "grpc"].iter().for_each(|name| rolled_out(&lab, "roll", name));
    lab.waypoint("roll", (CLIENT, "http://server.roll/"));
    until("gRPC passes", || Program::Grpc.ask(&lab, CLIENT, &["grpc.roll:9090", "say"]).ok());

    for (name, label) in [
        ("server", "app=server"),
        ("grpc", "app=grpc"),
        ("waypoint", "gateway.networking.k8s.io/gateway-name=waypoint"),
    ] {
        let calls = [
            lab.run(CLIENT, &Program::Calls.command(&["server.roll", "80", "/tmp/enough"])),
            lab.run(CLIENT, &Program::Grpc.command(&["grpc.roll:9090", "calls", "/tmp/enough"])),
        ];
        replace(&lab, name, label);
        enough(&lab, calls, &format!("{name} was replaced"));
    }
    lab.kubectl(&["delete", "namespace", "roll", "--wait=false"]);
}
