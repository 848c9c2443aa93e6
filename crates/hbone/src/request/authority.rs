//! `ip:port` or `hostname:port`.

use std::{fmt, net::SocketAddr, str::FromStr};

use lateen_types::{addr::canonical, name::Hostname};

/// Where a CONNECT leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// A pod, or a service by its address.
    Addr(SocketAddr),
    /// A service by its name.
    Host {
        /// Its fully qualified name.
        name: Hostname,
        /// Its service port.
        port: u16,
    },
}

/// There is no telling where to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the authority {0:?} is not valid; it must be <ip>:<port>, [<ipv6>]:<port> or <hostname>:<port>")]
pub struct BadAuthority(String);

impl Authority {
    /// The port part.
    pub fn port(&self) -> u16 {
        match self {
            Self::Addr(addr) => addr.port(),
            Self::Host { port, .. } => *port,
        }
    }
}

/// RFC 1035 allows 253 characters in a name.
const HOSTNAME_MAX: usize = 253;

impl FromStr for Authority {
    type Err = BadAuthority;

    fn from_str(text: &str) -> Result<Self, BadAuthority> {
        let bad = || BadAuthority(text.chars().take(HOSTNAME_MAX).collect());
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return if addr.port() == 0 { Err(bad()) } else { Ok(Self::Addr(canonical(addr))) };
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port_in(port).ok_or_else(bad)?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'*');
        if name.is_empty() || name.len() > HOSTNAME_MAX || !name.bytes().all(known) {
            return Err(bad());
        }
        Ok(Self::Host { name: name.into(), port })
    }
}

/// RFC 3986, section 3.2.3: digits only. A number's own parser takes a sign too, and `10.0.0.1:+80` would be a name.
fn port_in(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

impl From<SocketAddr> for Authority {
    fn from(addr: SocketAddr) -> Self {
        Self::Addr(canonical(addr))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => write!(f, "{addr}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_printed() {
        for text in ["10.1.2.3:8080", "[ff06::c3]:80", "cart.shop.svc.cluster.local:80", "a_b.c:1"] {
            assert_eq!(text.parse::<Authority>().expect("valid").to_string(), text);
        }
        let mapped: Authority = "[::ffff:10.0.0.1]:80".parse().expect("valid");
        assert_eq!(mapped.to_string(), "10.0.0.1:80");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", ":", ":80", "a", "a:", "a:0", "1.2.3.4:0", "a:65536", "1.2.3.4", "::1:80", "[::1]", "a b:1", "u@h:1"]
                .into_iter()
                .chain(["a:+80", "1.2.3.4:+80", "[::1]:+80"])
        {
            assert!(text.parse::<Authority>().is_err(), "{text:?} was accepted");
        }
        assert!(format!("{}:80", "a".repeat(254)).parse::<Authority>().is_err());
    }
}
