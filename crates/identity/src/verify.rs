//! Is the peer who it should be? Chains by webpki, names by SPIFFE id.
//!
//! In: certificates as presented. Out: yes, or why not. DNS and IP names are never looked at.
//! Absent on purpose: revocation lists.

use std::{collections::BTreeSet, sync::Arc};

use lateen_types::id::{SpiffeId, TrustDomain};
use rustls::{
    CertificateError, OtherError, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName},
    server::{ParsedCertificate, danger::ClientCertVerifier},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use crate::verifier::{ClientRule, ServerRule, Shown, Verifier};

/// Why a peer with a valid chain is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// The certificate cannot be read.
    #[error("the peer's certificate cannot be read")]
    Malformed,
    /// It has no SPIFFE URI.
    #[error("the peer's certificate has no SPIFFE id")]
    NoIdentity,
    /// A server that is not one of those expected.
    #[error(
        "identity verification error: peer did not present the expected SAN ({}), got {}",
        list(expected),
        list(presented)
    )]
    Unexpected {
        /// Who would have been right.
        expected: Vec<SpiffeId>,
        /// Who it was.
        presented: Vec<SpiffeId>,
    },
    /// A client of another trust domain.
    #[error("the peer {} is not of our trust domain {own}", list(presented))]
    ForeignTrustDomain {
        /// Ours.
        own: TrustDomain,
        /// Who it was.
        presented: Vec<SpiffeId>,
    },
}

fn list(ids: &[SpiffeId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl From<PeerRefused> for rustls::Error {
    fn from(refused: PeerRefused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

impl PeerRefused {
    /// Finds this reason inside what rustls reported, if it was one of ours.
    pub fn within(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
            _ => None,
        }
    }
}

/// The SPIFFE ids of a certificate in order. Other names, and URIs that are no SPIFFE id, are left out.
pub fn spiffe_ids(certificate: &X509Certificate<'_>) -> Vec<SpiffeId> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    uris.filter_map(|uri| uri.parse().inspect_err(|error| tracing::debug!(%error, "a URI name was passed over")).ok())
        .collect()
}

/// The SPIFFE ids of a certificate in DER.
pub fn spiffe_ids_of(der: &CertificateDer<'_>) -> Result<Vec<SpiffeId>, PeerRefused> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|_| PeerRefused::Malformed)?;
    let ids = spiffe_ids(&parsed);
    if ids.is_empty() { Err(PeerRefused::NoIdentity) } else { Ok(ids) }
}

/// Refuses a server unless one of its ids is expected.
pub fn check_server(presented: Vec<SpiffeId>, expected: &BTreeSet<SpiffeId>) -> Result<(), PeerRefused> {
    if presented.iter().any(|id| expected.contains(id)) {
        return Ok(());
    }
    Err(PeerRefused::Unexpected { expected: expected.iter().cloned().collect(), presented })
}

/// Refuses a client unless one of its ids has our trust domain.
pub fn check_client(presented: Vec<SpiffeId>, own: &TrustDomain) -> Result<(), PeerRefused> {
    if presented.iter().any(|id| id.trust_domain() == own) {
        return Ok(());
    }
    Err(PeerRefused::ForeignTrustDomain { own: own.clone(), presented })
}

/// A client's view of servers: the chain leads to our roots and one SPIFFE id is expected.
#[derive(Debug)]
pub struct ExpectedServer {
    anchors: Arc<RootCertStore>,
    expected: BTreeSet<SpiffeId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ExpectedServer {
    /// Accepts servers under `anchors` that are one of `expected`. Nobody is expected if that is empty.
    pub fn verifier(
        anchors: Arc<RootCertStore>,
        expected: BTreeSet<SpiffeId>,
        provider: Arc<CryptoProvider>,
    ) -> Verifier<Self> {
        Verifier::new(Self { anchors, expected, algorithms: provider.signature_verification_algorithms }, provider)
    }

    /// Accepts nobody.
    pub fn nobody(provider: Arc<CryptoProvider>) -> Verifier<Self> {
        Self::verifier(Arc::new(RootCertStore::empty()), BTreeSet::new(), provider)
    }
}

impl ServerRule for ExpectedServer {
    fn check(&self, shown: Shown<'_>, _: &ServerName<'_>) -> Result<(), rustls::Error> {
        let (leaf, algorithms) = (ParsedCertificate::try_from(shown.leaf)?, self.algorithms.all);
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.anchors, shown.intermediates, shown.now, algorithms)?;
        Ok(check_server(spiffe_ids_of(shown.leaf)?, &self.expected)?)
    }
}

/// A server's view of clients: a certificate is mandatory, its chain leads to our roots, one SPIFFE id is of our own
/// trust domain.
#[derive(Debug)]
pub struct OwnTrustDomain {
    chain: Arc<dyn ClientCertVerifier>,
    own: TrustDomain,
}

impl OwnTrustDomain {
    /// Adds the check for `own` to a verifier of chains.
    pub fn verifier(
        chain: Arc<dyn ClientCertVerifier>,
        own: TrustDomain,
        provider: Arc<CryptoProvider>,
    ) -> Verifier<Self> {
        Verifier::new(Self { chain, own }, provider)
    }
}

impl ClientRule for OwnTrustDomain {
    fn check(&self, shown: Shown<'_>) -> Result<(), rustls::Error> {
        self.chain.verify_client_cert(shown.leaf, shown.intermediates, shown.now)?;
        Ok(check_client(spiffe_ids_of(shown.leaf)?, &self.own)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{A_DAY, TestCa, id};

    const WEB: &str = "spiffe://cluster.local/ns/web/sa/front";
    const SHOP: &str = "spiffe://cluster.local/ns/shop/sa/cart";
    const FOREIGN: &str = "spiffe://elsewhere.example/ns/web/sa/front";

    #[test]
    fn only_spiffe_uris_are_ids_and_their_order_is_kept() {
        let leaf = TestCa::new("root").leaf(&["https://x", SHOP, "spiffe://short", WEB], A_DAY);
        assert_eq!(spiffe_ids_of(&leaf.chain()[0]).expect("read"), [id(SHOP), id(WEB)]);
    }

    #[test]
    fn one_id_is_enough_but_some_must_fit() {
        let expected = BTreeSet::from([id(WEB)]);
        assert!(check_server(vec![id(SHOP), id(WEB)], &expected).is_ok());
        assert!(check_server(vec![id(SHOP)], &expected).is_err());
        assert!(check_server(vec![id(WEB)], &BTreeSet::new()).is_err(), "nobody is expected");
        let own = "cluster.local".into();
        assert!(check_client(vec![id(FOREIGN), id(WEB)], &own).is_ok());
        assert!(check_client(vec![id(FOREIGN)], &own).is_err());
        assert!(check_client(Vec::new(), &own).is_err());
    }

    /// A peer may present anything; whatever byte of a certificate is changed or missing, reading it ends.
    #[test]
    fn no_certificate_makes_it_panic() {
        let leaf = TestCa::new("root").leaf(&[WEB], A_DAY);
        let whole = leaf.chain()[0].to_vec();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0x84, 0xff, whole[at].wrapping_add(1)] {
                let mut changed = whole.clone();
                changed[at] = value;
                spiffe_ids_of(&CertificateDer::from(changed)).ok();
            }
            spiffe_ids_of(&CertificateDer::from(whole[..at].to_vec())).ok();
        }
    }
}
