//! Policies on the whole mesh: who is refused, what lives on, and what probes make of it.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
    until,
};

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: strict}
spec: {mtls: {mode: STRICT}}
";

/// Probes every second; once it has started, one failure restarts the container.
fn probed(name: &str, probe: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: strict, labels: {{app: {name}}}}}\nspec:\n  \
         nodeName: node-2\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: echo\n    image: echo\n    \
         readinessProbe: {{{probe}, periodSeconds: 1, timeoutSeconds: 15, successThreshold: 3, failureThreshold: 1}}\n    \
         livenessProbe: {{{probe}, periodSeconds: 1, timeoutSeconds: 15, failureThreshold: 1}}\n    \
         startupProbe: {{{probe}, periodSeconds: 1, timeoutSeconds: 15, failureThreshold: 100}}\n"
    )
}

const HTTP: &str = "httpGet: {path: /, port: 8080}";
const TCP: &str = "tcpSocket: {port: 9000}";

#[test]
fn strict_refuses_plain_text_and_no_probe() {
    let lab = Lab::shared();
    let parts = [
        namespace("strict", true),
        namespace("strict-out", false),
        echo("strict/client", "node-1", ""),
        probed("http", HTTP),
        probed("tcp", TCP),
        echo("strict-out/client", "node-1", ""),
        service("strict/http", "app: http", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("strict", &["--all"]);
    lab.ready("strict-out", &["--all"]);
    lab.enrolled("strict", &["client", "http", "tcp"]);
    let ip = lab.field(&["pod", "-n", "strict", "http"], ".status.podIP");
    let urls = [format!("http://{ip}:8080/"), "http://http.strict/".to_owned()];
    for url in &urls {
        lab.get("strict-out/client", url).expect("plain text is let in");
    }

    lab.apply(STRICT);
    until("plain text is refused", || lab.get("strict-out/client", &urls[0]).is_err().then_some(()));
    for url in &urls {
        let refused = lab.get("strict-out/client", url).expect_err("plain text is refused");
        assert!(!refused.contains("timed out"), "a refusal is heard: {refused}");
        let answer = lab.get("strict/client", url).expect("an enrolled pod speaks mTLS");
        assert!(answer.starts_with("Hostname: http\n"), "{answer}");
    }
    // New pods become ready by probes under STRICT alone, three in a row.
    lab.apply(&[probed("http-new", HTTP), probed("tcp-new", TCP)].concat());
    lab.ready("strict", &["--all"]);
    lab.enrolled("strict", &["client", "http", "http-new", "tcp", "tcp-new"]);
    let ip = lab.field(&["pod", "-n", "strict", "http-new"], ".status.podIP");
    until("plain text is refused by a new pod", || {
        lab.get("strict-out/client", &format!("http://{ip}:8080/")).is_err().then_some(())
    });
    let state = ".items[*].status.containerStatuses[0]['ready','restartCount']";
    assert_eq!(
        lab.field(&["pods", "-n", "strict"], state).split(' ').collect::<Vec<_>>(),
        ["true", "true", "true", "true", "true", "0", "0", "0", "0", "0"]
    );

    lab.kubectl(&["delete", "peerauthentication", "-n", "strict", "default"]);
    until("plain text is let in again", || lab.get("strict-out/client", &urls[0]).ok());
}

fn policy(name: &str, action: &str, from: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: authz}}\nspec:\n  \
         selector: {{matchLabels: {{app: server}}}}\n  action: {action}\n  rules:\n  - from: [{{source: {{{from}}}}}]\n"
    )
}

#[test]
fn policies_reach_live_connections_and_spare_the_allowed() {
    let lab = Lab::shared();
    let parts = [
        namespace("authz", true),
        namespace("authz-other", true),
        echo("authz/client", "node-1", ""),
        echo("authz/server", "node-2", ""),
        echo("authz-other/client", "node-1", ""),
        service("authz/server", "app: server", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("authz", &["--all"]);
    lab.ready("authz-other", &["--all"]);
    lab.enrolled("authz", &["client", "server"]);
    lab.enrolled("authz-other", &["client"]);
    let mut live = lab.talk("authz/client", "server.authz", 9000);
    let mut other = lab.talk("authz-other/client", "server.authz", 9000);

    // An ALLOW closes what it does not name, and only that.
    lab.apply(&policy("allow", "ALLOW", "principals: ['cluster.local/ns/authz/sa/*']"));
    lab.policies("authz", &["allow"]);
    other.ended("a policy that does not allow it");
    live.still("under a policy that allows it");
    assert!(lab.get("authz-other/client", "http://server.authz/").is_err());
    lab.get("authz/client", "http://server.authz/").expect("allowed");
    // Changed and joined by another: it is still allowed.
    lab.apply(&policy("allow", "ALLOW", "namespaces: [authz]"));
    lab.apply(&policy("more", "ALLOW", "namespaces: [authz-other]"));
    lab.policies("authz", &["allow", "more"]);
    until("the other namespace is let in", || lab.get("authz-other/client", "http://server.authz/").ok());
    live.still("when policies changed");

    lab.apply(&policy("deny", "DENY", "namespaces: [authz]"));
    live.ended("a DENY policy");
    assert!(lab.get("authz/client", "http://server.authz/").is_err());
    lab.get("authz-other/client", "http://server.authz/").expect("the DENY does not name it");
    let records = lab.kubectl(&["logs", "-n", "istio-system", "-l", "app=ztunnel", "--tail=500"]);
    assert!(records.contains("explicitly denied by: authz/deny"), "{records}");
    lab.kubectl(&["delete", "authorizationpolicy", "-n", "authz", "deny"]);
    until("the way is open again", || lab.get("authz/client", "http://server.authz/").ok());
    lab.talk("authz/client", "server.authz", 9000).still("after the DENY is gone");
}

#[test]
fn nonsense_is_refused_when_it_is_applied() {
    let lab = Lab::shared();
    until("the webhook fails closed", || {
        let configuration = ["validatingwebhookconfiguration", "istio-validator-istio-system"];
        (lab.field(&configuration, ".webhooks[0].failurePolicy") == "Fail").then_some(())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("policy.yaml");
    let policy =
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: nobody, namespace: default}\n";
    std::fs::write(&file, format!("{policy}spec: {{action: DENY}}\n")).expect("writable");
    let said = lab.try_kubectl(&["apply", "-f", file.to_str().expect("text")]).expect_err("refused");
    let words =
        "denied the request: spec.rules: a DENY policy without rules refuses nothing; add a rule; {} is everything";
    assert!(said.contains(words), "{said}");
}
