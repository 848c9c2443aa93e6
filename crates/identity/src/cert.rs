//! A workload's certificate with everything made from it once: TLS configurations, identity, life span.
//!
//! In: a chain, a private key and trust anchors. Out: [`WorkloadCertificate`], checked and ready for handshakes.
//! Absent on purpose: where certificates come from, and when to renew them.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lateen_types::id::SpiffeId;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    crypto::provider,
    verify::{self, ExpectedServer, OwnTrustDomain},
};

/// A private key in DER. Printing it prints nothing of it.
pub struct PrivateKey(PrivateKeyDer<'static>);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// A key in PKCS#8 DER.
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(PrivateKeyDer::Pkcs8(der.into()))
    }

    /// The first key of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, CertError> {
        let parsed = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        parsed.map(Self).map_err(|error| CertError::Pem { what: "private key", reason: error.to_string() })
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A PEM text is broken.
    #[error("the {what} is not valid PEM: {reason}")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The chain has no certificate.
    #[error("the certificate chain is empty; it must begin with the workload's certificate")]
    EmptyChain,
    /// There is nothing to verify peers with.
    #[error("no trust anchor came with the certificate; the last element of the chain must hold the roots")]
    NoRoots,
    /// The leaf is not X.509.
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    /// The leaf names no workload.
    #[error("the certificate has no SPIFFE URI among its alternative names")]
    NoIdentity,
    /// The key, the chain and the roots do not go together.
    #[error("the certificate of {identity} cannot be used for TLS: {source}")]
    Unusable {
        /// Whose certificate.
        identity: Box<SpiffeId>,
        /// What rustls objects to.
        source: rustls::Error,
    },
    /// The roots cannot verify clients.
    #[error("the trust anchors of {identity} cannot be used: {reason}")]
    Roots {
        /// Whose certificate.
        identity: Box<SpiffeId>,
        /// What rustls objects to.
        reason: String,
    },
}

/// A certificate in use. Share it as `Arc`; its configurations are built once.
#[derive(Debug)]
pub struct WorkloadCertificate {
    identity: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    anchors: Arc<RootCertStore>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl WorkloadCertificate {
    /// Takes a chain (leaf first, no root), the leaf's key and the trust anchors.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, CertError> {
        let leaf = Leaf::read(chain.first().ok_or(CertError::EmptyChain)?)?;
        let anchors = Arc::new(anchors(&roots)?);
        let provider = provider();
        let unusable = |source| CertError::Unusable { identity: Box::new(leaf.identity.clone()), source };
        let certified = CertifiedKey::from_der(chain.clone(), key.0, &provider).map_err(unusable)?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        Ok(Self {
            server: Arc::new(server_config(&leaf.identity, &anchors, certified.clone(), &provider)?),
            client: Arc::new(client_config(certified, &provider).map_err(unusable)?),
            identity: leaf.identity,
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            chain,
            roots,
            anchors,
        })
    }

    /// Takes a CA's answer: PEM texts, leaf first, roots in the last element.
    pub fn from_pem_elements(elements: &[impl AsRef<str>], key: PrivateKey) -> Result<Self, CertError> {
        let (roots, chain) = elements.split_last().ok_or(CertError::EmptyChain)?;
        let mut ders = Vec::new();
        for element in chain {
            ders.extend(pem_certificates(element.as_ref())?);
        }
        Self::new(ders, key, pem_certificates(roots.as_ref())?)
    }

    /// The leaf's first SPIFFE id.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The chain as sent to peers, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The trust anchors peers are verified with.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The leaf's serial number in hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// When the leaf begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the leaf stops being valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether the leaf is past its life at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }

    #[cfg(test)]
    pub(crate) fn anchors(&self) -> &Arc<RootCertStore> {
        &self.anchors
    }

    pub(crate) fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// How it is shown to clients of our trust domain that speak one of `protocols` inside; they must show theirs.
    pub fn serving(&self, protocols: &[&[u8]]) -> ServerConfig {
        let mut config = ServerConfig::clone(&self.server);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }

    /// A client's configuration that trusts servers which are one of `expected`. It neither resumes sessions nor names
    /// the server, and offers HTTP/2.
    pub fn client_towards(&self, expected: BTreeSet<SpiffeId>) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.client);
        let verifier = ExpectedServer::verifier(self.anchors.clone(), expected, provider());
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config
    }
}

/// Every certificate of a PEM text, which may hold several.
pub fn pem_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let failed =
        |error: rustls::pki_types::pem::Error| CertError::Pem { what: "certificate", reason: error.to_string() };
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.map_err(failed)).collect()
}

/// What we read from a leaf.
struct Leaf {
    identity: SpiffeId,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Leaf {
    fn read(der: &CertificateDer<'_>) -> Result<Self, CertError> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(der).map_err(|error| CertError::Malformed(error.to_string()))?;
        let identity = verify::spiffe_ids(&parsed).into_iter().next().ok_or(CertError::NoIdentity)?;
        Ok(Self {
            identity,
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: system_time(parsed.validity().not_before.timestamp()),
            not_after: system_time(parsed.validity().not_after.timestamp()),
        })
    }
}

fn system_time(unix: i64) -> SystemTime {
    // Nothing before 1970 is told apart from 1970: such a certificate has long begun or ended either way.
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or(0))
}

fn anchors(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, CertError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    if store.is_empty() { Err(CertError::NoRoots) } else { Ok(store) }
}

fn server_config(
    identity: &SpiffeId,
    anchors: &Arc<RootCertStore>,
    certified: Arc<SingleCertAndKey>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, CertError> {
    let chain = WebPkiClientVerifier::builder_with_provider(anchors.clone(), provider.clone()).build();
    let chain =
        chain.map_err(|error| CertError::Roots { identity: Box::new(identity.clone()), reason: error.to_string() })?;
    let verifier = Arc::new(OwnTrustDomain::verifier(chain, identity.trust_domain().clone(), provider.clone()));
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| CertError::Unusable { identity: Box::new(identity.clone()), source })?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(certified);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Our own clients never resume and tickets cost a signature's worth of work, so none are sent.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    // Records are sealed and opened by `stream`.
    config.enable_secret_extraction = true;
    Ok(config)
}

fn client_config(
    certified: Arc<SingleCertAndKey>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let nobody = ExpectedServer::nobody(provider.clone());
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(nobody)).with_client_cert_resolver(certified);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    // A resumed session would skip the check of the peer's certificate.
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{A_DAY, TestCa, key_pair, leaf_params};

    const WEB: &str = "spiffe://cluster.local/ns/web/sa/front";

    #[test]
    fn what_the_leaf_says_is_read() {
        let certificate = TestCa::new("root").leaf(&[WEB], A_DAY);
        assert_eq!(certificate.identity().to_string(), WEB);
        let life = certificate.not_after().duration_since(certificate.not_before()).expect("forwards");
        assert!(life.as_secs().abs_diff(86_520) <= 1, "{life:?}");
        assert!(!certificate.serial().is_empty());
        assert!(!certificate.is_expired(SystemTime::now()));
    }

    #[test]
    fn the_key_is_not_printed() {
        let key = PrivateKey::from_pkcs8(vec![1, 2, 3]);
        assert_eq!(format!("{key:?}"), "PrivateKey");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ca = TestCa::new("root");
        let key = key_pair();
        let der = || PrivateKey::from_pkcs8(key.serialize_der());
        let leaf = ca.sign(leaf_params(&[WEB], A_DAY), &key);
        let made = |elements: &[String], key| WorkloadCertificate::from_pem_elements(elements, key);
        assert!(matches!(made(&[], der()), Err(CertError::EmptyChain)));
        assert!(matches!(made(&[ca.pem()], der()), Err(CertError::EmptyChain)));
        assert!(matches!(made(&[leaf.clone(), String::new()], der()), Err(CertError::NoRoots)));
        let other = PrivateKey::from_pkcs8(key_pair().serialize_der());
        assert!(matches!(made(&[leaf.clone(), ca.pem()], other), Err(CertError::Unusable { .. })));
        let nameless = ca.sign(leaf_params(&["https://x"], A_DAY), &key);
        assert!(matches!(made(&[nameless, ca.pem()], der()), Err(CertError::NoIdentity)));
        let broken = leaf.replace("END CERT", "END");
        assert!(matches!(made(&[broken, ca.pem()], der()), Err(CertError::Pem { .. })));
    }
}
