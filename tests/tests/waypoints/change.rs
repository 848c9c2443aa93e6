//! Configuration changes while calls go on without a pause: none is dropped, and none sees half of a change.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace},
    until,
};

use crate::call::{Program, deployment, port, rolled_out};

const CLIENT: &str = "change/client";
/// So often the rules change under load.
const CHANGES: usize = 30;

/// Where requests go, and a word that is written on both of a request's halves.
fn rules(word: &str, subset: &str, connections: usize) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: server, namespace: change}}
spec:
  host: server
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {connections}}}}}}}
  subsets: [{{name: all, labels: {{app: server}}}}, {{name: same, labels: {{app: server}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: server, namespace: change}}
spec:
  hosts: [server]
  http:
  - headers: {{request: {{set: {{x-configuration: {word}}}}}, response: {{set: {{x-configuration: {word}}}}}}}
    route: [{{destination: {{host: server, subset: {subset}}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: server, namespace: change}}
spec:
  targetRefs: [{{kind: Service, group: '', name: server}}]
  rules: [{{to: [{{operation: {{methods: [GET, {word}]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: waypoint, namespace: change}}
spec:
  targetRefs: [{{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}}]
  rules: [{{to: [{{operation: {{methods: [GET, {word}]}}}}]}}]
"
    )
}

#[test]
fn no_call_fails_or_sees_half_of_a_change() {
    let lab = Lab::shared();
    let parts = [
        namespace("change", true),
        echo(CLIENT, "node-1", ""),
        deployment("change/server", (Program::Server, &["8080", "server"]), 8080, 2),
        port("change/server", ("http", 80), 8080),
    ];
    lab.apply(&parts.concat());
    lab.ready("change", &["client"]);
    rolled_out(&lab, "change", "server");
    lab.waypoint("change", (CLIENT, "http://server.change/"));

    let calls = lab.run(CLIENT, &Program::Calls.command(&["server.change", "80", "/tmp/enough"]));
    for number in 0..CHANGES {
        let (word, subset) = if number % 2 == 0 { ("even", "all") } else { ("odd", "same") };
        lab.apply(&rules(word, subset, 1000 + number));
        if number % 3 == 0 {
            // Nobody is refused between a policy's end and what is told of the service it was for.
            lab.kubectl(&["delete", "-n", "change", "authorizationpolicy", "server", "waypoint"]);
        }
        if number % 10 == 9 {
            // Without rules for a while.
            lab.kubectl(&["delete", "-n", "change", "virtualservice,destinationrule", "server"]);
        }
    }
    lab.apply(&rules("last", "all", 1024));
    until("the last change holds", || {
        let url = "http://server.change/";
        let head = lab.exec(CLIENT, &["curl", "-sS", "-m", "20", "-o", "/dev/null", "-D", "-", url]).ok()?;
        head.contains("x-configuration: last").then_some(())
    });
    lab.exec(CLIENT, &["touch", "/tmp/enough"]).expect("told");
    let said = calls.finish().unwrap_or_else(|error| panic!("a call failed while the rules changed: {error}"));
    for word in ["even", "odd"] {
        assert!(said.split_whitespace().any(|seen| seen == word), "the calls never saw {word}: {said}");
    }
    lab.kubectl(&["delete", "namespace", "change", "--wait=false"]);
}
