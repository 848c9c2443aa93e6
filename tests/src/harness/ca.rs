//! A certificate authority that signs whatever it is asked to.
//!
//! In: CSRs over gRPC. Out: certificates of one root. It can be told to refuse.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use lateen_identity::cert::{PrivateKey, WorkloadCertificate};
use lateen_wire::ca::{
    IstioCertificateRequest, IstioCertificateResponse, istio_certificate_service_server::IstioCertificateService,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use tonic::{Request, Response, Status};

/// The authority; clones share it.
#[derive(Clone)]
pub struct TestCa {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
    refusing: Arc<AtomicBool>,
    signed: Arc<AtomicUsize>,
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

fn key_pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

impl TestCa {
    /// A fresh root.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::OrganizationName, "test root");
        let issuer = CertifiedIssuer::self_signed(params, key_pair()).expect("a root");
        Self { issuer: Arc::new(issuer), refusing: Arc::default(), signed: Arc::default() }
    }

    /// Refuses from now on, or no longer.
    pub fn refuse(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::Relaxed);
    }

    /// How many certificates it signed.
    pub fn signed(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }

    /// A certificate for a scripted peer.
    pub fn leaf(&self, identity: &str) -> WorkloadCertificate {
        let key = key_pair();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.try_into().expect("a URI"))];
        let (not_before, not_after) = life();
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        let leaf = params.signed_by(&key, &**self.issuer).expect("signed").pem();
        let key = PrivateKey::from_pkcs8(key.serialize_der());
        WorkloadCertificate::from_pem_elements(&[leaf, self.issuer.pem()], key).expect("a certificate")
    }

    fn sign(&self, csr: &str) -> Result<Vec<String>, rcgen::Error> {
        let mut request = CertificateSigningRequestParams::from_pem(csr)?;
        let (not_before, not_after) = life();
        request.params.not_before = not_before.into();
        request.params.not_after = not_after.into();
        request.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = request.signed_by(&**self.issuer)?;
        self.signed.fetch_add(1, Ordering::Relaxed);
        Ok(vec![leaf.pem(), self.issuer.pem()])
    }
}

fn life() -> (SystemTime, SystemTime) {
    let now = SystemTime::now();
    (now - Duration::from_secs(60), now + Duration::from_secs(86_400))
}

#[tonic::async_trait]
impl IstioCertificateService for TestCa {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        if self.refusing.load(Ordering::Relaxed) {
            return Err(Status::unauthenticated("told to refuse"));
        }
        let cert_chain =
            self.sign(&request.get_ref().csr).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}
