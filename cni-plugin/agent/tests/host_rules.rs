//! The node's probe rules with real packets.

mod fixture;

use fixture::{fresh, ip, join, listen, pair, visible};
use lateen_cni_agent::rules::{
    ProbeAddresses,
    apply::{change_host, remove_host},
    host::Owners,
};
use lateen_net::netns::Netns;
use lateen_types::name::PodUid;

/// A node with two pods behind it, which it routes between.
struct Node {
    node: Netns,
    enrolled: Netns,
    other: Netns,
}

fn node() -> Node {
    let (node, enrolled, other) = (fresh(), fresh(), fresh());
    join((&node, "veth1", &["10.1.0.1/24", "fd00:1::1/64"]), (&enrolled, "eth0", &["10.1.0.2/24", "fd00:1::2/64"]));
    join((&node, "veth2", &["10.2.0.1/24", "fd00:2::1/64"]), (&other, "eth0", &["10.2.0.2/24", "fd00:2::2/64"]));
    for (pod, v4, v6) in [(&enrolled, "10.1.0.1", "fd00:1::1"), (&other, "10.2.0.1", "fd00:2::1")] {
        ip(pod, &format!("route add default via {v4}"));
        ip(pod, &format!("-6 route add default via {v6}"));
    }
    node.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwards");
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("forwards");
    })
    .expect("enter");
    Node { node, enrolled, other }
}

#[tokio::test]
async fn only_what_begins_on_the_node_gets_the_probes_address() {
    let cell = node();
    let mut owners = Owners::default();
    change_host(&cell.node, &owners.table(ProbeAddresses::default())).await.expect("applies");
    let uid = PodUid::from("u1");
    let ips = ["10.1.0.2".parse().expect("valid"), "fd00:1::2".parse().expect("valid")];
    change_host(&cell.node, &owners.assign(&uid, &ips)).await.expect("adds");
    let probes = ProbeAddresses::default();
    for (to, any, other, probe, peer) in [
        ("10.1.0.2", "0.0.0.0", "10.2.0.2", probes.v4.into(), "10.2.0.2"),
        ("[fd00:1::2]", "[::]", "[fd00:2::2]", std::net::IpAddr::from(probes.v6), "fd00:2::2"),
    ] {
        let (app, unenrolled) =
            (listen(&cell.enrolled, &format!("{any}:8080")), listen(&cell.other, &format!("{any}:8080")));
        let (_, _, seen) = pair(&cell.node, &format!("{to}:8080"), &app);
        assert_eq!(seen, probe, "a probe from the node");
        let (_, _, seen) = pair(&cell.other, &format!("{to}:8080"), &app);
        assert_eq!(seen.to_string(), peer, "another pod, forwarded by the node");
        let (_, _, seen) = pair(&cell.node, &format!("{other}:8080"), &unenrolled);
        assert_ne!(seen, probe, "a pod that is not enrolled");
    }
    change_host(&cell.node, &owners.release(&uid)).await.expect("releases");
    let app = listen(&cell.enrolled, "0.0.0.0:8080");
    let (_, _, seen) = pair(&cell.node, "10.1.0.2:8080", &app);
    assert_eq!(seen.to_string(), "10.1.0.1");
}

#[tokio::test]
async fn changes_are_repeatable_and_removal_leaves_nothing() {
    let cell = node();
    let before = visible(&cell.node);
    let mut owners = Owners::default();
    change_host(&cell.node, &owners.table(ProbeAddresses::default())).await.expect("applies");
    let uid = PodUid::from("u1");
    let added = owners.assign(&uid, &["10.1.0.2".parse().expect("valid")]);
    change_host(&cell.node, &added).await.expect("adds");
    let once = visible(&cell.node);
    assert!(once.contains("10.1.0.2 comment \"u1\""), "{once}");
    change_host(&cell.node, &added).await.expect("adds again");
    assert_eq!(visible(&cell.node), once);
    change_host(&cell.node, &owners.table(ProbeAddresses::default())).await.expect("writes the whole table");
    assert_eq!(visible(&cell.node), once);
    let released = owners.release(&uid);
    for _ in 0..2 {
        change_host(&cell.node, &released).await.expect("releases");
    }
    assert!(!visible(&cell.node).contains("10.1.0.2 comment"));
    remove_host(&cell.node).await.expect("removes");
    assert_eq!(visible(&cell.node), before);
}
