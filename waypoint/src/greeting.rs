//! Whom a client of TLS means, read from its first words without answering them (pure).
//!
//! In: what has come so far. Out: the server name of its ClientHello, that it is no TLS, that it is TLS which cannot be
//! read, or that more is needed. Absent on purpose: waiting for bytes, and everything after the ClientHello.

use std::time::Duration;

use rustls::server::Acceptor;

/// How long a ClientHello may take.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer one is not read, headers of its records included.
const HELLO_MAX: usize = 32 * 1024;
/// Of a record: its kind, its version, its length.
const RECORD_HEADER: usize = 5;
/// Of a message of a handshake: its kind and its length.
const MESSAGE_HEADER: usize = 4;
/// A record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The message (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;

/// How a connection begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// With a ClientHello that names this server, or none.
    Tls(Option<String>),
    /// With TLS whose ClientHello cannot be read: whom it names nobody here can say, though its server may.
    Unreadable,
    /// With something else.
    Other,
}

/// Reads a greeting as it comes. What was walked through is not looked at again, and the ClientHello is parsed once, when it
/// is whole: bytes and records that come one by one must not cost their square.
#[derive(Debug, Default)]
pub struct Greeter {
    /// Where the next record begins.
    next: usize,
    /// The header of the first message, as far as its records are whole.
    header: Vec<u8>,
    /// Bytes of messages in the records that are whole.
    held: usize,
}

impl Greeter {
    /// How `bytes`, everything that has come so far, begin; `None` while more is needed.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Greeting> {
        // Of a version that is SSL 3 or later.
        let is_handshake =
            bytes.first().is_none_or(|kind| *kind == HANDSHAKE) && bytes.get(1).is_none_or(|major| *major == 3);
        if !is_handshake {
            return Some(Greeting::Other);
        }
        if bytes.len() > HELLO_MAX {
            return Some(Greeting::Unreadable);
        }
        while let Some(header) = bytes.get(self.next..self.next + RECORD_HEADER) {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            // Records of a handshake are never empty.
            if header[0] != HANDSHAKE || header[1] != 3 || length == 0 {
                return Some(Greeting::Unreadable);
            }
            let begins = self.next + RECORD_HEADER;
            self.take(bytes.get(begins..begins + length)?);
            self.next = begins + length;
            match self.wanted() {
                Some(wanted) if wanted > HELLO_MAX => return Some(Greeting::Unreadable),
                Some(wanted) if self.held >= wanted => return Some(hello(bytes)),
                Some(_) | None => {}
            }
        }
        None
    }

    /// A whole record's content.
    fn take(&mut self, content: &[u8]) {
        self.header.extend(content.iter().take(MESSAGE_HEADER - self.header.len()));
        self.held += content.len();
    }

    /// The length of the first message, once that is known; beyond any where it is no ClientHello.
    fn wanted(&self) -> Option<usize> {
        let [kind, lengths @ ..] = <[u8; MESSAGE_HEADER]>::try_from(&self.header[..]).ok()?;
        let length = lengths.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        Some(if kind == CLIENT_HELLO { MESSAGE_HEADER + length } else { usize::MAX })
    }
}

/// What a ClientHello that is whole names.
fn hello(bytes: &[u8]) -> Greeting {
    let (mut acceptor, mut rest) = (Acceptor::default(), bytes);
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Greeting::Unreadable;
        }
    }
    match acceptor.accept() {
        Ok(Some(accepted)) => Greeting::Tls(accepted.client_hello().server_name().map(str::to_owned)),
        Ok(None) | Err(_) => Greeting::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What is made of bytes that come at once.
    fn greeting(bytes: &[u8]) -> Option<Greeting> {
        Greeter::default().read(bytes)
    }

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
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"P", &[0x16, 0x16], &[0x80, 0x2e, 1]] {
            assert_eq!(greeting(bytes), Some(Greeting::Other), "{bytes:?}");
        }
    }

    #[test]
    fn tls_that_cannot_be_read_is_no_other_protocol() {
        let mut endless = vec![0x16, 3, 1, 0xff, 0xff];
        endless.resize(HELLO_MAX + 1, 1);
        // Larger than what is read, as its first bytes say.
        let large = [0x16, 3, 1, 0, 4, 1, 1, 0, 0];
        let no_hello = [0x16, 3, 1, 0, 4, 9, 0, 0, 0];
        let empty_record = [0x16, 3, 1, 0, 0];
        let another_record = [0x16, 3, 1, 0, 4, 1, 0, 0, 9, 0x17, 3, 3, 0, 1, 0];
        let no_words = [0x16, 3, 1, 0, 4, 1, 0, 0, 0];
        for bytes in [&endless[..], &large, &no_hello, &empty_record, &another_record, &no_words, &old_client_hello()] {
            assert_eq!(greeting(bytes), Some(Greeting::Unreadable), "{bytes:?}");
        }
    }

    /// Of TLS 1.2 without signature algorithms: legal, and not understood by rustls. It names a server.
    fn old_client_hello() -> Vec<u8> {
        let name = b"a.example.com";
        let name_length = u16::try_from(name.len()).expect("short");
        let mut extension = vec![0, 0];
        extension.extend((name_length + 5).to_be_bytes());
        extension.extend((name_length + 3).to_be_bytes());
        extension.push(0);
        extension.extend(name_length.to_be_bytes());
        extension.extend(name);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
        body.extend(u16::try_from(extension.len()).expect("short").to_be_bytes());
        body.extend(extension);
        let length = u8::try_from(body.len()).expect("short");
        [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length], &body[..]].concat()
    }

    /// Counts what is looked at: whole records once, and the hello once, however it is cut.
    #[test]
    fn pieces_are_not_looked_at_again() {
        let whole = client_hello("a.example.com");
        let mut bytes = Vec::new();
        for byte in &whole[5..] {
            bytes.extend([0x16, 3, 1, 0, 1, *byte]);
        }
        let mut greeter = Greeter::default();
        for end in 1..bytes.len() {
            assert_eq!(greeter.read(&bytes[..end]), None, "{end}");
            assert_eq!(greeter.next, end / 6 * 6, "what is whole is passed over");
        }
        assert_eq!(greeter.read(&bytes), Some(Greeting::Tls(Some("a.example.com".to_owned()))));
    }
}
