//! What rustls asks of a verifier besides whether a certificate is good: the same for all of ours, so it is here once.
//!
//! In: a rule for servers' or for clients' certificates, and the cryptography. Out: a verifier for rustls. Whatever the rule
//! admits, a handshake's signature is checked: whoever shows a certificate has its key. Absent on purpose: the rules.

use std::{fmt::Debug, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

/// A certificate as a peer shows it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Its own.
    pub leaf: &'a CertificateDer<'a>,
    /// Those between it and a root, in any order.
    pub intermediates: &'a [CertificateDer<'a>],
    /// When it must be valid.
    pub now: UnixTime,
}

/// Which servers are good.
pub trait ServerRule: Debug + Send + Sync {
    /// Whether the certificate is that of a good one, where `asked` is the name it was called by.
    fn check(&self, shown: Shown<'_>, asked: &ServerName<'_>) -> Result<(), Error>;
}

/// Which clients are good.
pub trait ClientRule: Debug + Send + Sync {
    /// Whether the certificate is that of a good one.
    fn check(&self, shown: Shown<'_>) -> Result<(), Error>;

    /// Whether a client without a certificate is refused.
    fn is_mandatory(&self) -> bool {
        true
    }

    /// Whose certificates clients are told to look for. None where that could only keep one with several from trying
    /// the right one.
    fn hints(&self) -> &[DistinguishedName] {
        &[]
    }
}

/// A rule as rustls takes it.
#[derive(Debug)]
pub struct Verifier<R> {
    rule: R,
    signatures: Signatures,
}

impl<R> Verifier<R> {
    /// `provider` says which signatures are understood.
    pub fn new(rule: R, provider: Arc<CryptoProvider>) -> Self {
        Self { rule, signatures: Signatures(provider) }
    }

    /// The rule.
    pub fn rule(&self) -> &R {
        &self.rule
    }
}

/// Of handshakes.
#[derive(Debug)]
struct Signatures(Arc<CryptoProvider>);

type Signed = Result<HandshakeSignatureValid, Error>;

impl Signatures {
    fn tls12(&self, message: &[u8], by: &CertificateDer<'_>, signature: &DigitallySignedStruct) -> Signed {
        verify_tls12_signature(message, by, signature, &self.0.signature_verification_algorithms)
    }

    fn tls13(&self, message: &[u8], by: &CertificateDer<'_>, signature: &DigitallySignedStruct) -> Signed {
        verify_tls13_signature(message, by, signature, &self.0.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl<R: ServerRule> ServerCertVerifier for Verifier<R> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.rule.check(Shown { leaf, intermediates, now }, asked).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, message: &[u8], by: &CertificateDer<'_>, s: &DigitallySignedStruct) -> Signed {
        self.signatures.tls12(message, by, s)
    }

    fn verify_tls13_signature(&self, message: &[u8], by: &CertificateDer<'_>, s: &DigitallySignedStruct) -> Signed {
        self.signatures.tls13(message, by, s)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

impl<R: ClientRule> ClientCertVerifier for Verifier<R> {
    fn client_auth_mandatory(&self) -> bool {
        self.rule.is_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.rule.hints()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.rule.check(Shown { leaf, intermediates, now }).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, message: &[u8], by: &CertificateDer<'_>, s: &DigitallySignedStruct) -> Signed {
        self.signatures.tls12(message, by, s)
    }

    fn verify_tls13_signature(&self, message: &[u8], by: &CertificateDer<'_>, s: &DigitallySignedStruct) -> Signed {
        self.signatures.tls13(message, by, s)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}
