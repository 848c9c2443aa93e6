//! The PROXY v2 header an application may want before the bytes (pure).
//!
//! In: who called, what for, and their identity. Out: bytes, as
//! <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt> §2.2 has them.

use std::net::SocketAddr;

use lateen_types::id::SpiffeId;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_COMMAND: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// A stream of unspecified family: source and destination are of different ones.
const UNSPEC: u8 = 0x01;
/// The peer's SPIFFE id.
const TLV_IDENTITY: u8 = 0xd0;

/// The header. An identity that does not fit its 16-bit length is left out; certificates do not carry such.
pub fn header(source: SocketAddr, destination: SocketAddr, identity: Option<&SpiffeId>) -> Vec<u8> {
    let (family, addresses) = match (source, destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            (TCP4, [&from.ip().octets()[..], &to.ip().octets(), &ports(source, destination)].concat())
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            (TCP6, [&from.ip().octets()[..], &to.ip().octets(), &ports(source, destination)].concat())
        }
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => (UNSPEC, Vec::new()),
    };
    let identity = identity.map(ToString::to_string).unwrap_or_default();
    let mut body = addresses;
    if let Ok(length) = u16::try_from(identity.len())
        && length > 0
        && usize::from(length) + 3 + body.len() <= usize::from(u16::MAX)
    {
        body.push(TLV_IDENTITY);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(identity.as_bytes());
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[VERSION_COMMAND, family]);
    header.extend_from_slice(&u16::try_from(body.len()).unwrap_or_default().to_be_bytes());
    header.extend(body);
    header
}

fn ports(source: SocketAddr, destination: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (source.port().to_be_bytes(), destination.port().to_be_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_reference() {
        let identity: SpiffeId = "spiffe://cluster.local/ns/web/sa/front".parse().expect("valid");
        let check = |source: &str, destination: &str, expected: &str| {
            let bytes = header(source.parse().expect("valid"), destination.parse().expect("valid"), Some(&identity));
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let text: String = identity.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, format!("0d0a0d0a000d0a515549540a{expected}d00026{text}"));
        };
        check("127.0.0.1:46054", "127.0.0.1:8123", "211100357f0000017f000001b3e61fbb");
        check("127.0.0.1:46058", "10.99.0.1:80", "211100357f0000010a630001b3ea0050");
        check("127.0.0.1:46060", "[2001:db8::7]:80", "21010029");
    }

    #[test]
    fn without_identity_there_is_no_tlv() {
        let bytes = header("[::1]:1".parse().expect("valid"), "[::2]:2".parse().expect("valid"), None);
        assert_eq!((bytes[13], bytes.len()), (TCP6, 16 + 36));
    }
}
