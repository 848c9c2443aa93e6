//! Two pods of one node: what a tunnel between them would enforce and tell holds without one, and with one.

use lateen_net::netns::Netns;
use lateen_tests::harness::{
    eventually,
    fabric::ip,
    resources::{from_principal, pod, policy, to_port},
    rig::{Rig, SameNode},
    traffic::{Manner, call, connect, is_cut, ping, serve},
};
use lateen_wire::{
    security::{Action, Address, Match, Scope},
    type_url,
    workload::Workload,
};

const TO_B: &str = "10.77.0.12:8080";
const SA_A: &str = "cluster.local/ns/default/sa/a";
const SA_D: &str = "cluster.local/ns/default/sa/d";

/// What the caller's record says of a refusal.
fn refusal(same_node: SameNode) -> &'static str {
    match same_node {
        SameNode::Direct => "refused by the destination on this node",
        SameNode::Hbone => "http status: 401",
    }
}

async fn refused_from_now_on(rig: &Rig, to: &str) {
    eventually("a refusal", || async { call(&rig.a, to, "hello").await.unwrap_or_default().is_empty().then_some(()) })
        .await;
}

async fn answered_again(rig: &Rig, to: &str) {
    eventually("an answer", || async {
        (call(&rig.a, to, "hello").await.unwrap_or_default() == "hello").then_some(())
    })
    .await;
}

/// How many packets this namespace has had on its tunnel port.
fn count_tunnel_packets(netns: &Netns) -> impl Fn() -> u64 {
    let nft = |arguments: &[&str]| {
        let mut command = std::process::Command::new("nft");
        command.args(arguments).stdout(std::process::Stdio::piped());
        let output = netns.spawn(&mut command).expect("enter").expect("nft").wait_with_output().expect("wait");
        assert!(output.status.success(), "nft {arguments:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    nft(&["add table inet seen; add chain inet seen in { type filter hook input priority -400; }; \
          add rule inet seen in tcp dport 15008 counter"]);
    move || {
        let listed = nft(&["list", "table", "inet", "seen"]);
        let count = listed.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).expect("a counter")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_packet_goes_to_the_tunnel_port_and_all_that_is_told_names_both_ends() {
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let ztunnel = &rig.nodes[0].ztunnel;
        let mut server = serve(&rig.tasks, &rig.b, 8080, Manner::Echo);
        let packets = count_tunnel_packets(&rig.b);
        for to in [TO_B, "[fd00:77::12]:8080"] {
            let mut stream = connect(&rig.a, to).await.expect("connected");
            ping(&mut stream).await.expect("works");
            let own = stream.local_addr().expect("address").ip();
            assert_eq!(server.next_peer().await, own, "the server sees the client's address");
            let dump = ztunnel.get(15000, "/config_dump").await;
            let (word, listed) = match same_node {
                SameNode::Direct => ("\"SAMENODE\"", 2),
                SameNode::Hbone => ("\"HBONE\"", 2),
            };
            let states = dump.split("\"workloadState\"").nth(1).expect("the pods");
            assert!(states.matches(word).count() >= listed, "{states}");
        }
        let security = match same_node {
            SameNode::Direct => "connection_security_policy=\"same_node\"",
            SameNode::Hbone => "connection_security_policy=\"mutual_tls\"",
        };
        for reporter in ["source", "destination"] {
            let labels = [
                security,
                &format!("reporter=\"{reporter}\""),
                &format!("source_principal=\"spiffe://{SA_A}\""),
                "destination_principal=\"spiffe://cluster.local/ns/default/sa/b\"",
            ];
            eventually("both connections are counted at both ends", || async {
                let closed = ztunnel.metric("istio_tcp_connections_closed_total", &labels).await;
                ((closed - 2.0).abs() < 0.5).then_some(())
            })
            .await;
            for metric in ["istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"] {
                assert!((ztunnel.metric(metric, &labels).await - 8.0).abs() < 0.5, "{metric} of {reporter}");
            }
        }
        assert_eq!(packets() == 0, same_node == SameNode::Direct, "{same_node:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deny_policy_refuses_new_connections_and_cuts_live_ones() {
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let ztunnel = &rig.nodes[0].ztunnel;
        let _servers = [8080, 9090].map(|port| serve(&rig.tasks, &rig.b, port, Manner::Echo));
        let mut live = connect(&rig.a, TO_B).await.expect("connected");
        let mut untouched = connect(&rig.a, "10.77.0.12:9090").await.expect("connected");
        ping(&mut live).await.expect("works");
        ping(&mut untouched).await.expect("works");

        // A dry run is told and changes nothing.
        let mut rehearsed = policy("rehearsed", Action::Deny, to_port(9090));
        rehearsed.dry_run = true;
        rig.control.policies([rehearsed, policy("no-8080", Action::Deny, to_port(8080))]);
        is_cut(&mut live).await;
        ztunnel.record_after(0, &["direction=\"inbound\"", "connection closed due to policy change"]).await;
        refused_from_now_on(&rig, TO_B).await;
        let reason = "connection closed due to policy rejection: explicitly denied by: default/no-8080";
        ztunnel.record_after(0, &["direction=\"inbound\"", reason]).await;
        ztunnel.record_after(0, &["direction=\"outbound\"", refusal(same_node)]).await;
        let denied = ["reporter=\"destination\"", "response_flags=\"DENY\""];
        assert!(ztunnel.metric("istio_tcp_connections_failed_total", &denied).await >= 2.0);
        let failed = ["reporter=\"source\"", "response_flags=\"CONNECT\""];
        assert!(ztunnel.metric("istio_tcp_connections_failed_total", &failed).await >= 1.0);
        ping(&mut untouched).await.expect("a policy that does not concern it leaves it alone");

        rig.control.remove(type_url::AUTHORIZATION, "default/no-8080");
        answered_again(&rig, TO_B).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_see_who_calls_from_where() {
    let block =
        |ip: [u8; 4]| Match { source_ips: vec![Address { address: ip.to_vec(), length: 32 }], ..Match::default() };
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let _server = serve(&rig.tasks, &rig.b, 8080, Manner::Echo);
        let mut live = connect(&rig.a, TO_B).await.expect("connected");
        for (allowed, refused) in
            [(from_principal(SA_A), from_principal(SA_D)), (block([10, 77, 0, 11]), block([10, 77, 0, 21]))]
        {
            rig.control.policies([policy("only", Action::Allow, allowed)]);
            answered_again(&rig, TO_B).await;
            ping(&mut live).await.expect("a policy that still allows it leaves it alone");
            rig.control.policies([policy("only", Action::Allow, refused)]);
            refused_from_now_on(&rig, TO_B).await;
            is_cut(&mut live).await;
            rig.control.remove(type_url::AUTHORIZATION, "default/only");
            answered_again(&rig, TO_B).await;
            live = connect(&rig.a, TO_B).await.expect("connected");
        }
        // A policy the workload names that has not arrived: nobody knows what it forbids.
        let named = Workload {
            authorization_policies: vec!["default/on-its-way".into()],
            ..pod("b", "node-1", &["10.77.0.12", "fd00:77::12"])
        };
        rig.control.workloads([named]);
        refused_from_now_on(&rig, TO_B).await;
        let reason = "default/on-its-way is attached to the destination but has not arrived";
        rig.nodes[0].ztunnel.record_after(0, &[reason]).await;
        let mut arrived = policy("on-its-way", Action::Allow, from_principal(SA_A));
        arrived.scope = Scope::WorkloadSelector.into();
        rig.control.policies([arrived]);
        answered_again(&rig, TO_B).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_pods_end_ends_the_connection() {
    for same_node in SameNode::BOTH {
        for leaving in ["a", "b"] {
            let rig = Rig::start_in(same_node).await;
            let [near, _] = &rig.nodes;
            let _server = serve(&rig.tasks, &rig.b, 8080, Manner::Echo);
            let mut live = connect(&rig.a, TO_B).await.expect("connected");
            ping(&mut live).await.expect("works");
            assert_eq!(near.agent.del(leaving).await, "");
            is_cut(&mut live).await;
            let told = if leaving == "a" { "direction=\"outbound\"" } else { "direction=\"inbound\"" };
            near.ztunnel.record_after(0, &[told, "connection closed due to connection drain"]).await;
            eventually("both ends are told", || async { (near.ztunnel.records().len() >= 2).then_some(()) }).await;
            // Nobody serves b any more: its rules lead to closed ports, and nobody enters it.
            assert_eq!(call(&rig.a, TO_B, "hello").await.unwrap_or_default(), "");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_certificates_nothing_passes() {
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let ztunnel = &rig.nodes[0].ztunnel;
        let mut server = serve(&rig.tasks, &rig.b, 8080, Manner::Echo);
        assert_eq!(call(&rig.a, TO_B, "hello").await.expect("answered"), "hello");
        rig.control.ca.refuse(true);
        // Both get a new identity that the authority does not vouch for.
        let anew =
            |name: &str, ip: &str| Workload { trust_domain: "other.domain".into(), ..pod(name, "node-1", &[ip]) };
        rig.control.workloads([anew("a", "10.77.0.11"), anew("b", "10.77.0.12")]);
        eventually("the refusal", || async {
            let _either = call(&rig.a, TO_B, "hello").await;
            let refused = |line: &String| line.contains("\"outbound\"") && line.contains("no certificate");
            ztunnel.records().into_iter().find(refused)
        })
        .await;
        while server.peers.try_recv().is_ok() {}
        assert_eq!(call(&rig.a, TO_B, "hello").await.unwrap_or_default(), "");
        assert!(server.peers.try_recv().is_err(), "nothing reaches the server");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_with_a_strangers_address_gains_nothing() {
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let mut server = serve(&rig.tasks, &rig.b, 8080, Manner::Echo);
        // The pod gives itself the address of d, which alone may call.
        ip(&rig.a, "addr add 10.77.0.21/32 dev lo");
        let only_d =
            Match { source_ips: vec![Address { address: vec![10, 77, 0, 21], length: 32 }], ..Match::default() };
        rig.control.policies([policy("only-d", Action::Allow, only_d)]);
        refused_from_now_on(&rig, TO_B).await;
        while server.peers.try_recv().is_ok() {}
        let spoofed = rig.a.run(|| {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind("10.77.0.21:0".parse().expect("an address"))?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = spoofed.expect("enter").expect("bound");
        if let Ok(mut stream) = socket.connect(TO_B.parse().expect("an address")).await {
            assert!(ping(&mut stream).await.is_err(), "{same_node:?}");
        }
        assert!(server.peers.try_recv().is_err(), "nothing reaches the server");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_to_a_pod_that_moved_does_not_leave_in_plain() {
    let rig = Rig::start_in(SameNode::Direct).await;
    let ztunnel = &rig.nodes[0].ztunnel;
    let _b = serve(&rig.tasks, &rig.b, 8080, Manner::Echo);
    let mut stranger = serve(&rig.tasks, &rig.c, 8080, Manner::Echo);
    // The world is behind: it gives b an address that c, outside the mesh, has.
    rig.control.remove(type_url::ADDRESS, "Kubernetes//Pod/default/c");
    rig.control.workloads([pod("b", "node-1", &["10.77.0.13"])]);
    eventually("a tunnel to the address, which c does not answer", || async {
        let _either = call(&rig.a, "10.77.0.13:8080", "secret").await;
        let tunnelled = |line: &String| line.contains("\"outbound\"") && line.contains("dst.addr=10.77.0.13:15008");
        ztunnel.records().into_iter().find(tunnelled)
    })
    .await;
    while stranger.peers.try_recv().is_ok() {}
    assert_eq!(call(&rig.a, "10.77.0.13:8080", "secret").await.unwrap_or_default(), "");
    assert!(stranger.peers.try_recv().is_err(), "nothing reaches the stranger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_is_not_there_is_reported_by_both_ends() {
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let ztunnel = &rig.nodes[0].ztunnel;
        assert_eq!(call(&rig.a, TO_B, "hello").await.unwrap_or_default(), "");
        ztunnel.record_after(0, &["direction=\"inbound\"", "cannot connect to 10.77.0.12:8080", "\terror\t"]).await;
        ztunnel.record_after(0, &["direction=\"outbound\"", "\terror\t"]).await;
        // Our own ports are not for anyone.
        for port in [15001, 15006, 15008] {
            assert_eq!(call(&rig.a, &format!("10.77.0.12:{port}"), "hello").await.unwrap_or_default(), "");
        }
        ztunnel.record_after(0, &["port 15008 is ztunnel's own"]).await;
    }
}
