//! The documents' policies on the whole mesh, at a waypoint: nobody, one namespace, one caller with one method, one TCP port.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
    until,
};

const WAYPOINT: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: foo}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
";

const MONGODB: &str = "---
apiVersion: v1
kind: Service
metadata: {name: mongodb, namespace: foo}
spec:
  selector: {app: httpbin}
  ports: [{name: tcp-mongo, port: 27017, targetPort: 9000}]
";

const SLEEP: &str = "  serviceAccountName: sleep\n";
const URL: &str = "http://httpbin.foo/";

fn account(namespace: &str) -> String {
    format!("---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: sleep, namespace: {namespace}}}\n")
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: foo}}\n\
         spec:\n{spec}\n"
    )
}

const AT_WAYPOINT: &str = "  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]\n";

/// Status and body of a request.
fn ask(lab: &Lab, pod: &str, method: &str) -> String {
    let words = ["curl", "-sS", "-m", "20", "-X", method, "-w", "\n%{http_code}", URL];
    lab.exec(pod, &words).unwrap_or_else(|error| error)
}

fn answers(lab: &Lab, what: &str, pod: &str, method: &str, status: &str) {
    until(what, || ask(lab, pod, method).ends_with(status).then_some(()));
}

/// What a server of lines says to `ping`.
fn line(lab: &Lab, pod: &str) -> Result<String, String> {
    let script = "exec 3<>/dev/tcp/mongodb.foo/27017; echo ping >&3; timeout 10 head -n 1 <&3";
    let said = lab.exec(pod, &["bash", "-c", script])?;
    if said.trim().is_empty() { Err("nothing was said".to_owned()) } else { Ok(said) }
}

#[test]
fn the_documents_policies_hold_at_a_waypoint() {
    let lab = Lab::shared();
    let parts = [
        namespace("foo", true),
        namespace("bar", true),
        account("foo"),
        account("bar"),
        echo("foo/sleep", "node-1", SLEEP),
        echo("foo/other", "node-1", ""),
        echo("bar/sleep", "node-1", SLEEP),
        echo("foo/httpbin", "node-2", ""),
        service("foo/httpbin", "app: httpbin", ""),
        MONGODB.to_owned(),
        WAYPOINT.to_owned(),
    ];
    lab.apply(&parts.concat());
    lab.kubectl(&["wait", "-n", "foo", "--for=condition=Programmed", "gateway/waypoint", "--timeout=55s"]);
    lab.ready("foo", &["--all"]);
    lab.ready("bar", &["--all"]);
    lab.kubectl(&["label", "namespace", "foo", "istio.io/use-waypoint=waypoint"]);
    until("requests pass the waypoint", || {
        let words = ["curl", "-sS", "-m", "20", "-o", "/dev/null", "-D", "-", URL];
        let head = lab.exec("foo/sleep", &words).ok()?;
        head.to_ascii_lowercase().contains("x-envoy-upstream-service-time").then_some(())
    });

    // deny-all: a policy that allows nothing.
    lab.apply(&policy("deny-all", AT_WAYPOINT));
    answers(&lab, "nobody is let in", "foo/sleep", "GET", "RBAC: access denied\n403");
    let told = lab.field(
        &["authorizationpolicy", "-n", "foo", "deny-all"],
        r#".status.conditions[?(@.type=="WaypointAccepted")]['status','reason']"#,
    );
    assert_eq!(told, "True Accepted");

    // Callers of the namespace foo only.
    let of_foo = "  targetRefs: [{kind: Service, group: '', name: httpbin}]\n  action: ALLOW\n  \
                  rules: [{from: [{source: {namespaces: [foo]}}]}]\n";
    lab.apply(&policy("foo-only", of_foo));
    answers(&lab, "the namespace is let in", "foo/sleep", "GET", "200");
    answers(&lab, "another one is not", "bar/sleep", "GET", "403");
    lab.kubectl(&["delete", "authorizationpolicy", "-n", "foo", "foo-only"]);

    // The principal sleep, with GET.
    let getter = "  targetRefs: [{kind: Service, group: '', name: httpbin}]\n  action: ALLOW\n  rules:\n  \
                  - from: [{source: {principals: [cluster.local/ns/foo/sa/sleep]}}]\n    \
                  to: [{operation: {methods: [GET]}}]\n";
    lab.apply(&policy("sleep-gets", getter));
    answers(&lab, "sleep gets", "foo/sleep", "GET", "200");
    answers(&lab, "sleep does not post", "foo/sleep", "POST", "403");
    answers(&lab, "another account does not get", "foo/other", "GET", "403");
    answers(&lab, "nor does the same name elsewhere", "bar/sleep", "GET", "403");

    // mongodb: one caller, one port, no HTTP.
    assert!(line(&lab, "foo/sleep").is_err(), "deny-all holds for connections too");
    let mongodb = "  targetRefs: [{kind: Service, group: '', name: mongodb}]\n  action: ALLOW\n  rules:\n  \
                   - from: [{source: {principals: [cluster.local/ns/foo/sa/sleep]}}]\n    \
                   to: [{operation: {ports: ['27017']}}]\n";
    lab.apply(&policy("mongodb", mongodb));
    until("sleep reaches mongodb", || line(&lab, "foo/sleep").ok());
    assert!(line(&lab, "foo/other").is_err(), "nobody else does");
    assert!(line(&lab, "bar/sleep").is_err());
}
