//! Everything is replaced while applications work: what fails, and what happens to connections that are open.

use std::thread;

use super::{
    app::App,
    driver::{SYSTEM, until},
};

/// Two servers on any node that take a moment before they end, as servers behind any load balancer should.
fn two_servers(app: &App) {
    let patch = r#"{"spec":{"replicas":2,"template":{"spec":{"nodeSelector":null,"terminationGracePeriodSeconds":15,
        "containers":[{"name":"echo","lifecycle":{"preStop":{"sleep":{"seconds":3}}}}]}}}}"#;
    app.cluster.kubectl(&["patch", "deploy", "-n", app.namespace, "server", "-p", patch]);
    app.cluster.rolled_out(app.namespace, "deploy/server");
    app.enrolled(3);
}

/// Four callers that call without a pause until the file is there; each says how many calls worked and which failed.
const CALLS: &str = r#"
    rm -f /tmp/enough /tmp/load.*
    for caller in 1 2 3 4; do
        ( n=0; f=0
          until [ -e /tmp/enough ]; do
            if timeout 20 wget -q -O /dev/null "http://server/" 2>/tmp/load.error.$caller; then n=$((n+1))
            else f=$((f+1)); echo "call $((n+f)) failed: $(cat /tmp/load.error.$caller)"; fi
          done
          echo "sum $n $f" ) &
    done
    wait"#;

/// What came of calls made while something else was done.
pub struct Load {
    pub made: u32,
    pub failed: u32,
    pub words: String,
}

/// Calls while `act` acts.
pub fn under_load(app: &App, act: impl FnOnce()) -> Load {
    thread::scope(|scope| {
        let calls = scope.spawn(|| app.in_client(&["sh", "-c", CALLS]));
        until("calls are made", || app.in_client(&["sh", "-c", "ls /tmp/load.error.4"]).ok());
        act();
        app.in_client(&["touch", "/tmp/enough"]).expect("told");
        let words = calls.join().expect("no panic").expect("the callers end");
        let sums = words.lines().filter_map(|line| line.strip_prefix("sum ")?.split_once(' '));
        let (mut made, mut failed) = (0, 0);
        for (worked, broken) in sums {
            let broken: u32 = broken.trim().parse().expect("a number");
            made += worked.parse::<u32>().expect("a number") + broken;
            failed += broken;
        }
        Load { made, failed, words }
    })
}

pub fn roll(app: &App, namespace: &str, what: &str) {
    app.cluster.kubectl(&["rollout", "restart", "-n", namespace, what]);
    app.cluster.rolled_out(namespace, what);
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn no_call_fails_while_anything_is_replaced() {
    let app = App::start_enrolled("lateen-test-rolling");
    two_servers(&app);
    for (namespace, what) in [
        (app.namespace, "deploy/server"),
        (SYSTEM, "ds/istio-cni-node"),
        (SYSTEM, "deploy/istiod"),
        (SYSTEM, "ds/ztunnel"),
    ] {
        let load = under_load(&app, || roll(&app, namespace, what));
        println!("rollout of {what}: {} calls, {} failed", load.made, load.failed);
        assert!(load.made > 0, "{}", load.words);
        assert_eq!(load.failed, 0, "{what}: {}", load.words);
    }
}

/// Connections that each say a line five times a second, and leave a file `ended.N` when they end.
const TALKS: &str = r#"
    rm -f /tmp/talk.* /tmp/ended.*
    for n in 1 2 3 4 5 6 7 8; do
        ( ( while :; do echo word; sleep 0.2; done ) | nc server 9000 >/tmp/talk.$n; date +%s >/tmp/ended.$n ) >/dev/null 2>&1 &
    done"#;
const COUNT: u32 = 8;

fn talks_ended(app: &App) -> u32 {
    let names = app.in_client(&["sh", "-c", "ls /tmp/ended.* 2>/dev/null | wc -l"]).expect("counted");
    names.trim().parse().expect("a number")
}

/// How many lines each connection has heard, the least of all.
fn heard(app: &App) -> u32 {
    let lines =
        app.in_client(&["sh", "-c", "for n in 1 2 3 4 5 6 7 8; do wc -l </tmp/talk.$n; done | sort -n | head -1"]);
    lines.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn begin_talks(app: &App) {
    app.in_client(&["sh", "-c", TALKS]).expect("begun");
    until("all connections are open", || (heard(app) > 0).then_some(()));
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn open_connections_outlive_the_agent_and_the_controller() {
    let app = App::start_enrolled("lateen-test-open");
    begin_talks(&app);
    for what in ["ds/istio-cni-node", "deploy/istiod"] {
        roll(&app, SYSTEM, what);
        let before = heard(&app);
        until("all connections go on", || (heard(&app) > before + 5).then_some(()));
        let ended = talks_ended(&app);
        println!("rollout of {what}: {} of {COUNT} open connections went on, {ended} ended", COUNT - ended);
        assert_eq!(ended, 0, "{what}");
    }
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_ztunnel_rollout_is_measured_on_open_connections_and_new_ones_work() {
    let app = App::start_enrolled("lateen-test-drain");
    begin_talks(&app);
    let begun = tokio::time::Instant::now();
    roll(&app, SYSTEM, "ds/ztunnel");
    let rolled = begun.elapsed();
    let at_the_end = talks_ended(&app);
    app.call().expect("new connections work");
    println!(
        "rollout of ds/ztunnel in {} s: of {COUNT} open connections {at_the_end} had ended when it was done",
        rolled.as_secs()
    );
    let all = until("the old ztunnels are gone", || {
        let pods = app.cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-l", "app=ztunnel", "-o", "name"]);
        (pods.lines().count() == app.cluster.nodes.len()).then(|| talks_ended(&app))
    });
    let grace =
        app.cluster.field(&["ds", "-n", SYSTEM, "ztunnel"], ".spec.template.spec.terminationGracePeriodSeconds");
    println!(
        "{} s after its begin the old ztunnels were gone, and {all} of {COUNT} open connections had ended (a ztunnel that ends has {grace} s in all)",
        begun.elapsed().as_secs()
    );
    begin_talks(&app);
    assert_eq!(talks_ended(&app), 0, "connections made after it stay open");
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn the_mesh_goes_on_without_a_controller_and_learns_from_the_next() {
    let app = App::start_enrolled("lateen-test-headless");
    app.cluster.kubectl(&["scale", "-n", SYSTEM, "deploy/istiod", "--replicas=0"]);
    until("no controller is left", || {
        let pods = app.cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-l", "app=istiod", "-o", "name"]);
        pods.is_empty().then_some(())
    });
    let load = under_load(&app, || {
        app.in_client(&["sleep", "5"]).expect("five seconds without a controller");
    });
    println!("without a controller: {} calls, {} failed", load.made, load.failed);
    assert_eq!(load.failed, 0, "{}", load.words);
    app.cluster.kubectl(&["scale", "-n", SYSTEM, "deploy/istiod", "--replicas=2"]);
    app.cluster.rolled_out(SYSTEM, "deploy/istiod");
    roll(&app, app.namespace, "deploy/server");
    app.enrolled(2);
    until("a server that the old controller never knew is reached", || app.call().ok());
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_new_pod_waits_for_the_agent_says_why_and_never_starts_bare() {
    let app = App::start_enrolled("lateen-test-waiting");
    let select = |selector: &str| {
        let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{selector}}}}}}}}}"#);
        app.cluster.kubectl(&["patch", "ds", "-n", SYSTEM, "istio-cni-node", "--type=merge", "-p", &patch]);
    };
    select(r#"{"no":"where"}"#);
    until("no agent is left", || {
        let pods = app.cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-l", "k8s-app=istio-cni-node", "-o", "name"]);
        pods.is_empty().then_some(())
    });
    app.pod("waiting", "sleep infinity");
    let reason = until("the pod's event says why it waits", || {
        let of_pod = "involvedObject.name=waiting,reason=FailedCreatePodSandBox";
        let path = "jsonpath={.items[0].message}";
        let words = ["get", "events", "-n", app.namespace, "--field-selector", of_pod, "-o", path];
        app.cluster.try_kubectl(&words).ok().filter(|message| message.contains("not started outside the mesh"))
    });
    println!("{reason}");
    app.call().expect("what runs goes on without an agent");
    select(r#"{"no":null}"#);
    app.cluster.rolled_out(SYSTEM, "ds/istio-cni-node");
    app.cluster.kubectl(&["wait", "-n", app.namespace, "pod/waiting", "--for=condition=Ready", "--timeout=120s"]);
    app.enrolled(3);
}
