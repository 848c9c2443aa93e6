//! The `forwarded` header: `for="<client>"`, and the service the client meant.

use std::{fmt, net::SocketAddr};

use lateen_types::name::Hostname;

/// What we send. `for` is for readers of captures and for waypoints; a receiver must not believe it unproven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's own address.
    pub client: SocketAddr,
    /// The service, when the client dialled one.
    pub host: Option<Hostname>,
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "for=\"{}\"", self.client)?;
        self.host.as_ref().map_or(Ok(()), |host| write!(f, ";host={host}"))
    }
}

impl Forwarded {
    /// The client in a received value: an address with its port, in quotes or without.
    pub fn client_in(value: &str) -> Option<SocketAddr> {
        let client = value.split(';').find_map(|pair| pair.trim().strip_prefix("for="))?;
        client.trim_matches('"').parse().ok()
    }

    /// The host in a received value; one pair of quotes is taken off, empty is none.
    pub fn host_in(value: &str) -> Option<Hostname> {
        let host = value.split(';').find_map(|pair| pair.trim().strip_prefix("host="))?;
        let host = host.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(host);
        (!host.is_empty()).then(|| host.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_as_peers_expect() {
        let print = |client: &str, host: Option<&str>| {
            Forwarded { client: client.parse().expect("valid"), host: host.map(Into::into) }.to_string()
        };
        assert_eq!(print("1.1.1.1:80", None), r#"for="1.1.1.1:80""#);
        assert_eq!(print("[::1]:80", None), r#"for="[::1]:80""#);
        assert_eq!(print("1.1.1.1:80", Some("h")), r#"for="1.1.1.1:80";host=h"#);
    }

    #[test]
    fn the_client_is_found() {
        for (value, client) in [
            (r#"for="1.1.1.1:80";host=h"#, Some("1.1.1.1:80")),
            (r#"host=h; for="[::1]:80""#, Some("[::1]:80")),
            ("for=1.1.1.1:80", Some("1.1.1.1:80")),
            ("for=1.1.1.1", None),
            ("for=", None),
            ("", None),
        ] {
            let expected = client.map(|client| client.parse().expect("valid"));
            assert_eq!(Forwarded::client_in(value), expected, "{value:?}");
        }
    }

    #[test]
    fn the_host_is_found() {
        for (value, host) in [
            (r#"for="1.1.1.1:80";host=h"#, Some("h")),
            (r#"host="h";for=x"#, Some("h")),
            ("for=x; host=h ;host=i", Some("h")),
            (r#"host="""#, None),
            ("host=", None),
            ("for=x", None),
            ("", None),
            ("\"", None),
            ("host=\"", Some("\"")),
        ] {
            assert_eq!(Forwarded::host_in(value), host.map(Into::into), "{value:?}");
        }
    }
}
