//! Certificates for tests: a CA in a few lines.

use std::time::{Duration, SystemTime};

use lateen_types::id::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};

use crate::cert::{PrivateKey, WorkloadCertificate};

pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When leaves began, and how long they last.
#[derive(Clone, Copy)]
pub struct Life {
    pub begun: Duration,
    pub lasts: Duration,
}

pub const A_DAY: Life = Life { begun: Duration::from_secs(120), lasts: Duration::from_secs(86_520) };

pub fn key_pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

pub fn id(text: &str) -> SpiffeId {
    text.parse().expect("a SPIFFE id")
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params
}

pub fn leaf_params(names: &[&str], life: Life) -> CertificateParams {
    leaf_params_at(names, life, SystemTime::now())
}

pub fn leaf_params_at(names: &[&str], life: Life, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().expect("a URI"))).collect();
    params.not_before = (now - life.begun).into();
    params.not_after = (now - life.begun + life.lasts).into();
    params
}

impl TestCa {
    pub fn new(name: &str) -> Self {
        Self { issuer: CertifiedIssuer::self_signed(ca_params(name), key_pair()).expect("a CA") }
    }

    pub fn intermediate(&self, name: &str) -> Self {
        Self { issuer: CertifiedIssuer::signed_by(ca_params(name), key_pair(), &self.issuer).expect("a CA") }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn sign(&self, params: CertificateParams, key: &impl PublicKeyData) -> String {
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        params.signed_by(key, issuer).expect("a certificate").pem()
    }

    pub fn leaf(&self, names: &[&str], life: Life) -> WorkloadCertificate {
        self.leaf_with(names, life, &[], &self.pem())
    }

    pub fn leaf_with(&self, names: &[&str], life: Life, between: &[String], roots: &str) -> WorkloadCertificate {
        let key = key_pair();
        let mut elements = vec![self.sign(leaf_params(names, life), &key)];
        elements.extend(between.iter().cloned());
        elements.push(roots.to_owned());
        let key = PrivateKey::from_pkcs8(key.serialize_der());
        WorkloadCertificate::from_pem_elements(&elements, key).expect("a certificate")
    }
}
