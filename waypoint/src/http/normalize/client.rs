//! Where a request comes from, as far as those in front are trusted to tell.
//!
//! In: `x-forwarded-for`, the other end of the connection, how many proxies in front are trusted. Out: one address.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who wrote the last entries of `x-forwarded-for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFront {
    /// So many trusted proxies, each of which added the address it was called from. None: nothing there is believed.
    Proxies(u32),
    /// Members of the mesh: the last entry counts, as in the reference. A waypoint's clients are known by their
    /// certificates; policies for such as lie should ask for `principals` beside `remoteIpBlocks`.
    Mesh,
}

/// The client's address, `peer` where nobody trusted names another one.
pub fn remote_address(headers: &HeaderMap, peer: IpAddr, in_front: InFront) -> IpAddr {
    let from_the_end = match in_front {
        InFront::Proxies(0) => return peer,
        InFront::Proxies(count) => count as usize - 1,
        InFront::Mesh => 0,
    };
    let values = headers.get_all(&FORWARDED_FOR).iter().rev();
    let mut entries = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    entries.nth(from_the_end).and_then(address).unwrap_or(peer)
}

/// An address, perhaps with a port.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(entry, |(inside, _)| inside);
    let with_port = || entry.parse::<std::net::SocketAddr>().ok().map(|both| both.ip());
    bare.parse().ok().or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        let peer = "10.0.0.1";
        for (values, in_front, expected) in [
            (&["203.0.113.7, 10.9.9.9"][..], InFront::Proxies(1), "10.9.9.9"),
            (&["1.1.1.1, 203.0.113.7"], InFront::Proxies(1), "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7"], InFront::Proxies(2), "1.1.1.1"),
            (&["1.1.1.1", "203.0.113.7"], InFront::Proxies(2), "1.1.1.1"),
            (&["1.1.1.1, 203.0.113.7"], InFront::Proxies(3), peer),
            (&["1.1.1.1"], InFront::Proxies(0), peer),
            (&[], InFront::Proxies(1), peer),
            (&["1.1.1.1, nonsense"], InFront::Proxies(1), peer),
            (&["[fd00::1]:80"], InFront::Proxies(1), "fd00::1"),
            (&["fd00::1"], InFront::Proxies(1), "fd00::1"),
            (&["1.2.3.4:80"], InFront::Proxies(1), "1.2.3.4"),
            (&["1.1.1.1, 2.2.2.2"], InFront::Mesh, "2.2.2.2"),
            (&[], InFront::Mesh, peer),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&FORWARDED_FOR, value.parse().expect("a value"));
            }
            let found = remote_address(&headers, peer.parse().expect("an address"), in_front);
            assert_eq!(found.to_string(), expected, "{values:?} {in_front:?}");
        }
    }
}
