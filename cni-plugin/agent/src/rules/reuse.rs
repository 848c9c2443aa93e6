//! Source ports that are not used up by calls that have ended.
//!
//! ztunnel calls a pod's application from the client's address, so all calls of one client to one port of a pod share
//! 28,000 source ports, and where the client closes first each stays in TIME_WAIT for a minute on ztunnel's side. After
//! 14,000 calls within that minute the kernel takes 2 ms of CPU to find a free port, and after 28,000 there is none and
//! calls fail. `tcp_tw_reuse` lets such a port be taken again after a second, which TCP's timestamps make safe. The
//! kernel's default allows it for loopback only.
//!
//! In: a namespace. Out: the setting is on, unless the pod has chosen itself. Absent on purpose: switching it off again; it
//! serves the pod's own calls just as well.

use std::{fs, io};

use lateen_net::netns::{Netns, NetnsError};

const FILE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";
/// "For loopback only", the kernel's default.
const UNCHOSEN: &str = "2";

/// Switches it on where nobody has chosen, for both IP versions. The inner error is the file's: it is read-only in an
/// unprivileged container.
pub fn allow(netns: &Netns) -> Result<io::Result<()>, NetnsError> {
    // Below /proc/sys/net one sees the namespace of the thread.
    netns.run(|| if fs::read_to_string(FILE)?.trim() == UNCHOSEN { fs::write(FILE, "1") } else { Ok(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_changed_and_a_choice_is_kept() {
        for (before, after) in [("2", "1"), ("1", "1"), ("0", "0")] {
            let netns = Netns::create().expect("create");
            netns.run(|| fs::write(FILE, before)).expect("enter").expect("write");
            allow(&netns).expect("enter").expect("write");
            let now = netns.run(|| fs::read_to_string(FILE)).expect("enter").expect("read");
            assert_eq!(now.trim(), after);
        }
    }
}
