//! The controller's own serving certificate: from its own CA, made anew before it ends and when the CA changes.
//!
//! In: the CA, the names clients call us by. Out: a TLS configuration that always presents the newest certificate.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use crate::{ca::authority::Authority, wall_clock};

/// How long the certificate lasts, and how long it is used. It is held in memory only, so making a new one is cheap.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
const USED_FOR: Duration = Duration::from_secs(10 * 24 * 3600);

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The CA did not sign.
    #[error("the serving certificate cannot be issued: {0}")]
    Issue(#[from] crate::ca::authority::IssueError),
    /// What it signed cannot be used.
    #[error("the serving certificate cannot be used: {0}")]
    Unusable(String),
}

/// Presents the newest certificate; clones share it.
#[derive(Debug, Clone)]
pub struct Serving {
    newest: Arc<Newest>,
    provider: Arc<CryptoProvider>,
    names: Arc<[String]>,
}

#[derive(Debug)]
struct Newest {
    key: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Newest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().clone())
    }
}

/// The names clients call a controller in `namespace` by.
pub fn names(namespace: &str, revision: &str, custom: &[String]) -> Vec<String> {
    let mut names: Vec<String> =
        ["istiod", "istiod-remote", "istio-pilot"].iter().map(|name| format!("{name}.{namespace}.svc")).collect();
    if !revision.is_empty() && revision != "default" {
        names.push(format!("istiod-{revision}.{namespace}.svc"));
    }
    names.extend(custom.iter().cloned());
    names
}

impl Serving {
    /// A first certificate.
    pub fn new(authority: &Authority, names: Vec<String>) -> Result<Self, ServingError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = make(authority, &names, &provider)?;
        Ok(Self { newest: Arc::new(Newest { key: RwLock::new(key) }), provider, names: names.into() })
    }

    /// What a TLS listener needs that speaks `protocol` (its ALPN name).
    pub fn config(&self, protocol: &str) -> Result<Arc<ServerConfig>, ServingError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| ServingError::Unusable(error.to_string()))?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.newest.clone());
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }

    /// Makes it anew in time, for ever.
    pub async fn keep(self, mut authority: watch::Receiver<Arc<Authority>>) {
        loop {
            // A timer that fires early or a change seen twice only makes a certificate more.
            tokio::select! {
                () = tokio::time::sleep(USED_FOR) => {}
                changed = authority.changed() => if changed.is_err() { return },
            }
            let current = authority.borrow_and_update().clone();
            match make(&current, &self.names, &self.provider) {
                Ok(key) => *self.newest.key.write() = key,
                Err(error) => tracing::error!(%error, "the former serving certificate stays in use"),
            }
        }
    }
}

fn make(authority: &Authority, names: &[String], provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, ServingError> {
    let issued = authority.issue_server(names, LIFETIME, wall_clock())?;
    let unusable = |reason: String| ServingError::Unusable(reason);
    let chain = issued.chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(error.to_string()))?;
    CertifiedKey::from_der(chain, issued.key, provider).map(Arc::new).map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_clients_use() {
        let custom = vec!["mesh.example".to_owned()];
        let found = names("istio-system", "canary", &custom);
        assert_eq!(
            found,
            [
                "istiod.istio-system.svc",
                "istiod-remote.istio-system.svc",
                "istio-pilot.istio-system.svc",
                "istiod-canary.istio-system.svc",
                "mesh.example"
            ]
        );
        assert_eq!(names("ns", "default", &[]).len(), 3);
    }
}
