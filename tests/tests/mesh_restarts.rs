//! Parts of the mesh go away and come back: what lives on, what waits, what is refused, and that nothing goes in plain.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
    until,
};

const SECRET: &str = "my-card-number-is-4111";

/// A lab of one's own with a client and a server, enrolled, on two nodes.
fn town() -> Lab {
    let lab = Lab::start();
    let parts = [
        namespace("town", true),
        echo("town/client", "node-1", ""),
        echo("town/server", "node-2", ""),
        service("town/server", "app: server", ""),
        service("town/late", "app: late", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("town", &["--all"]);
    lab.enrolled("town", &["client", "server"]);
    lab.get("town/client", "http://server.town/").expect("it works to begin with");
    lab
}

/// No node is right for a DaemonSet's pods any more; returns when they are gone.
fn send_away(lab: &Lab, daemon_set: &str, label: &str) {
    let patch = r#"{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"nodeSelector":{"no":"where"}}}}}"#;
    lab.kubectl(&["patch", "daemonset", "-n", "istio-system", daemon_set, "--type=merge", "-p", patch]);
    gone(lab, label);
}

fn call_back(lab: &Lab, daemon_set: &str) {
    let patch = r#"{"spec":{"template":{"spec":{"nodeSelector":null}}}}"#;
    lab.kubectl(&["patch", "daemonset", "-n", "istio-system", daemon_set, "--type=merge", "-p", patch]);
}

fn pods(lab: &Lab, label: &str) -> String {
    lab.kubectl(&["get", "pods", "-n", "istio-system", "-l", label, "-o", "name"])
}

fn gone(lab: &Lab, label: &str) {
    until(&format!("the pods with {label} are gone"), || pods(lab, label).is_empty().then_some(()));
}

/// Deletes the pods with a label and waits for as many others, ready.
fn replace(lab: &Lab, label: &str, count: usize) {
    let before = pods(lab, label);
    lab.kubectl(&["delete", "pods", "-n", "istio-system", "-l", label, "--wait=false"]);
    until(&format!("the pods with {label} are other ones"), || {
        let now = pods(lab, label);
        (now.lines().count() == count && !now.lines().any(|name| before.contains(name))).then_some(())
    });
    lab.ready("istio-system", &["-l", label]);
}

/// A call with the secret in it; nobody may read it on the way, whatever comes of the call.
fn call(lab: &Lab, host: &str) -> Result<String, String> {
    let capture = lab.capture();
    let answer = lab.get("town/client", &format!("http://{host}/?{SECRET}"));
    let wire = capture.finish();
    assert!(!wire.shows(SECRET), "the call went in plain; it came to {answer:?}");
    assert_eq!(wire.bytes_to(8080), 0);
    answer
}

#[test]
fn without_the_controller_what_is_known_goes_on() {
    let lab = town();
    let mut live = lab.talk("town/client", "server.town", 9000);
    lab.kubectl(&["scale", "deployment", "-n", "istio-system", "istiod", "--replicas=0"]);
    gone(&lab, "app=istiod");
    live.still("without a controller");
    call(&lab, "server.town").expect("known pods are reached without a controller");
    lab.talk("town/client", "server.town", 9000).still("opened without a controller");

    lab.kubectl(&["scale", "deployment", "-n", "istio-system", "istiod", "--replicas=1"]);
    until("the controller is back", || (!pods(&lab, "app=istiod").is_empty()).then_some(()));
    lab.ready("istio-system", &["-l", "app=istiod"]);
    lab.apply(&echo("town/late", "node-2", ""));
    lab.ready("town", &["-lapp=late"]);
    lab.enrolled("town", &["client", "late", "server"]);
    let answer = until("a new pod is learnt", || call(&lab, "late.town").ok());
    assert!(answer.starts_with("Hostname: late\n"), "{answer}");
    live.still("after the controller came back");
}

#[test]
fn without_the_agent_pods_stay_enrolled_and_new_ones_wait() {
    let lab = town();
    let mut live = lab.talk("town/client", "server.town", 9000);
    replace(&lab, "k8s-app=istio-cni-node", 2);
    live.still("when the agents were replaced");
    call(&lab, "server.town").expect("the pods are captured as before");

    send_away(&lab, "istio-cni-node", "k8s-app=istio-cni-node");
    live.still("without agents");
    call(&lab, "server.town").expect("the pods are captured without agents");
    lab.apply(&echo("town/late", "node-2", ""));
    let why = until("the node says why the new pod does not start", || {
        let events = lab.kubectl(&["get", "events", "-n", "town", "-o", "jsonpath={.items[*].message}"]);
        events.contains("lateen-cni ADD").then_some(events)
    });
    assert!(why.contains("not started outside the mesh"), "{why}");
    assert_eq!(lab.field(&["pod", "-n", "town", "late"], ".status.phase"), "Pending");
    lab.exec("town/late", &["true"]).expect_err("none of its containers has started");

    call_back(&lab, "istio-cni-node");
    until("the new pod is there", || {
        lab.try_kubectl(&["wait", "-n", "town", "--for=condition=Ready", "pod/late", "--timeout=5s"]).ok()
    });
    lab.enrolled("town", &["client", "late", "server"]);
    let answer = until("the new pod is reached", || call(&lab, "late.town").ok());
    assert!(answer.starts_with("Hostname: late\n"), "{answer}");
    live.still("after the agents came back");
}

#[test]
fn without_a_ztunnel_nothing_goes_in_plain() {
    let lab = town();
    replace(&lab, "app=ztunnel", 2);
    until("calls work through the new ztunnels", || call(&lab, "server.town").ok());

    send_away(&lab, "ztunnel", "app=ztunnel");
    let ip = lab.field(&["pod", "-n", "town", "server"], ".status.podIP");
    // The DNS of an enrolled pod is ztunnel's, so the address is what can be tried.
    for host in ["server.town".to_owned(), format!("{ip}:8080")] {
        call(&lab, &host).expect_err("nobody is there to tunnel it");
    }
    call_back(&lab, "ztunnel");
    let answer = until("calls work again", || call(&lab, "server.town").ok());
    assert!(answer.starts_with("Hostname: server\n"), "{answer}");
    let restarts = lab.field(&["pods", "-n", "town"], ".items[*].status.containerStatuses[0].restartCount");
    assert_eq!(restarts, "0 0");
}
