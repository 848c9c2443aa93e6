//! Whom we take for the server of a destination.
//!
//! In: roots, revocation lists, names. Out: a verifier for rustls. Absent on purpose: SPIFFE ids of the mesh (see
//! `lateen-identity`).

use std::{fmt, sync::Arc};

use lateen_identity::verifier::{ServerRule, Shown, Verifier};
use rustls::{
    CertificateError, OtherError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use x509_parser::extensions::GeneralName;

use super::SealError;
use crate::book::Credential;

/// Whose certificates count.
#[derive(Debug)]
pub(super) enum Trust {
    /// Of these authorities.
    Chain(Arc<WebPkiServerVerifier>),
    /// Everybody's.
    Anybody,
}

impl Trust {
    /// The authorities of a credential.
    pub(super) fn of(
        name: &Arc<str>,
        credential: &Credential,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, SealError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(credential.authorities.iter().cloned());
        if roots.is_empty() {
            return Err(SealError::NoAuthority(name.clone()));
        }
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        if !credential.revocations.is_empty() {
            // A certificate on which no list says anything is refused, as the reference does; so is a list past its time.
            builder = builder.with_crls(credential.revocations.iter().cloned()).enforce_revocation_expiration();
        }
        builder.build().map(Self::Chain).map_err(|error| SealError::Unusable(error.to_string().into()))
    }

    pub(super) fn roots(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Result<Self, SealError> {
        let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        built.map(Self::Chain).map_err(|error| SealError::Unusable(error.to_string().into()))
    }

    /// With the names one of which the certificate must have; none: the name that is asked for.
    pub(super) fn naming(self, names: &[Box<str>], provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        match self {
            Self::Anybody => Arc::new(Verifier::new(Anybody, provider.clone())),
            Self::Chain(chain) if names.is_empty() => chain,
            Self::Chain(chain) => {
                let names = names.iter().map(|name| Name::of(name)).collect();
                Arc::new(Verifier::new(Named { chain, names }, provider.clone()))
            }
        }
    }
}

/// The roots of this machine.
pub(super) fn system() -> Result<RootCertStore, SealError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken > 0 {
        return Ok(roots);
    }
    let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    Err(SealError::NoRoots(if why.is_empty() { "there are none".into() } else { why.join("; ").into() }))
}

/// A name that a certificate may carry.
#[derive(Debug)]
enum Name {
    /// Of a host, or an address; wildcards of the certificate count.
    Host(ServerName<'static>),
    /// Text of any kind, such as a URI.
    Text(Box<str>),
}

impl Name {
    fn of(text: &str) -> Self {
        match ServerName::try_from(text.to_owned()) {
            Ok(host) => Self::Host(host),
            Err(_) => Self::Text(text.into()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(&host.to_str()),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A chain to our roots and one of these names.
#[derive(Debug)]
struct Named {
    chain: Arc<WebPkiServerVerifier>,
    names: Box<[Name]>,
}

/// The server is another.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate carries none of the names {0}")]
struct Unnamed(String);

impl Named {
    fn carries(&self, leaf: &CertificateDer<'_>) -> Result<bool, rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        Ok(self.names.iter().any(|name| match name {
            Name::Host(host) => verify_server_name(&parsed, host).is_ok(),
            Name::Text(text) => has_text(leaf, text),
        }))
    }
}

fn has_text(leaf: &CertificateDer<'_>, text: &str) -> bool {
    let Ok((_, leaf)) = x509_parser::parse_x509_certificate(leaf) else { return false };
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::URI(own) | GeneralName::RFC822Name(own) | GeneralName::DNSName(own) => *own == text,
        _ => false,
    })
}

impl ServerRule for Named {
    fn check(&self, shown: Shown<'_>, asked: &ServerName<'_>) -> Result<(), rustls::Error> {
        // rustls looks at the name last: when only that is wrong, the chain is right.
        match self.chain.verify_server_cert(shown.leaf, shown.intermediates, asked, &[], shown.now) {
            Ok(_) => {}
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        if self.carries(shown.leaf)? {
            return Ok(());
        }
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        Err(CertificateError::Other(OtherError(Arc::new(Unnamed(names.join(", "))))).into())
    }
}

/// Whoever it is (`insecureSkipVerify`).
#[derive(Debug)]
struct Anybody;

impl ServerRule for Anybody {
    fn check(&self, _: Shown<'_>, _: &ServerName<'_>) -> Result<(), rustls::Error> {
        Ok(())
    }
}
