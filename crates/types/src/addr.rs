//! Where things are: addresses that carry their role, so that one cannot be used for another.
//!
//! In: socket addresses from the kernel, bytes from the wire. Out: role newtypes and `network/ip` keys.
//! Absent on purpose: sockets.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{WordError, name::NetworkId};

/// Declares a socket address with one role.
macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SocketAddr);

        impl $name {
            /// Takes the address into this role; IPv4-mapped IPv6 becomes plain IPv4.
            pub fn new(addr: SocketAddr) -> Self {
                Self(canonical(addr))
            }
            /// The plain address.
            pub fn get(self) -> SocketAddr {
                self.0
            }
            /// The IP part.
            pub fn ip(self) -> IpAddr {
                self.0.ip()
            }
            /// The port part.
            pub fn port(self) -> u16 {
                self.0.port()
            }
        }
        impl From<SocketAddr> for $name {
            fn from(addr: SocketAddr) -> Self {
                Self::new(addr)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

role! {
    /// Who called: the TCP peer of an accepted connection.
    ClientAddr
}
role! {
    /// What the caller dialled, before redirection.
    OrigDst
}
role! {
    /// The next machine we dial: a tunnel's end, or the destination itself.
    HopAddr
}
role! {
    /// The application's own socket at the end of the way.
    AppAddr
}

/// IPv4-mapped IPv6 (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2) as plain IPv4; everything else unchanged.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Reads 4 or 16 bytes in network order, as the wire carries addresses.
pub fn ip_from_bytes(bytes: &[u8]) -> Result<IpAddr, WordError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        return Ok(IpAddr::V6(Ipv6Addr::from(v6)));
    }
    Err(WordError::new("address", &format!("{} bytes", bytes.len()), "an address has 4 bytes (IPv4) or 16 (IPv6)"))
}

/// An address in its network, the secondary key of workloads and services: `network/ip`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// The network the address means something in.
    pub network: NetworkId,
    /// The address.
    pub ip: IpAddr,
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.ip)
    }
}

impl fmt::Debug for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_become_plain() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().expect("valid");
        assert_eq!(ClientAddr::new(mapped).to_string(), "10.0.0.1:80");
    }

    #[test]
    fn only_four_or_sixteen_bytes_are_an_address() {
        assert_eq!(ip_from_bytes(&[10, 0, 0, 1]).expect("valid").to_string(), "10.0.0.1");
        assert!(ip_from_bytes(&[0; 16]).is_ok());
        for len in [0, 1, 3, 5, 15, 17] {
            assert!(ip_from_bytes(&vec![0; len]).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn an_empty_network_leaves_the_slash() {
        let addr = NetworkAddress { network: NetworkId::default(), ip: "1.2.3.4".parse().expect("valid") };
        assert_eq!(addr.to_string(), "/1.2.3.4");
    }
}
