//! Names that clients bring, and whoever is behind them.

use std::{
    fs,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
};

use lateen_net::{listen, netns::Netns};
use lateen_wire::proxy;

use crate::{
    endpoints::{echo, http},
    rig::{PORT, Rig, Service, cluster},
};

const OURS: &str = "10.99.0.1";
const THEIRS: &str = "10.99.0.2";

/// Names are the machine's, and addresses a namespace's: the test below is run in a process that has its own of both.
#[test]
fn a_name_that_a_client_brings_leads_to_who_has_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, format!("{THEIRS} theirs.example.com\n{OURS} ours.example.com\n")).expect("written");
    let program = std::env::current_exe().expect("a path");
    let script = "mount --bind \"$0\" /etc/hosts && ip link set lo up && exec \"$1\" --ignored --exact \"$2\"";
    let mut child = Command::new("unshare");
    child.args(["--net", "--mount", "sh", "-c", script]).arg(hosts).arg(program);
    let output = child.arg("named::in_a_process_with_names_of_its_own").output().expect("it runs");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

fn run(namespace: Option<&Netns>, arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    let child = match namespace {
        Some(netns) => netns.spawn(&mut command).expect("enter"),
        None => command.spawn(),
    };
    assert!(child.expect("iproute2").wait().expect("wait").success(), "ip {arguments}");
}

/// A namespace beside ours, by a link.
fn neighbour() -> Netns {
    let netns = Netns::create().expect("create");
    let there = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    run(None, &format!("link add near type veth peer name far netns {there}"));
    run(None, &format!("addr add {OURS}/24 dev near"));
    run(None, "link set near up");
    run(Some(&netns), &format!("addr add {THEIRS}/24 dev far"));
    run(Some(&netns), "link set far up");
    netns
}

#[tokio::test]
#[ignore = "run by a_name_that_a_client_brings_leads_to_who_has_it"]
async fn in_a_process_with_names_of_its_own() {
    let netns = neighbour();
    let resolution = proxy::Resolution::RequestHost.into();
    let clusters =
        vec![proxy::Cluster { resolution, ..cluster(proxy::Protocol::Http, proxy::TrafficPolicy::default()) }];
    let rig = Rig::serving(Service { clusters, ..Service::default() }, &[]);
    for (ip, netns) in [(THEIRS, Some(netns)), (OURS, None)] {
        let at = SocketAddr::new(ip.parse().expect("an address"), PORT);
        let options = listen::ListenOptions { netns, ..listen::ListenOptions::default() };
        let listener = listen::tcp(at, &options).expect("listen").socket;
        let tasks = rig.tasks.clone();
        rig.tasks.spawn("server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn("server-connection", http(stream, echo));
            }
        });
    }
    let ask = |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").into_bytes();
    for host in ["theirs.example.com", "theirs.example.com:80", "Theirs.Example.com."] {
        let answer = rig.exchange(&ask(host)).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("host: "), "{host}: {answer}");
    }
    // A server of ours answers there, and is not asked: it might be ourselves.
    for host in ["ours.example.com", "nobody.example.com"] {
        let answer = rig.exchange(&ask(host)).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("dns resolution failure"), "{host}: {answer}");
    }
}
