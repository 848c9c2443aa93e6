//! A waypoint that a label asks for and that is not there: what it alone would enforce is not passed by.

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
    until,
};

const URL: &str = "http://server.wp/";

/// How often any ztunnel refused for want of a waypoint, as scraped by a pod outside the mesh.
fn refusals(lab: &Lab) -> u64 {
    let ztunnels = ["pods", "-n", "istio-system", "-l", "app=ztunnel"];
    let of = |ip: &str| {
        let text = lab.get("wp-out/observer", &format!("http://{ip}:15020/metrics")).expect("metrics");
        let counted = text.lines().filter(|line| line.starts_with("istio_outbound_refused_total"));
        let counted = counted.filter(|line| line.contains("reason=\"no_waypoint\""));
        counted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum::<u64>()
    };
    lab.field(&ztunnels, ".items[*].status.podIP").split(' ').map(of).sum()
}

#[test]
fn a_missing_waypoint_refuses_until_its_author_says_otherwise() {
    let lab = Lab::shared();
    let parts = [
        namespace("wp", true),
        namespace("wp-out", false),
        echo("wp/client", "node-1", ""),
        echo("wp/server", "node-2", ""),
        echo("wp-out/observer", "node-1", ""),
        service("wp/server", "app: server", ""),
        service("wp/open", "app: server", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("wp", &["--all"]);
    lab.ready("wp-out", &["--all"]);
    lab.enrolled("wp", &["client", "server"]);
    lab.get("wp/client", URL).expect("no waypoint is asked for yet");
    let before = refusals(&lab);

    lab.kubectl(&["label", "namespace", "wp", "istio.io/use-waypoint=missing"]);
    lab.kubectl(&["label", "service", "-n", "wp", "open", "istio.io/use-waypoint=none"]);
    until("calls are refused", || lab.get("wp/client", URL).is_err().then_some(()));
    let refused = lab.get("wp/client", URL).expect_err("still refused");
    assert!(!refused.contains("timed out"), "a refusal is heard at once: {refused}");
    until("refusals are counted", || (refusals(&lab) > before).then_some(()));
    let records = lab.kubectl(&["logs", "-n", "istio-system", "-l", "app=ztunnel", "--tail=500"]);
    let why = |line: &&str| line.contains("server.wp.svc.cluster.local") && line.contains("it must not be bypassed");
    assert!(records.lines().any(|line| why(&line) && line.contains("missing-waypoint.invalid")), "{records}");
    let told = until("the author is told", || {
        let path = r#".status.conditions[?(@.type=="istio.io/WaypointBound")]['status','reason','message']"#;
        let told = lab.field(&["service", "-n", "wp", "server"], path);
        told.starts_with("False WaypointIsNotReady").then_some(told)
    });
    assert!(told.contains("wp/missing") && told.contains("traffic is refused"), "{told}");

    // Who declined it is not held to it, and by itself a waypoint is for services: a pod's own address is open.
    until("the service without a waypoint is open", || lab.get("wp/client", "http://open.wp/").ok());
    let ip = lab.field(&["pod", "-n", "wp", "server"], ".status.podIP");
    lab.get("wp/client", &format!("http://{ip}:8080/")).expect("a pod's own address");

    lab.kubectl(&["annotate", "service", "-n", "wp", "server", "lateen.io/waypoint-missing=bypass"]);
    let answer = until("the author lets it go direct", || lab.get("wp/client", URL).ok());
    assert!(answer.starts_with("Hostname: server\n"), "{answer}");
    lab.kubectl(&["annotate", "service", "-n", "wp", "server", "lateen.io/waypoint-missing-"]);
    until("calls are refused again", || lab.get("wp/client", URL).is_err().then_some(()));
    lab.kubectl(&["label", "namespace", "wp", "istio.io/use-waypoint-"]);
    until("nobody asks for a waypoint any more", || lab.get("wp/client", URL).ok());
}
