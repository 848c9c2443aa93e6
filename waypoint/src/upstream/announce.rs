//! The PROXY protocol towards an endpoint: whom a connection is for, before its first byte.
//!
//! In: two addresses. Out: the header that tells them. Absent on purpose: reading such headers (see `listen::proxied`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::terms::Announced;
use crate::book::cluster::ProxyProtocol;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, PROXY: there is somebody in front.
const PROXY: u8 = 0x21;
/// TCP over IPv4, and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header.
pub fn header(of: &Announced) -> Vec<u8> {
    let (from, to) = alike(of.client, of.dialled);
    match of.version {
        ProxyProtocol::V1 => text(from, to),
        ProxyProtocol::V2 => binary(from, to),
    }
}

/// One header holds addresses of one family: where they differ both are told as IPv6's.
fn alike(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let six = |addr: SocketAddr| {
        let ip: Ipv6Addr = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        SocketAddr::new(ip.into(), addr.port())
    };
    (six(from), six(to))
}

fn text(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let family = if from.is_ipv4() { 4 } else { 6 };
    format!("PROXY TCP{family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
}

fn binary(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::with_capacity(36);
    for addr in [from, to] {
        match addr.ip() {
            IpAddr::V4(ip) => addresses.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => addresses.extend_from_slice(&ip.octets()),
        }
    }
    for addr in [from, to] {
        addresses.extend_from_slice(&addr.port().to_be_bytes());
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[PROXY, if from.is_ipv4() { TCP4 } else { TCP6 }]);
    // At most 36 bytes.
    header.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
    header.extend_from_slice(&addresses);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(version: ProxyProtocol, client: &str, dialled: &str) -> Vec<u8> {
        let read = |text: &str| text.parse().expect("an address");
        header(&Announced { version, client: read(client), dialled: read(dialled) })
    }

    #[test]
    fn the_first_version_is_a_line() {
        let four = announced(ProxyProtocol::V1, "10.0.0.7:4711", "10.96.0.1:80");
        assert_eq!(four, b"PROXY TCP4 10.0.0.7 10.96.0.1 4711 80\r\n");
        let six = announced(ProxyProtocol::V1, "[2001:db8::7]:4711", "[2001:db8::1]:80");
        assert_eq!(six, b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n");
        let both = announced(ProxyProtocol::V1, "10.0.0.7:4711", "[2001:db8::1]:80");
        assert_eq!(both, b"PROXY TCP6 ::ffff:10.0.0.7 2001:db8::1 4711 80\r\n");
    }

    #[test]
    fn the_second_is_binary() {
        let four = announced(ProxyProtocol::V2, "10.0.0.7:4711", "10.96.0.1:80");
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x07\x0a\x60\0\x01\x12\x67\0\x50";
        assert_eq!(four, expected);
        let six = announced(ProxyProtocol::V2, "[::1]:1", "[::2]:2");
        assert_eq!((six.len(), &six[12..16]), (16 + 36, &b"\x21\x21\0\x24"[..]));
        assert_eq!(&six[48..], b"\0\x01\0\x02");
    }
}
