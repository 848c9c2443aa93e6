//! Asking a CA for a workload's certificate.
//!
//! In: an identity. Out: a checked [`WorkloadCertificate`] with a key that never left this process.
//! Absent on purpose: when to ask, and asking again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use lateen_rt::deadline::{Elapsed, within};
use lateen_types::id::SpiffeId;
use lateen_wire::ca::{IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient};
use prost_types::{Struct, Value, value::Kind};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

use crate::{
    cert::{CertError, PrivateKey, WorkloadCertificate},
    channel::ControlChannel,
};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request could not be made.
    #[error("cannot make a certificate request for {identity}: {source}")]
    Request {
        /// For whom.
        identity: SpiffeId,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// The CA refused or was not reached.
    #[error("the CA issued no certificate for {identity}: {} ({:?})", status.message(), status.code())]
    Refused {
        /// For whom.
        identity: SpiffeId,
        /// What it said.
        status: Box<tonic::Status>,
    },
    /// The CA did not answer in time.
    #[error("the CA issued no certificate for {identity}: {source}")]
    Timeout {
        /// For whom.
        identity: SpiffeId,
        /// The deadline.
        source: Elapsed,
    },
    /// The answer holds a certificate and nothing to verify peers with.
    #[error("the CA's answer for {identity} has {elements} elements; a certificate and at least one root are needed")]
    TooShort {
        /// For whom.
        identity: SpiffeId,
        /// How many there were.
        elements: usize,
    },
    /// The answer cannot be used.
    #[error("the CA's answer for {identity} cannot be used: {source}")]
    Unusable {
        /// For whom.
        identity: SpiffeId,
        /// What is wrong.
        source: Box<CertError>,
    },
    /// The certificate is somebody else's.
    #[error("the CA answered with a certificate of {issued} when asked for {identity}")]
    WrongIdentity {
        /// For whom we asked.
        identity: SpiffeId,
        /// Whose it is.
        issued: Box<SpiffeId>,
    },
}

/// Whatever makes certificates.
pub trait Issuer: Send + Sync + 'static {
    /// A fresh certificate for `identity`. Dropping the future gives the request up.
    fn issue<'a>(&'a self, identity: &'a SpiffeId) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>>;
}

/// On whose behalf the CA is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// For workloads of our node: the request names whom, and the answer must be for them.
    ForOthers,
    /// For ourselves: the CA takes the identity from the token.
    ForOurselves,
}

/// A CA that speaks Istio's certificate service.
#[derive(Debug, Clone)]
pub struct CaClient {
    service: IstioCertificateServiceClient<ControlChannel>,
    lifetime: Duration,
    asking: Asking,
}

impl CaClient {
    /// A client that asks for certificates that live `lifetime`.
    pub fn new(channel: ControlChannel, lifetime: Duration, asking: Asking) -> Arc<Self> {
        Arc::new(Self { service: IstioCertificateServiceClient::new(channel), lifetime, asking })
    }

    async fn ask(&self, identity: &SpiffeId) -> Result<WorkloadCertificate, IssueError> {
        let (csr, key) =
            signing_request(identity).map_err(|source| IssueError::Request { identity: identity.clone(), source })?;
        let request = IstioCertificateRequest {
            csr,
            validity_duration: i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX),
            metadata: (self.asking == Asking::ForOthers).then(|| impersonating(identity)),
        };
        let mut service = self.service.clone();
        let answer = within("the CA's answer", REQUEST_TIMEOUT, service.create_certificate(request)).await;
        let answer = answer.map_err(|source| IssueError::Timeout { identity: identity.clone(), source })?;
        let refused = |status| IssueError::Refused { identity: identity.clone(), status: Box::new(status) };
        self.check(identity, &answer.map_err(refused)?.into_inner().cert_chain, key)
    }

    fn check(&self, identity: &SpiffeId, chain: &[String], key: PrivateKey) -> Result<WorkloadCertificate, IssueError> {
        if chain.len() < 2 {
            return Err(IssueError::TooShort { identity: identity.clone(), elements: chain.len() });
        }
        let certificate = WorkloadCertificate::from_pem_elements(chain, key)
            .map_err(|source| IssueError::Unusable { identity: identity.clone(), source: Box::new(source) })?;
        if self.asking == Asking::ForOthers && certificate.identity() != identity {
            let issued = Box::new(certificate.identity().clone());
            return Err(IssueError::WrongIdentity { identity: identity.clone(), issued });
        }
        Ok(certificate)
    }
}

impl Issuer for CaClient {
    fn issue<'a>(&'a self, identity: &'a SpiffeId) -> BoxFuture<'a, Result<WorkloadCertificate, IssueError>> {
        Box::pin(self.ask(identity))
    }
}

/// A P-256 key and a request in PEM: no subject, one critical alternative name.
fn signing_request(identity: &SpiffeId) -> Result<(String, PrivateKey), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // An empty subject is what makes the alternative name critical (RFC 5280 §4.1.2.6).
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let csr = params.serialize_request(&key)?.pem()?;
    Ok((csr, PrivateKey::from_pkcs8(key.serialize_der())))
}

fn impersonating(identity: &SpiffeId) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(identity.to_string())) };
    Struct { fields: BTreeMap::from([("ImpersonatedIdentity".to_owned(), value)]) }
}

#[cfg(test)]
mod tests {
    use x509_parser::{
        certification_request::X509CertificationRequest,
        extensions::{GeneralName, ParsedExtension},
        prelude::FromDer as _,
    };

    use super::*;
    use crate::testing::id;

    #[test]
    fn the_request_names_the_workload_and_nothing_else() {
        let who = id("spiffe://cluster.local/ns/web/sa/front");
        let (pem, _) = signing_request(&who).expect("a request");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        let (_, csr) = X509CertificationRequest::from_der(&pem.contents).expect("a CSR");
        csr.verify_signature().expect("signed by its own key");
        assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
        let extensions: Vec<_> = csr.requested_extensions().expect("extensions").collect();
        let [ParsedExtension::SubjectAlternativeName(names)] = extensions.as_slice() else { panic!("{extensions:?}") };
        let who = who.to_string();
        assert_eq!(names.general_names, [GeneralName::URI(&who)]);
        // SEQUENCE { OID 2.5.29.17, BOOLEAN TRUE, …: the extension is critical.
        let critical = [0x06, 0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff];
        assert!(pem.contents.windows(critical.len()).any(|window| window == critical));
    }
}
