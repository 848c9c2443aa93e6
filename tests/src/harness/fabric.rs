//! A bridge in a namespace of its own, and namespaces joined to it.
//!
//! In: addresses. Out: namespaces whose `eth0` has them. Everything disappears with the last handle.

use std::{
    io::Write as _,
    os::fd::{AsFd as _, AsRawFd as _},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use lateen_net::netns::Netns;

/// The wire between namespaces.
pub struct Fabric {
    bridge: Netns,
    next: AtomicU32,
}

impl Default for Fabric {
    fn default() -> Self {
        Self::new()
    }
}

impl Fabric {
    /// An empty bridge.
    pub fn new() -> Self {
        let bridge = Netns::create().expect("a namespace; these tests need root");
        ip(&bridge, "link add br0 type bridge\nlink set br0 up");
        Self { bridge, next: AtomicU32::new(1) }
    }

    /// A namespace on the bridge with these addresses, written with their prefix length.
    pub fn attach(&self, addresses: &[&str]) -> Netns {
        let netns = Netns::create().expect("a namespace");
        netns.loopback_up().expect("lo");
        let port = format!("p{}", self.next.fetch_add(1, Ordering::Relaxed));
        let inside = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
        let add = format!("link add {port} type veth peer name eth0 netns {inside}");
        ip(&self.bridge, &format!("{add}\nlink set {port} master br0 up"));
        let mut setup = String::new();
        for address in addresses {
            // Without nodad an IPv6 address would be unusable for its first second.
            let nodad = if address.contains(':') { " nodad" } else { "" };
            setup.push_str(&format!("addr add {address} dev eth0{nodad}\n"));
        }
        ip(&netns, &format!("{setup}link set eth0 up"));
        // Virtual addresses need a route before the rules can turn them; as a pod's default route gives.
        ip(&netns, "route add 0.0.0.0/0 dev eth0\nroute add ::/0 dev eth0");
        netns
    }
}

/// Runs `ip` commands inside a namespace.
pub fn ip(netns: &Netns, commands: &str) {
    let mut command = Command::new("ip");
    command.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = netns.spawn(&mut command).expect("enter").expect("iproute2 is installed");
    child.stdin.take().expect("piped").write_all(commands.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success(), "ip {commands}: {}", String::from_utf8_lossy(&output.stderr));
}
