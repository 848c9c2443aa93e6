//! A pod's rules with real packets: what is redirected, what is not, and what survives.

mod fixture;

use std::net::{SocketAddr, TcpListener};

use fixture::{WAIT, accept, addr, connect, fresh, ip, join, listen, original, pair, talk, udp, visible};
use lateen_cni_agent::rules::{
    DnsCapture, InboundCapture, PodOptions,
    apply::{Comparer, Found, apply, open, remove},
    plan::{PodRules, plan},
};
use lateen_net::{
    dial::{self, DialOptions, Source},
    netns::Netns,
};

const ZTUNNEL_MARK: u32 = 0x539;

/// A pod, and a node that is its gateway.
struct Cell {
    pod: Netns,
    node: Netns,
}

fn cell() -> Cell {
    let (pod, node) = (fresh(), fresh());
    join((&pod, "eth0", &["10.1.0.2/24", "fd00:1::2/64"]), (&node, "veth0", &["10.1.0.1/24", "fd00:1::1/64"]));
    ip(&pod, "route add default via 10.1.0.1");
    ip(&pod, "-6 route add default via fd00:1::1");
    Cell { pod, node }
}

fn standard() -> PodRules {
    plan(&PodOptions::default())
}

/// The two ends' addresses, per IP version: pod, node, loopback, any.
const VERSIONS: [(&str, &str, &str, &str); 2] =
    [("10.1.0.2", "10.1.0.1", "127.0.0.1", "0.0.0.0"), ("[fd00:1::2]", "[fd00:1::1]", "[::1]", "[::]")];

#[tokio::test]
async fn outgoing_connections_reach_ztunnel_with_their_destination() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    for (_, node, loopback, _) in VERSIONS {
        let ztunnel = listen(&cell.pod, &format!("{loopback}:15001"));
        let meant = format!("{node}:8080");
        let _client = connect(&cell.pod, &meant).expect("redirected");
        let (server, _) = accept(&ztunnel);
        assert_eq!(original(&server), addr(&meant));
    }
}

#[tokio::test]
async fn incoming_connections_reach_ztunnel_and_tunnels_are_untouched() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    for (pod, node, _, any) in VERSIONS {
        let plain = listen(&cell.pod, &format!("{any}:15006"));
        let tunnels = listen(&cell.pod, &format!("{any}:15008"));
        let (_client, server, peer) = pair(&cell.node, &format!("{pod}:8080"), &plain);
        assert_eq!(original(&server), addr(&format!("{pod}:8080")));
        assert_eq!(peer, addr(&format!("{node}:1")).ip());
        pair(&cell.node, &format!("{pod}:15008"), &tunnels);
    }
}

#[tokio::test]
async fn ingress_mode_leaves_incoming_connections_alone() {
    let cell = cell();
    let options = PodOptions { inbound: InboundCapture::Off, ..PodOptions::default() };
    apply(&cell.pod, &plan(&options)).await.expect("applies");
    for (pod, _, _, any) in VERSIONS {
        let app = listen(&cell.pod, &format!("{any}:8080"));
        pair(&cell.node, &format!("{pod}:8080"), &app);
    }
}

#[tokio::test]
async fn the_pod_calling_itself_is_left_alone() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    for (pod, _, loopback, any) in VERSIONS {
        let app = listen(&cell.pod, &format!("{any}:8080"));
        pair(&cell.pod, &format!("{pod}:8080"), &app);
        pair(&cell.pod, &format!("{loopback}:8080"), &app);
    }
}

async fn marked(netns: &Netns, to: &str, source: Source) -> std::net::TcpStream {
    let options = DialOptions {
        mark: Some(ZTUNNEL_MARK),
        source,
        netns: Some(netns.clone()),
        timeout: WAIT,
        ..DialOptions::default()
    };
    let stream = dial::tcp(addr(to), &options).await.expect(to).into_std().expect("std");
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(WAIT)).expect("a deadline");
    stream
}

#[tokio::test]
async fn what_ztunnel_sends_leaves_the_pod() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    for (pod, node, _, any) in VERSIONS {
        let far = listen(&cell.node, &format!("{any}:8080"));
        let mut client = marked(&cell.pod, &format!("{node}:8080"), Source::Any).await;
        let (mut server, peer) = accept(&far);
        assert_eq!(peer.ip(), addr(&format!("{pod}:1")).ip());
        talk(&mut client, &mut server);
    }
}

#[tokio::test]
async fn ztunnel_calls_the_app_under_the_clients_address_and_gets_the_answers() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    for (pod, node, _, any) in VERSIONS {
        let app = listen(&cell.pod, &format!("{any}:8080"));
        let client: SocketAddr = addr(&format!("{node}:0"));
        let mut ztunnel = marked(&cell.pod, &format!("{pod}:8080"), Source::Require(client.ip())).await;
        let (mut served, peer) = accept(&app);
        assert_eq!(peer.ip(), client.ip());
        talk(&mut ztunnel, &mut served);
    }
}

#[tokio::test]
async fn probes_reach_the_app_itself() {
    let cell = cell();
    ip(&cell.node, "addr add 169.254.7.127/32 dev lo");
    ip(&cell.node, "addr add fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128 dev lo nodad");
    apply(&cell.pod, &standard()).await.expect("applies");
    for ((pod, _, _, any), probe) in
        VERSIONS.into_iter().zip(["169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"])
    {
        let app = listen(&cell.pod, &format!("{any}:8080"));
        let probe = probe.parse().expect("an address");
        let options = DialOptions {
            source: Source::Require(probe),
            netns: Some(cell.node.clone()),
            timeout: WAIT,
            ..DialOptions::default()
        };
        let client = dial::tcp(addr(&format!("{pod}:8080")), &options).await.expect("reaches the app");
        let mut client = client.into_std().expect("std");
        client.set_nonblocking(false).expect("blocking");
        let (mut server, peer) = accept(&app);
        assert_eq!(peer.ip(), probe);
        talk(&mut client, &mut server);
    }
}

#[tokio::test]
async fn dns_questions_reach_ztunnel_and_its_own_leave() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    for (_, node, loopback, any) in VERSIONS {
        let upstream = udp(&cell.node, &format!("{any}:53"));
        let ztunnel = udp(&cell.pod, &format!("{loopback}:15053"));
        let app = udp(&cell.pod, &format!("{any}:0"));
        app.send_to(b"question", format!("{node}:53")).expect("sends");
        let mut bytes = [0; 64];
        let (read, from) = ztunnel.recv_from(&mut bytes).expect("ztunnel gets it");
        assert_eq!(&bytes[..read], b"question");

        // ztunnel asks upstream from the same port the app used: a conntrack zone of its own keeps them apart.
        let port = app.local_addr().expect("address").port();
        let own = cell.pod.run(|| marked_udp(any)).expect("enter");
        own.send_to(b"forwarded", format!("{node}:53")).expect("sends");
        let (read, asker) = upstream.recv_from(&mut bytes).expect("upstream gets it");
        assert_eq!(&bytes[..read], b"forwarded");
        upstream.send_to(b"answer", asker).expect("answers");
        let (read, _) = own.recv_from(&mut bytes).expect("ztunnel gets the answer");
        assert_eq!(&bytes[..read], b"answer");

        ztunnel.send_to(b"told", from).expect("answers");
        let (read, told_by) = app.recv_from(&mut bytes).expect("the app gets it");
        assert_eq!(&bytes[..read], b"told");
        assert_eq!(told_by, addr(&format!("{node}:53")), "port {port}");

        let over_tcp = listen(&cell.pod, &format!("{loopback}:15053"));
        let _client = connect(&cell.pod, &format!("{node}:53")).expect("redirected");
        assert_eq!(original(&accept(&over_tcp).0), addr(&format!("{node}:53")));
    }
}

fn marked_udp(any: &str) -> std::net::UdpSocket {
    let at = addr(&format!("{any}:0"));
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::DGRAM, None).expect("a socket");
    socket.set_mark(ZTUNNEL_MARK).expect("marked");
    socket.bind(&at.into()).expect("bound");
    socket.set_read_timeout(Some(WAIT)).expect("a deadline");
    socket.into()
}

#[tokio::test]
async fn without_dns_capture_questions_go_where_they_were_sent() {
    let cell = cell();
    let options = PodOptions { dns: DnsCapture::Off, ..PodOptions::default() };
    apply(&cell.pod, &plan(&options)).await.expect("applies");
    // Other datagrams are never touched, questions only when asked for.
    for port in [53, 9999] {
        let upstream = udp(&cell.node, &format!("0.0.0.0:{port}"));
        let app = udp(&cell.pod, "0.0.0.0:0");
        app.send_to(b"question", format!("10.1.0.1:{port}")).expect("sends");
        let mut bytes = [0; 64];
        assert_eq!(upstream.recv(&mut bytes).expect("arrives"), 8);
    }
}

#[tokio::test]
async fn connections_survive_enrolment_and_its_end() {
    let cell = cell();
    for (pod, node, _, any) in VERSIONS {
        let (far, app) = (listen(&cell.node, &format!("{any}:8080")), listen(&cell.pod, &format!("{any}:8081")));
        let (mut out_a, mut out_b, _) = pair(&cell.pod, &format!("{node}:8080"), &far);
        let (mut in_a, mut in_b, _) = pair(&cell.node, &format!("{pod}:8081"), &app);
        let mut both = || {
            talk(&mut out_a, &mut out_b);
            talk(&mut in_b, &mut in_a);
            talk(&mut out_b, &mut out_a);
            talk(&mut in_a, &mut in_b);
        };
        apply(&cell.pod, &standard()).await.expect("applies");
        both();
        // The rules do hold for what is new: nobody listens on 15001.
        assert!(connect(&cell.pod, &format!("{node}:8080")).is_err(), "a new connection was not redirected");
        apply(&cell.pod, &standard()).await.expect("applies again");
        both();
        remove(&cell.pod).await.expect("removes");
        both();
        pair(&cell.pod, &format!("{node}:8080"), &far);
        apply(&cell.pod, &standard()).await.expect("enrols once more");
        both();
        remove(&cell.pod).await.expect("removes once more");
    }
}

/// The order in which a pod is taken out: what ztunnel ends then must be heard, and nothing of it may leave in plain.
#[tokio::test]
async fn opened_rules_take_nothing_new_and_let_ztunnel_end_what_it_has() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    for (pod, node, loopback, any) in VERSIONS {
        let outgoing = listen(&cell.pod, &format!("{loopback}:15001"));
        let incoming = listen(&cell.pod, &format!("{any}:15006"));
        let (far, app) = (listen(&cell.node, &format!("{any}:8080")), listen(&cell.pod, &format!("{any}:8081")));
        let (caller, redirected, _) = pair(&cell.pod, &format!("{node}:8080"), &outgoing);
        let (plain, captured, _) = pair(&cell.node, &format!("{pod}:8081"), &incoming);
        let client: SocketAddr = addr(&format!("{node}:0"));
        let mut delivered = marked(&cell.pod, &format!("{pod}:8081"), Source::Require(client.ip())).await;
        let (mut served, _) = accept(&app);

        open(&cell.pod).await.expect("opens");
        pair(&cell.pod, &format!("{node}:8080"), &far);
        pair(&cell.node, &format!("{pod}:8081"), &app);
        // The app's answers still go to ztunnel, and not in plain to the client.
        talk(&mut delivered, &mut served);
        for (ours, mut theirs) in [(redirected, caller), (captured, plain), (delivered, served)] {
            socket2::SockRef::from(&ours).set_linger(Some(std::time::Duration::ZERO)).expect("lingers not");
            drop(ours);
            let heard = std::io::Read::read(&mut theirs, &mut [0]).expect_err("it was cut");
            assert_eq!(heard.kind(), std::io::ErrorKind::ConnectionReset);
        }
        open(&cell.pod).await.expect("opens again");
        remove(&cell.pod).await.expect("removes");
        open(&cell.pod).await.expect("there is nothing to open");
        apply(&cell.pod, &standard()).await.expect("applies again");
        pair(&cell.pod, &format!("{node}:8080"), &outgoing);
    }
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_removing_leaves_nothing() {
    let cell = cell();
    cell.pod
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "9000-9001\n"))
        .expect("enter")
        .expect("writes");
    let before = visible(&cell.pod);
    apply(&cell.pod, &standard()).await.expect("applies");
    let once = visible(&cell.pod);
    assert!(once.contains("9000-9001,15001,15006,15008,15053"), "{once}");
    assert!(once.contains("fwmark 0x111/0xfff lookup 100"), "{once}");
    apply(&cell.pod, &standard()).await.expect("applies again");
    assert_eq!(visible(&cell.pod), once);
    remove(&cell.pod).await.expect("removes");
    assert_eq!(visible(&cell.pod), before);
    remove(&cell.pod).await.expect("removes what is not there");
    assert_eq!(visible(&cell.pod), before);
}

/// Two sockets share a port, as an old and a new ztunnel do; what waits at the one that closes is taken by the other.
#[tokio::test]
async fn connections_queued_at_a_closing_listener_are_handed_over() {
    let cell = cell();
    apply(&cell.pod, &standard()).await.expect("applies");
    let listen = || {
        let made = cell.pod.run(|| socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None));
        let socket = made.expect("enter").expect("a socket");
        socket.set_reuse_port(true).expect("SO_REUSEPORT");
        socket.bind(&addr("[::]:15001").into()).expect("binds");
        socket.listen(64).expect("listens");
        socket.set_nonblocking(true).expect("nonblocking");
        std::net::TcpListener::from(socket)
    };
    let (old, new) = (listen(), listen());
    // The kernel spreads them over both by a hash; with so many, some wait at each.
    let mut clients: Vec<_> = (0..32)
        .map(|turn| connect(&cell.pod, if turn % 2 == 0 { "127.0.0.1:15001" } else { "[::1]:15001" }).expect("queued"))
        .collect();
    drop(old);
    for _ in &clients {
        let (mut stream, _) = accept(&new);
        std::io::Write::write_all(&mut stream, b"x").expect("writes");
    }
    for client in &mut clients {
        std::io::Read::read_exact(client, &mut [0]).expect("served, not reset");
    }
}

#[tokio::test]
async fn a_namespace_is_compared_with_its_plan() {
    let (cell, comparer) = (cell(), Comparer::default());
    let virtual_interfaces =
        ["vif0"].iter().filter_map(|name| lateen_cni_agent::rules::InterfaceName::parse(name)).collect();
    let other = plan(&PodOptions { virtual_interfaces, ..PodOptions::default() });
    assert_eq!(comparer.compare(&cell.pod, &standard()).await.expect("compares"), Found::Nothing);
    apply(&cell.pod, &standard()).await.expect("applies");
    assert_eq!(comparer.compare(&cell.pod, &standard()).await.expect("compares"), Found::Same);
    assert_eq!(comparer.compare(&cell.pod, &other).await.expect("compares"), Found::Different);
    fixture::output(&cell.pod, "nft", "flush chain inet lateen-pod nat-output");
    assert_eq!(comparer.compare(&cell.pod, &standard()).await.expect("compares"), Found::Different);
}

#[tokio::test]
async fn traffic_of_a_virtual_interface_counts_as_outgoing() {
    let (cell, guest) = (cell(), fresh());
    join((&cell.pod, "vif0", &["10.9.0.1/24"]), (&guest, "eth0", &["10.9.0.2/24"]));
    ip(&guest, "route add default via 10.9.0.1");
    let virtual_interfaces =
        ["vif0"].iter().filter_map(|name| lateen_cni_agent::rules::InterfaceName::parse(name)).collect();
    apply(&cell.pod, &plan(&PodOptions { virtual_interfaces, ..PodOptions::default() })).await.expect("applies");
    let ztunnel: TcpListener = listen(&cell.pod, "0.0.0.0:15001");
    let _client = connect(&guest, "10.1.0.1:8080").expect("redirected");
    assert_eq!(original(&accept(&ztunnel).0), addr("10.1.0.1:8080"));
}
