//! Whom a client of TLS means, read from its first words without answering them (pure).
//!
//! In: what has come so far. Out: the server name of its ClientHello, that it is no TLS, or that more is needed. Absent on
//! purpose: waiting for bytes, and everything after the ClientHello.

use std::time::Duration;

use rustls::server::Acceptor;

/// How long a ClientHello may take.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer one is none.
const HELLO_MAX: usize = 32 * 1024;

/// How a connection begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// With a ClientHello that names this server, or none.
    Tls(Option<String>),
    /// With something else.
    Other,
}

impl Greeting {
    /// The server that was named.
    pub fn into_server_name(self) -> Option<String> {
        match self {
            Self::Tls(name) => name,
            Self::Other => None,
        }
    }
}

/// How these first bytes begin; `None` while more is needed.
pub fn greeting(bytes: &[u8]) -> Option<Greeting> {
    // A record of a handshake, of a version that is SSL 3 or later.
    let is_tls = bytes.first().is_none_or(|kind| *kind == 0x16) && bytes.get(1).is_none_or(|major| *major == 3);
    if !is_tls || bytes.len() > HELLO_MAX {
        return Some(Greeting::Other);
    }
    // Nothing is looked into before its first record is there: bytes that come one by one must not cost their square.
    let length = bytes.get(3..5)?;
    if bytes.len() < 5 + usize::from(u16::from_be_bytes([length[0], length[1]])) {
        return None;
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Some(Greeting::Other);
        }
    }
    match acceptor.accept() {
        Ok(Some(accepted)) => Some(Greeting::Tls(accepted.client_hello().server_name().map(str::to_owned))),
        Ok(None) => None,
        Err(_) => Some(Greeting::Other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn client_hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("in memory");
        bytes
    }

    #[test]
    fn the_server_name_is_read_from_any_number_of_pieces() {
        let bytes = client_hello("a.example.com");
        for end in 0..bytes.len() {
            assert_eq!(greeting(&bytes[..end]), None, "{end}");
        }
        assert_eq!(greeting(&bytes), Some(Greeting::Tls(Some("a.example.com".to_owned()))));
        assert_eq!(greeting(&client_hello("10.0.0.1")), Some(Greeting::Tls(None)));
    }

    #[test]
    fn a_hello_may_come_in_several_records() {
        let whole = client_hello("a.example.com");
        let mut bytes = Vec::new();
        for part in whole[5..].chunks(100) {
            bytes.extend_from_slice(&whole[..3]);
            bytes.extend_from_slice(&u16::try_from(part.len()).expect("small").to_be_bytes());
            bytes.extend_from_slice(part);
        }
        assert_eq!(greeting(&bytes[..200]), None);
        assert_eq!(greeting(&bytes), Some(Greeting::Tls(Some("a.example.com".to_owned()))));
    }

    #[test]
    fn what_is_no_tls_is_known_at_once() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"P", &[0x16, 0x16], &[0x80, 0x2e, 1], &[0x16, 3, 1, 0, 4, 9, 0, 0, 0]]
        {
            assert_eq!(greeting(bytes), Some(Greeting::Other), "{bytes:?}");
        }
        let mut endless = vec![0x16, 3, 1, 0xff, 0xff];
        endless.resize(HELLO_MAX + 1, 1);
        assert_eq!(greeting(&endless), Some(Greeting::Other));
    }
}
