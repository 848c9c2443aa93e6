//! gRPC and WebSocket through a waypoint, with clients and servers that others wrote.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace},
    until,
};

use crate::call::{Program, deployment, port, rolled_out};

const CLIENT: &str = "spoken/client";
const TARGET: &str = "grpc.spoken:9090";
const SOCKET: &str = "ws://socket.spoken:8081/chat";

/// Methods and headers decide which of two services answers.
const ROUTE: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc, namespace: spoken}
spec:
  parentRefs: [{group: '', kind: Service, name: grpc, port: 9090}]
  rules:
  - matches: [{method: {service: suite.Echo, method: Say}, headers: [{name: x-user, value: ann}]}]
    backendRefs: [{name: other, port: 9090}]
  - backendRefs: [{name: grpc, port: 9090}]
";

fn fault(words: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: grpc, namespace: spoken}}\nspec:\n  \
         hosts: [grpc]\n  http:\n  - fault: {{{words}}}\n    route: [{{destination: {{host: grpc}}}}]\n"
    )
}

fn nobody(service: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {service}, namespace: spoken}}\n\
         spec: {{targetRefs: [{{kind: Service, group: '', name: {service}}}]}}\n"
    )
}

fn grpc(lab: &Lab, words: &[&'static str]) -> String {
    let said = Program::Grpc.ask(lab, CLIENT, &[&[TARGET], words].concat());
    said.unwrap_or_else(|error| error).trim().to_owned()
}

fn says(lab: &Lab, words: &[&'static str], expected: &str) {
    let mut last = String::new();
    until(&format!("gRPC {words:?} comes to {expected:?}"), || {
        last = grpc(lab, words);
        last.contains(expected).then_some(())
    });
}

/// With a namespace `spoken` that has two gRPC services, one of WebSockets and a waypoint.
fn town() -> std::sync::Arc<Lab> {
    let lab = Lab::shared();
    let parts = [
        namespace("spoken", true),
        echo(CLIENT, "node-1", ""),
        deployment("spoken/grpc", (Program::GrpcServer, &["9090", "grpc"]), 9090, 1),
        port("spoken/grpc", ("grpc", 9090), 9090),
        deployment("spoken/other", (Program::GrpcServer, &["9090", "other"]), 9090, 1),
        port("spoken/other", ("grpc", 9090), 9090),
        deployment("spoken/socket", (Program::WebSocket, &["serve", "8081"]), 8081, 1),
        port("spoken/socket", ("http", 8081), 8081),
    ];
    lab.apply(&parts.concat());
    lab.ready("spoken", &["client"]);
    ["grpc", "other", "socket"].iter().for_each(|name| rolled_out(&lab, "spoken", name));
    lab
}

#[test]
fn grpc_and_websockets_pass() {
    let lab = town();
    // Whatever is no handshake is answered 426 by this server, through the waypoint.
    lab.waypoint("spoken", (CLIENT, "http://socket.spoken:8081/"));

    says(&lab, &["say"], "hello server=grpc");
    assert_eq!(grpc(&lab, &["chat"]), "3");
    assert_eq!(grpc(&lab, &["big"]), "4000000");
    assert_eq!(grpc(&lab, &["fail"]), "FAILED_PRECONDITION as you asked: a/b %");
    lab.apply(ROUTE);
    says(&lab, &["say", "x-user=ann"], "hello server=other");
    assert_eq!(grpc(&lab, &["say", "x-user=bob"]), "hello server=grpc");
    assert_eq!(grpc(&lab, &["chat", "x-user=ann"]), "3");
    lab.kubectl(&["delete", "grpcroute", "-n", "spoken", "grpc"]);
    lab.apply(&fault("abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}"));
    says(&lab, &["say"], "RESOURCE_EXHAUSTED");
    lab.apply(&fault("delay: {fixedDelay: 20s, percentage: {value: 100}}"));
    says(&lab, &["deadline"], "DEADLINE_EXCEEDED");
    lab.kubectl(&["delete", "virtualservice", "-n", "spoken", "grpc"]);
    says(&lab, &["say"], "hello server=grpc");
    lab.apply(&nobody("grpc"));
    says(&lab, &["say"], "PERMISSION_DENIED RBAC: access denied");

    let talk = || Program::WebSocket.ask(&lab, CLIENT, &["talk", SOCKET]).unwrap_or_else(|error| error);
    assert_eq!(talk(), "suite ok\nclosed 1000\n");
    lab.apply(&nobody("socket"));
    until("the handshake is refused", || (talk() == "status 403\n").then_some(()));
    lab.kubectl(&["delete", "namespace", "spoken", "--wait=false"]);
}
