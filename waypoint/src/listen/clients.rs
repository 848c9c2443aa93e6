//! Which clients' certificates are good.
//!
//! In: the terms of a host, the credential that verifies. Out: yes or no to a certificate, and who its holder is. Absent on
//! purpose: certificates of the mesh itself (see `lateen_identity::verify`).

use std::sync::Arc;

use lateen_identity::{
    presented::Presented,
    verifier::{ClientRule, Shown, Verifier},
};
use rustls::{
    CertificateError, DistinguishedName, OtherError, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::tls::TlsError;
use crate::book::{
    Credential,
    proxy::{ClientCertificate, Terms},
};

/// Why a client with a valid chain is refused all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing that can be read was shown.
    #[error("the client's certificate cannot be read")]
    Unreadable,
    /// `subjectAltNames`.
    #[error("the client's certificate has none of the names that are let in")]
    Name,
    /// `verifyCertificateSpki`, `verifyCertificateHash`.
    #[error("neither the client's certificate nor its key is one of those that are let in")]
    Pin,
}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

/// A gateway's view of clients.
#[derive(Debug)]
pub struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    terms: Arc<Terms>,
}

impl Clients {
    /// Clients whose chains lead to an authority of `credential`.
    pub fn new(
        terms: &Arc<Terms>,
        credential: &Credential,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<Verifier<Self>>, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(credential.authorities.iter().cloned());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .with_crls(credential.revocations.iter().cloned());
        let chain = builder.build().map_err(|error| TlsError::Authorities(error.to_string()))?;
        Ok(Arc::new(Verifier::new(Self { chain, terms: terms.clone() }, provider.clone())))
    }

    /// Whose certificate it is, as far as it is proven: where strangers are let in too, it is looked at once more.
    pub fn presented(&self, certificates: Option<&[CertificateDer<'_>]>) -> Option<Presented> {
        let (leaf, intermediates) = certificates?.split_first()?;
        if self.terms.client_certificate == ClientCertificate::OptionalUnverified {
            self.judge(Shown { leaf, intermediates, now: UnixTime::now() }).ok()?;
        }
        Presented::read(leaf)
    }

    fn judge(&self, shown: Shown<'_>) -> Result<(), rustls::Error> {
        self.chain.verify_client_cert(shown.leaf, shown.intermediates, shown.now)?;
        Ok(lets_in(&self.terms, Presented::read(shown.leaf).as_ref())?)
    }
}

/// Whether a client whose chain is good is one of those that are let in.
pub fn lets_in(terms: &Terms, presented: Option<&Presented>) -> Result<(), Refused> {
    let presented = presented.ok_or(Refused::Unreadable)?;
    let names = &terms.client_subject_alt_names;
    if !names.is_empty() && !names.iter().any(|name| presented.is_named(name)) {
        return Err(Refused::Name);
    }
    let (keys, certificates) = (&terms.client_key_pins, &terms.client_certificate_pins);
    let is_pinned = keys.iter().any(|pin| pin.is(&presented.key_digest))
        || certificates.iter().any(|pin| pin.is(&presented.digest));
    let has_pins = !keys.is_empty() || !certificates.is_empty();
    if has_pins && !is_pinned { Err(Refused::Pin) } else { Ok(()) }
}

impl ClientRule for Clients {
    fn check(&self, shown: Shown<'_>) -> Result<(), rustls::Error> {
        match self.judge(shown) {
            Err(error) if self.terms.client_certificate == ClientCertificate::OptionalUnverified => {
                tracing::debug!(%error, "a client whose certificate is not good is let in as a stranger");
                Ok(())
            }
            judged => judged,
        }
    }

    fn is_mandatory(&self) -> bool {
        self.terms.client_certificate == ClientCertificate::Required
    }

    fn hints(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }
}
