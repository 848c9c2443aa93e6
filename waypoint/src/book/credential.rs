//! What TLS and sessions need: keys, certificates, trust anchors.
//!
//! In: PEM texts and secrets. Out: keys that rustls can use, checked; nothing of them can be printed. Absent on purpose:
//! TLS configurations, which listeners and upstreams build of these.

use std::{fmt, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::filter::session::Sealer;

/// One credential.
pub struct Credential {
    /// Certificates with their keys; several: RSA and ECDSA.
    pub pairs: Box<[Arc<CertifiedKey>]>,
    /// What peers are verified with.
    pub authorities: Box<[CertificateDer<'static>]>,
    /// What was revoked.
    pub revocations: Box<[CertificateRevocationListDer<'static>]>,
    /// What seals session tokens.
    pub sealer: Option<Sealer>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// Why a credential cannot be used. Never says anything of what is in it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CredentialError {
    /// A PEM text is broken.
    #[error("is not valid PEM ({0})")]
    Pem(String),
    /// A PEM text has nothing of its kind.
    #[error("holds none")]
    Empty,
    /// A key does not belong to its certificate, or is of a kind that cannot be used.
    #[error("key and certificate cannot be used together: {0}")]
    Pair(rustls::Error),
}

/// A chain, leaf first, and the leaf's key.
pub fn pair(chain_pem: &str, key_pem: &str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, CredentialError> {
    let chain = certificates(chain_pem)?;
    if chain.is_empty() {
        return Err(CredentialError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| pem(&error))?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(CredentialError::Pair)
}

/// All certificates of a text.
pub fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|error| pem(&error))
}

/// All revocation lists of a text. One that says something and holds none would let in whom it was to name.
pub fn revocations(text: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialError> {
    let all = CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| pem(&error))?;
    if all.is_empty() && !text.trim().is_empty() { Err(CredentialError::Empty) } else { Ok(all) }
}

/// What is wrong with a PEM text, without a byte of it: a text that is no PEM may be a key all the same.
fn pem(error: &rustls::pki_types::pem::Error) -> CredentialError {
    use rustls::pki_types::pem::Error;
    CredentialError::Pem(match error {
        Error::NoItemsFound => return CredentialError::Empty,
        Error::MissingSectionEnd { .. } => "a section does not end".to_owned(),
        Error::IllegalSectionStart { .. } => "a section does not begin as one".to_owned(),
        Error::Base64Decode(_) => "a section is no base64".to_owned(),
        _ => "it cannot be read".to_owned(),
    })
}
