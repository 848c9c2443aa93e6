//! Who we are and who the peer is: certificates, SPIFFE checks, TLS handshakes, and getting certificates in time.
//!
//! In: a CA's address, a token, streams of bytes. Out: TLS streams with a proven peer; certificates that never run out.
//! Absent on purpose: HTTP/2, policy, which identity a connection needs.

pub mod ca_client;
pub mod cert;
pub mod channel;
pub mod crypto;
pub mod facts;
pub mod handshake;
pub mod keeper;
pub mod presented;
pub mod stream;
pub mod suites;
pub mod verifier;
pub mod verify;

#[cfg(test)]
mod testing;
