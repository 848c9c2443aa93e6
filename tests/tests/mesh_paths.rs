//! Every way a packet can go in the whole mesh: programs, rules, control plane and nodes as `lateen lab up` starts them.

use std::collections::BTreeSet;

use lateen_tests::lab::{
    Lab,
    manifest::{echo, namespace, service},
    until,
};

/// Port 15008 carries it, or the application's own.
const HBONE: u16 = 15008;
const APP: u16 = 8080;

/// Calls until it works (a change may be on its way), and checks who answered.
fn answers(lab: &Lab, from: &str, host: &str, port: u16, by: &[&str]) -> String {
    let answer =
        until(&format!("{from} reaches {host}:{port}"), || lab.get(from, &format!("http://{host}:{port}/")).ok());
    let named = by.iter().any(|name| answer.starts_with(&format!("Hostname: {name}\n")));
    assert!(named, "{from} -> {host}:{port} was answered by {answer}, not by {by:?}");
    answer
}

/// The pod's addresses, IPv4 then IPv6.
fn addresses(lab: &Lab, pod: &str) -> (String, String) {
    let (namespace, name) = pod.split_once('/').expect("namespace/name");
    let text = lab.field(&["pod", "-n", namespace, name], ".status.podIPs[*].ip");
    let (v4, v6) = text.split_once(' ').expect("two addresses");
    (v4.to_owned(), format!("[{v6}]"))
}

/// The service's addresses, IPv4 then IPv6.
fn virtual_addresses(lab: &Lab, service: &str) -> (String, String) {
    let (namespace, name) = service.split_once('/').expect("namespace/name");
    let ip = |at: usize| lab.field(&["service", "-n", namespace, name], &format!(".spec.clusterIPs[{at}]"));
    (ip(0), format!("[{}]", ip(1)))
}

/// A call from one node to the other with a word in it, and whether the word can be read on the way.
fn readable(lab: &Lab, from: &str, host: &str) -> bool {
    let word = "my-card-number-is-4111";
    let capture = lab.capture();
    lab.get(from, &format!("http://{host}/?{word}")).expect("an answer");
    let wire = capture.finish();
    let (plain, tunnelled) = (wire.bytes_to(APP), wire.bytes_to(HBONE));
    // An idle tunnel of before may say its last words meanwhile.
    assert!(plain > 0 || tunnelled > 0, "one way or the other: {plain} bytes plain, {tunnelled} tunnelled");
    assert_eq!(wire.shows(word), plain > 0);
    plain > 0
}

#[test]
fn every_path_of_enrolled_pods() {
    let lab = Lab::shared();
    let host_network = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: paths, labels: {app: host}}\nspec:\n  \
         hostNetwork: true\n  nodeName: node-2\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: echo\n    image: echo\n    \
         args: ['--http', '18080']\n    readinessProbe: {httpGet: {path: /, port: 18080}, periodSeconds: 1, timeoutSeconds: 10}\n";
    let parts = [
        namespace("paths", true),
        namespace("paths-out", false),
        echo("paths/near", "node-1", ""),
        echo("paths/here", "node-1", ""),
        echo("paths/far", "node-2", ""),
        echo("paths-out/out", "node-1", ""),
        host_network.to_owned(),
        service("paths/far", "app: far", ""),
        service("paths/all", "all: echo", ""),
        service("paths/each", "all: echo", "clusterIP: None"),
        service("paths-out/out", "app: out", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("paths", &["--all"]);
    lab.ready("paths-out", &["--all"]);
    // Enrolled from their beginning: what a pod without a mesh in it would have to be labelled for.
    lab.enrolled("paths", &["far", "here", "near"]);

    let (near, far, out) =
        (addresses(&lab, "paths/near"), addresses(&lab, "paths/far"), addresses(&lab, "paths-out/out"));
    let (far_vip, all_vip) = (virtual_addresses(&lab, "paths/far"), virtual_addresses(&lab, "paths/all"));
    for (near, far, far_vip, out) in [(&near.0, &far.0, &far_vip.0, &out.0), (&near.1, &far.1, &far_vip.1, &out.1)] {
        answers(&lab, "paths/here", near, APP, &["near"]);
        answers(&lab, "paths/here", far, APP, &["far"]);
        answers(&lab, "paths/here", far_vip, 80, &["far"]);
        answers(&lab, "paths/far", far, APP, &["far"]);
        answers(&lab, "paths/far", "localhost", APP, &["far"]);
        answers(&lab, "paths/far", far_vip, 80, &["far"]);
        answers(&lab, "paths/far", near, APP, &["near"]);
        // Between the mesh and what is outside, in both directions.
        answers(&lab, "paths/far", out, APP, &["out"]);
        answers(&lab, "paths-out/out", far, APP, &["far"]);
        answers(&lab, "paths-out/out", far_vip, 80, &["far"]);
    }
    answers(&lab, "paths/far", "out.paths-out.svc.cluster.local", 80, &["out"]);
    let node = lab.field(&["pod", "-n", "paths", "host"], ".status.hostIP");
    let hostname = lab.exec("paths/host", &["hostname"]).expect("a name");
    answers(&lab, "paths/here", &node, 18080, &[hostname.trim()]);
    answers(&lab, "paths/far", &node, 18080, &[hostname.trim()]);
    answers(&lab, "paths/host", &near.0, APP, &["near"]);
    answers(&lab, "paths/host", &far_vip.0, 80, &["far"]);
    assert!(!readable(&lab, "paths/here", "far.paths"));
    assert!(readable(&lab, "paths-out/out", "far.paths"), "a caller outside the mesh has no certificate");

    // Both families of a service reach all its pods in the end.
    for vip in [&all_vip.0, &all_vip.1] {
        let mut seen = BTreeSet::new();
        until("every endpoint answers", || {
            let answer = lab.get("paths/here", &format!("http://{vip}/")).expect("an answer");
            seen.extend(answer.lines().next().map(str::to_owned));
            (seen.len() == 3).then_some(())
        });
    }
    // A headless service is its pods' addresses, and a pod's address is a tunnel.
    let listed = lab.exec("paths/here", &["getent", "ahostsv4", "each"]).expect("an answer");
    let listed: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let here = addresses(&lab, "paths/here");
    assert_eq!(listed, BTreeSet::from([near.0.as_str(), here.0.as_str(), far.0.as_str()]));
    answers(&lab, "paths/here", "each", APP, &["near", "here", "far"]);
    // Nobody listens: the caller hears so, and does not wait.
    let refused = lab.exec("paths/here", &["curl", "-sS", "-m", "20", &format!("http://{}:81/", far.0)]);
    let refused = refused.expect_err("nobody listens there");
    assert!(!refused.contains("timed out"), "{refused}");
}

#[test]
fn enrolling_and_leaving_touch_no_connection() {
    let lab = Lab::shared();
    let parts = [
        namespace("late", false),
        namespace("others", true),
        echo("late/client", "node-1", ""),
        echo("late/server", "node-2", ""),
        echo("others/client", "node-1", ""),
        echo("others/server", "node-2", ""),
        service("late/server", "app: server", ""),
        service("others/server", "app: server", ""),
    ];
    lab.apply(&parts.concat());
    lab.ready("late", &["--all"]);
    lab.ready("others", &["--all"]);
    lab.enrolled("others", &["client", "server"]);
    // As an agent finds a pod it was never told of.
    let uid = lab.field(&["pod", "-n", "late", "server"], ".metadata.uid");
    let of_pod = ["sh", "-c", "grep -ls pod$0 /proc/[0-9]*/cgroup | grep .", &uid];
    lab.exec("late/server", &of_pod).expect("a process names its pod");
    let mut theirs = lab.talk("others/client", "server.others", 9000);
    let mut own = lab.talk("late/client", "server.late", 9000);
    assert!(readable(&lab, "late/client", "server.late"));

    lab.kubectl(&["label", "namespace", "late", "istio.io/dataplane-mode=ambient"]);
    lab.enrolled("late", &["client", "server"]);
    theirs.still("when other pods were enrolled");
    own.still("when its own pods were enrolled");
    assert!(!readable(&lab, "late/client", "server.late"));
    let mut tunnelled = lab.talk("late/client", "server.late", 9000);

    // One pod leaves by its own label; the other goes on without.
    lab.kubectl(&["label", "pod", "-n", "late", "server", "istio.io/dataplane-mode=none"]);
    lab.enrolled("late", &["client"]);
    tunnelled.ended("its server's leaving the mesh");
    theirs.still("when another pod left");
    own.still("when its server left");
    until("calls go in plain", || {
        lab.get("late/client", "http://server.late/")
            .is_ok()
            .then(|| readable(&lab, "late/client", "server.late"))
            .filter(|plain| *plain)
    });
    lab.kubectl(&["label", "pod", "-n", "late", "server", "istio.io/dataplane-mode-"]);
    lab.enrolled("late", &["client", "server"]);
    until("calls are tunnelled again", || {
        lab.get("late/client", "http://server.late/")
            .is_ok()
            .then(|| readable(&lab, "late/client", "server.late"))
            .filter(|plain| !*plain)
    });

    let mut tunnelled = lab.talk("late/client", "server.late", 9000);
    lab.kubectl(&["label", "namespace", "late", "istio.io/dataplane-mode-"]);
    lab.enrolled("late", &[]);
    tunnelled.ended("both its pods' leaving the mesh");
    theirs.still("when other pods left");
    own.still("when its own pods left");
    until("calls go in plain", || {
        lab.get("late/client", "http://server.late/")
            .is_ok()
            .then(|| readable(&lab, "late/client", "server.late"))
            .filter(|plain| *plain)
    });
    let restarts = lab.field(&["pods", "-n", "late"], ".items[*].status.containerStatuses[0].restartCount");
    assert_eq!(restarts, "0 0");
}

/// Answers each datagram with the address it came from.
const UDP_SERVER: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: udp, labels: {app: server}}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 1
  containers:
  - name: udp
    image: perl
    args:
    - -MIO::Socket::INET
    - -e
    - |
      my $socket = IO::Socket::INET->new(LocalPort => 5300, Proto => 'udp') or die $!;
      while ($socket->recv(my $word, 1024)) { $socket->send('from ' . $socket->peerhost . ': ' . $word); }
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: udp}
spec:
  selector: {app: server}
  ports: [{name: words, port: 53530, targetPort: 5300, protocol: UDP}]
";

const UDP_CLIENT: &str = "
    my $socket = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Proto => 'udp') or die $!;
    local $SIG{ALRM} = sub { die 'no answer' };
    alarm 5; $socket->send('hello'); $socket->recv(my $word, 1024) // die $!; print $word;
";

#[test]
fn datagrams_pass_the_mesh_by() {
    let lab = Lab::shared();
    lab.apply(&[namespace("udp", true), echo("udp/client", "node-1", ""), UDP_SERVER.to_owned()].concat());
    lab.ready("udp", &["--all"]);
    lab.enrolled("udp", &["client", "server"]);
    let client = lab.field(&["pod", "-n", "udp", "client"], ".status.podIP");
    let server = lab.field(&["pod", "-n", "udp", "server"], ".status.podIP");
    for (host, port) in [(server.as_str(), "5300"), ("server.udp.svc.cluster.local", "53530")] {
        let answer = until("the datagram is answered", || {
            let command = ["perl", "-MIO::Socket::INET", "-e", UDP_CLIENT, host, port];
            lab.exec("udp/client", &command).ok()
        });
        assert_eq!(answer, format!("from {client}: hello"), "nobody stands between them");
    }
}
