//! Everything is replaced while calls go on without a pause, and none of them may fail.

use std::thread;

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
};

/// Two servers, always two of them ready.
const SERVERS: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server, namespace: rolling}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: server}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: echo
        image: echo:v1
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}
";

/// Calls until the file is there; ends at the first call that fails, with its complaint.
const CALLS: &str = "n=0; until [ -e /tmp/enough ]; do curl -sS -m 20 -o /dev/null http://server.rolling/ || exit 1; \
                     n=$((n+1)); done; echo $n";

fn roll(lab: &Lab, namespace: &str, what: &str) {
    lab.kubectl(&["rollout", "restart", "-n", namespace, what]);
    lab.kubectl(&["rollout", "status", "-n", namespace, what, "--timeout=55s"]);
}

#[test]
fn no_call_fails_while_everything_is_replaced() {
    let lab = Lab::start();
    let parts = [
        namespace("rolling", true),
        echo("rolling/client", "node-1", ""),
        SERVERS.to_owned(),
        service("rolling/server", "app: server", ""),
    ];
    lab.apply(&parts.concat());
    lab.kubectl(&["rollout", "status", "-n", "rolling", "deploy/server", "--timeout=55s"]);
    lab.ready("rolling", &["--all"]);
    lab.get("rolling/client", "http://server.rolling/").expect("it works to begin with");
    for (namespace, what) in [
        ("rolling", "deploy/server"),
        ("istio-system", "ds/istio-cni-node"),
        ("istio-system", "deploy/istiod"),
        ("istio-system", "ds/ztunnel"),
    ] {
        let made = thread::scope(|scope| {
            let calls = scope.spawn(|| lab.exec("rolling/client", &["bash", "-c", CALLS]));
            roll(&lab, namespace, what);
            lab.exec("rolling/client", &["touch", "/tmp/enough"]).expect("told");
            calls.join().expect("no panic")
        });
        let made = made.unwrap_or_else(|error| panic!("a call failed while {what} was replaced: {error}"));
        assert!(made.trim().parse::<u32>().expect("a number") > 0);
        lab.exec("rolling/client", &["rm", "/tmp/enough"]).expect("removed");
    }
}
