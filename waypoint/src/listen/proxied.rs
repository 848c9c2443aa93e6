//! The PROXY protocol, versions 1 and 2: a proxy in front says whose connection it hands on (pure).
//!
//! In: what has come so far. Out: both ends of the client's own connection and how many bytes said so, that more is needed,
//! or that it is no such header. Absent on purpose: who may send one. What is asked for on a port is demanded there, since
//! whoever could choose would choose its address as well.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use lateen_types::addr::canonical;

/// The beginning of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const WORD: &[u8] = b"PROXY ";
/// The longest header of version 1, with its end of line.
const LINE_MAX: usize = 107;
/// Additions of version 2 that we are willing to pass over; real ones have some hundred bytes.
const ADDITIONS_MAX: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Whose connection follows.
    Proxied {
        /// Bytes of the header.
        length: usize,
        /// `None`: the proxy's own.
        ends: Option<Ends>,
    },
    /// No header.
    None,
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// What it dialled.
    pub dialled: SocketAddr,
}

/// The header at the beginning of `bytes`; `None` while more is needed.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if begins(SIGNATURE) {
        // Nothing in version 1 begins so.
        return two(bytes);
    }
    if begins(WORD) { one(bytes) } else { Some(Header::None) }
}

fn one(bytes: &[u8]) -> Option<Header> {
    let within = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        return (within.len() == LINE_MAX).then_some(Header::None);
    };
    let length = end + 2;
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return Some(Header::None) };
    let mut words = line.split(' ').skip(1);
    Some(match words.next() {
        Some("UNKNOWN") => Header::Proxied { length, ends: None },
        Some(family @ ("TCP4" | "TCP6")) => {
            let ends = ends_of(words.collect::<Vec<_>>().as_slice(), family == "TCP4");
            ends.map_or(Header::None, |ends| Header::Proxied { length, ends: Some(ends) })
        }
        Some(_) | None => Header::None,
    })
}

fn ends_of(words: &[&str], is_v4: bool) -> Option<Ends> {
    let [client, dialled, client_port, dialled_port] = words else { return None };
    let port = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let end = |ip: &str, at: &str| Some(SocketAddr::new(ip.parse().ok()?, port(at)?));
    let ends = Ends { client: end(client, client_port)?, dialled: end(dialled, dialled_port)? };
    (ends.client.is_ipv4() == is_v4 && ends.dialled.is_ipv4() == is_v4).then(|| ends.canonical())
}

fn two(bytes: &[u8]) -> Option<Header> {
    let head = bytes.get(..16)?;
    let (version_and_command, family) = (head[12], head[13]);
    let rest = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let addresses = match family {
        // TCP over IPv4, over IPv6; what else there is has no addresses that count here.
        0x11 => 12,
        0x21 => 36,
        _ => 0,
    };
    let is_local = version_and_command == 0x20;
    if !(is_local || version_and_command == 0x21) || rest > addresses + ADDITIONS_MAX {
        return Some(Header::None);
    }
    let length = 16 + rest;
    let body = bytes.get(16..length)?;
    let ends = match family {
        _ if is_local => None,
        0x11 => match v4(body) {
            Some(ends) => Some(ends),
            None => return Some(Header::None),
        },
        0x21 => match v6(body) {
            Some(ends) => Some(ends),
            None => return Some(Header::None),
        },
        _ => None,
    };
    Some(Header::Proxied { length, ends })
}

fn v4(body: &[u8]) -> Option<Ends> {
    let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?));
    let end = |at, port_at| Some(SocketAddr::from((ip(at)?, port(body, port_at)?)));
    Some(Ends { client: end(0, 8)?, dialled: end(4, 10)? })
}

fn v6(body: &[u8]) -> Option<Ends> {
    let ip = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?));
    let end = |at, port_at| Some(SocketAddr::from((ip(at)?, port(body, port_at)?)));
    Some(Ends { client: end(0, 32)?, dialled: end(16, 34)? }.canonical())
}

fn port(body: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?))
}

impl Ends {
    fn canonical(self) -> Self {
        Self { client: canonical(self.client), dialled: canonical(self.dialled) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, body].concat()
    }

    fn ends(client: &str, dialled: &str) -> Option<Ends> {
        Some(Ends { client: client.parse().expect("an address"), dialled: dialled.parse().expect("an address") })
    }

    const V4: [u8; 12] = [1, 2, 3, 4, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn both_versions_are_read_from_any_number_of_pieces() {
        let with_additions = [&V4[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        let mut v6 = [0; 36];
        (v6[0], v6[15], v6[31], v6[33], v6[35]) = (0xfd, 1, 1, 7, 8);
        let rows = [
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 4660 80\r\n".to_vec(), ends("1.2.3.4:4660", "10.0.0.1:80")),
            (b"PROXY TCP6 fd00::1 ::1 7 8\r\n".to_vec(), ends("[fd00::1]:7", "[::1]:8")),
            (b"PROXY TCP6 ::ffff:1.2.3.4 ::1 7 8\r\n".to_vec(), ends("1.2.3.4:7", "[::1]:8")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN what ever\r\n".to_vec(), None),
            (two(0x21, 0x11, &V4), ends("1.2.3.4:4660", "10.0.0.1:80")),
            (two(0x21, 0x11, &with_additions), ends("1.2.3.4:4660", "10.0.0.1:80")),
            (two(0x21, 0x21, &v6), ends("[fd00::1]:7", "[::1]:8")),
            (two(0x20, 0, &[]), None),
            (two(0x20, 0x11, &V4), None),
            (two(0x21, 0, &[1, 2, 3]), None),
        ];
        for (bytes, expected) in rows {
            for end in 0..bytes.len() {
                assert_eq!(header(&bytes[..end]), None, "{end} of {:?}", bytes.escape_ascii().to_string());
            }
            let followed = [&bytes[..], b"GET"].concat();
            let read = Some(Header::Proxied { length: bytes.len(), ends: expected });
            assert_eq!(header(&followed), read, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn nothing_else_passes() {
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        let rows: [&[u8]; 13] = [
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01",
            b"\r\nGET",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 4660\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 4660 80 9\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 +466 80\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 70000 80\r\n",
            b"PROXY TCP4 fd00::1 10.0.0.1 4660 80\r\n",
            b"PROXY UDP4 1.2.3.4 10.0.0.1 4660 80\r\n",
            &two(0x11, 0x11, &V4),
            &two(0x22, 0x11, &V4),
            &two(0x21, 0x11, &V4[..11]),
            &endless,
        ];
        for bytes in rows {
            assert_eq!(header(bytes), Some(Header::None), "{}", bytes.escape_ascii());
        }
        assert_eq!(header(&two(0x21, 0x11, &[0; 60_000])[..16]), Some(Header::None), "nobody waits for so much");
    }
}
