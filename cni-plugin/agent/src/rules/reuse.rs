//! Source ports that are not used up by calls that have ended.
//!
//! ztunnel calls a pod's application from the client's address, so all calls of one client to one port of a pod share
//! 28,000 source ports, and where the client closes first each stays in TIME_WAIT for a minute on ztunnel's side. After
//! 14,000 calls within that minute the kernel takes 2 ms of CPU to find a free port, and after 28,000 there is none and
//! calls fail. `tcp_tw_reuse` lets such a port be taken again after a second, which TCP's timestamps make safe. The
//! kernel's default allows it for loopback only.
//!
//! Where we close first, as after a server has, TIME_WAIT is on the side that faces the calling application: one socket for
//! each of its source ports, whatever it called. It may take that port again at once for another destination, and its
//! timestamps begin at a random offset for each destination: half of such calls look old, are ignored, and succeed a second
//! later with the next SYN. `tcp_timestamps=2` leaves the offset out, so that time goes on from one call to the next. What it
//! costs: who is called outside the mesh can tell how long the node has been up.
//!
//! In: a namespace. Out: the settings are on, unless the pod has chosen itself. Absent on purpose: switching them off again;
//! they serve the pod's own calls just as well.

use std::{fs, io};

use lateen_net::netns::{Netns, NetnsError};

use super::sysctl;

/// What is set, the kernel's default (which nobody has chosen), and our value. They hold for both IP versions.
const SETTINGS: [(&str, &str, &str); 2] = [("ipv4/tcp_tw_reuse", "2", "1"), ("ipv4/tcp_timestamps", "1", "2")];

/// Changes what nobody has chosen. The inner error is a file's: they may be read-only (see `sysctl`).
pub fn allow(netns: &Netns) -> Result<io::Result<()>, NetnsError> {
    netns.run(|| {
        SETTINGS.iter().try_for_each(|(setting, unchosen, ours)| {
            let file = sysctl::file(setting);
            if fs::read_to_string(&file)?.trim() == *unchosen { fs::write(file, ours) } else { Ok(()) }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_changed_and_a_choice_is_kept() {
        for (before, after) in [(["2", "1"], ["1", "2"]), (["1", "2"], ["1", "2"]), (["0", "0"], ["0", "0"])] {
            let netns = Netns::create().expect("create");
            let files = || SETTINGS.iter().map(|(setting, _, _)| sysctl::file(setting));
            let set = || files().zip(before).try_for_each(|(file, value)| fs::write(file, value));
            netns.run(set).expect("enter").expect("write");
            allow(&netns).expect("enter").expect("write");
            let read = || files().map(fs::read_to_string).collect::<io::Result<Vec<_>>>();
            let now = netns.run(read).expect("enter").expect("read");
            assert_eq!(now.iter().map(|value| value.trim()).collect::<Vec<_>>(), after);
        }
    }
}
