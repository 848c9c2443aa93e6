//! The hand-over of a pod from one ztunnel to the next without a lost connection.
//!
//! Both listen on the same ports for a while. When the old one closes its sockets, the kernel resets what waits in their
//! queues and what is in the middle of its handshake, unless `tcp_migrate_req` tells it to give those to the new one's
//! sockets.
//!
//! In: a namespace. Out: the setting is on. Absent on purpose: switching it off. It concerns none but groups of sockets
//! that share a port (SO_REUSEPORT), and it may be on by the pod's own wish.

use std::io;

use lateen_net::netns::{Netns, NetnsError};

use super::sysctl;

const SETTING: &str = "ipv4/tcp_migrate_req";

/// Switches it on, for both IP versions. The inner error is the file's: it may be read-only (see `sysctl`), and kernels
/// before 5.14 have none.
pub fn allow(netns: &Netns) -> Result<io::Result<()>, NetnsError> {
    netns.run(|| std::fs::write(sysctl::file(SETTING), "1"))
}
