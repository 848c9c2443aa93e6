//! Whether an address is a namespace's own.
//!
//! In: a namespace and an address. Out: yes only if what is sent there from inside never leaves it.
//! Absent on purpose: which address belongs to whom (see the callers' world).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::netns::{Netns, NetnsError};

/// Any: nothing is sent.
const PORT: u16 = 1;

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// No socket could be made, or there is no way to the address at all.
    #[error("cannot look up the way to {ip}: {source}")]
    Route {
        /// The address.
        ip: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Whether `ip` is an address of `netns` itself, by the kernel's own routing: towards its own address a namespace speaks
/// from that address, towards any other it never does. (Binding to the address would be believed by a pod's
/// `ip_nonlocal_bind`.) A second address of one interface may be taken for a stranger's; the opposite cannot happen.
pub fn is_own_address(netns: &Netns, ip: IpAddr) -> Result<bool, LocalError> {
    let from = netns.run(|| speaks_from(ip))?.map_err(|source| LocalError::Route { ip, source })?;
    Ok(from == Some(ip))
}

/// The same of the namespace this thread is in. Where there is no way, it is nobody's here.
pub fn is_own_address_here(ip: IpAddr) -> bool {
    speaks_from(ip).is_ok_and(|from| from == Some(ip))
}

fn speaks_from(ip: IpAddr) -> io::Result<Option<IpAddr>> {
    let to = SocketAddr::new(ip, PORT);
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
    // On a datagram socket this chooses a route and sends nothing.
    socket.connect(&SockAddr::from(to))?;
    Ok(socket.local_addr()?.as_socket().map(|from| from.ip()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn ip(netns: &Netns, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(arguments.split(' '));
        let status = netns.spawn(&mut command).expect("enter").expect("iproute2").wait().expect("wait");
        assert!(status.success(), "ip {arguments}");
    }

    #[test]
    fn own_addresses_are_told_from_strangers() {
        let netns = Netns::create().expect("create");
        netns.loopback_up().expect("lo");
        ip(&netns, "link add eth0 type veth peer name other");
        ip(&netns, "link set other up");
        for address in ["10.1.0.2/24", "fd00:1::2/64"] {
            ip(&netns, &format!("addr add {address} dev eth0"));
        }
        ip(&netns, "link set eth0 up");
        ip(&netns, "route add default via 10.1.0.1");
        let own = |text: &str| is_own_address(&netns, text.parse().expect("an address"));
        for text in ["10.1.0.2", "127.0.0.1", "::1"] {
            assert!(own(text).expect("known"), "{text}");
        }
        // A neighbour, and what is behind the gateway.
        for text in ["10.1.0.3", "8.8.8.8", "fd00:1::3"] {
            assert!(!own(text).unwrap_or(false), "{text}");
        }
        let here = |text: &str| is_own_address_here(text.parse().expect("an address"));
        for (text, expected) in [("10.1.0.2", true), ("::1", true), ("10.1.0.3", false), ("fd99::1", false)] {
            assert_eq!(netns.run(|| here(text)).expect("enter"), expected, "{text}");
        }
        // A pod that may bind to anything is not believed for it.
        netns.run(|| std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").expect("set")).expect("enter");
        assert!(!own("10.1.0.3").expect("known"));
        // And an address that is gone is gone.
        ip(&netns, "addr del 10.1.0.2/24 dev eth0");
        assert!(!own("10.1.0.2").unwrap_or(false));
    }
}
