//! What a CA is made of: PEM texts, as Secrets and directories hold them.
//!
//! In: PEM. Out: a signing certificate whose key, chain and roots go together, or why they do not.
//! Absent on purpose: where the texts come from (see `keep`).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a root we make ourselves lasts.
pub const ROOT_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Certificates begin a little earlier than now, for clocks that are a little behind.
pub const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// The texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The signing certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// From the signing certificate towards the root, without the root; may be empty, may begin with the former.
    pub chain: String,
    /// The trust anchors.
    pub roots: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

/// Why texts make no CA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// A text is not what it should be.
    #[error("{file}: {reason}; give a PEM text of that kind")]
    Unreadable {
        /// Which one, as the Secret calls it.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key belongs to something else.
    #[error("ca-key.pem is not the key of ca-cert.pem; give the pair that belongs together")]
    OtherKey,
    /// The certificate may not sign.
    #[error("ca-cert.pem is no CA certificate (basicConstraints CA:TRUE is missing)")]
    NoCa,
    /// Nothing leads to a root.
    #[error("ca-cert.pem does not lead to any certificate of root-cert.pem by cert-chain.pem; give the missing links")]
    NoPath,
    /// It is too late.
    #[error("ca-cert.pem has expired; renew it")]
    Expired,
    /// A key or certificate could not be made.
    #[error("making a root certificate failed: {0}")]
    Generate(String),
}

impl Material {
    /// A new root with a new key.
    pub fn self_signed(trust_domain: &str, now: SystemTime) -> Result<Self, MaterialError> {
        let failed = |error: rcgen::Error| MaterialError::Generate(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = root_params(trust_domain);
        params.serial_number = Some(random_serial());
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + ROOT_TTL).into();
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { roots: certificate.clone(), certificate, key: key.serialize_pem(), chain: String::new() })
    }
}

fn root_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params
}

/// Of a root's life, this part is left when the next one is made.
const RENEW_AT: f64 = 0.2;

impl Material {
    /// Whether our own root has so little left that the next one is due.
    pub fn is_due(&self, now: SystemTime) -> Result<bool, MaterialError> {
        let (begin, end) = self.life()?;
        let whole = end.duration_since(begin).unwrap_or_default();
        let left = end.duration_since(now).unwrap_or_default();
        Ok(left.as_secs_f64() < whole.as_secs_f64() * RENEW_AT)
    }

    /// The next root: of the same key and name, so that certificates of either verify with both, and with both among
    /// the anchors, so that who looks for one by its bytes finds it. Anchors that have ended are left out.
    pub fn renewed(&self, now: SystemTime) -> Result<Self, MaterialError> {
        let failed = |error: rcgen::Error| MaterialError::Generate(error.to_string());
        let key = key_of(&self.key)?;
        let signer = certificates("ca-cert.pem", &self.certificate)?.into_iter().next();
        let signer = signer.ok_or_else(|| unreadable("ca-cert.pem", "it holds no certificate"))?;
        let old = parse("ca-cert.pem", &signer)?;
        let names: Vec<&str> = old.subject().iter_organization().filter_map(|name| name.as_str().ok()).collect();
        // Another name would be another issuer; what we make has exactly this one.
        let ([name], 1) = (names.as_slice(), old.subject().iter_attributes().count()) else {
            return Err(MaterialError::Generate(
                "the name of the root is not one of ours; renew it by hand".to_owned(),
            ));
        };
        let mut params = root_params(name);
        params.serial_number = Some(random_serial());
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + ROOT_TTL).into();
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let mut roots = certificate.clone();
        for der in certificates("root-cert.pem", &self.roots)? {
            if time_of(parse("root-cert.pem", &der)?.validity().not_after.timestamp()) > now {
                roots.push_str(&pem_of(&der));
            }
        }
        Ok(Self { certificate, key: self.key.clone(), chain: String::new(), roots })
    }

    fn life(&self) -> Result<(SystemTime, SystemTime), MaterialError> {
        let signer = certificates("ca-cert.pem", &self.certificate)?.into_iter().next();
        let signer = signer.ok_or_else(|| unreadable("ca-cert.pem", "it holds no certificate"))?;
        let validity = parse("ca-cert.pem", &signer)?.validity().clone();
        Ok((time_of(validity.not_before.timestamp()), time_of(validity.not_after.timestamp())))
    }
}

/// 128 random bits; the first is kept clear so that the number stays positive.
pub fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

/// What signing needs, checked.
#[derive(Debug)]
pub struct Checked {
    /// The signing certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: KeyPair,
    /// PEM of what a peer needs between a leaf and a root, each its own text.
    pub between: Vec<String>,
    /// When the first certificate of the way to the root ends.
    pub not_after: SystemTime,
}

/// Checks that the texts make a CA at `now`.
pub fn check(material: &Material, now: SystemTime) -> Result<Checked, MaterialError> {
    let signer = certificates("ca-cert.pem", &material.certificate)?.into_iter().next();
    let signer = signer.ok_or_else(|| unreadable("ca-cert.pem", "it holds no certificate"))?;
    let chain = certificates("cert-chain.pem", &material.chain)?;
    let roots = certificates("root-cert.pem", &material.roots)?;
    let key = key_of(&material.key)?;
    let parsed = parse("ca-cert.pem", &signer)?;
    if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
        return Err(MaterialError::OtherKey);
    }
    if !parsed.is_ca() {
        return Err(MaterialError::NoCa);
    }
    let not_after = path_end(&signer, &chain, &roots)?;
    if not_after <= now {
        return Err(MaterialError::Expired);
    }
    // A leaf travels with everything between it and the roots, and with no root.
    let mut between: Vec<&CertificateDer<'_>> = Vec::new();
    for link in std::iter::once(&signer).chain(&chain) {
        if !roots.contains(link) && !between.contains(&link) {
            between.push(link);
        }
    }
    let between = between.into_iter().map(|der| pem_of(der)).collect();
    Ok(Checked { certificate: signer, key, between, not_after })
}

fn unreadable(file: &'static str, reason: &str) -> MaterialError {
    MaterialError::Unreadable { file, reason: reason.to_owned() }
}

fn certificates(file: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|one| one.map_err(|error| unreadable(file, &error.to_string())))
        .collect()
}

fn key_of(pem: &str) -> Result<KeyPair, MaterialError> {
    let der =
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable("ca-key.pem", &error.to_string()))?;
    KeyPair::try_from(&der).map_err(|error| unreadable("ca-key.pem", &error.to_string()))
}

fn parse<'a>(file: &'static str, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, MaterialError> {
    X509Certificate::from_der(der).map(|(_, parsed)| parsed).map_err(|error| unreadable(file, &error.to_string()))
}

/// Walks from the signer to a root; the moment the first certificate on the way ends.
fn path_end(
    signer: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Result<SystemTime, MaterialError> {
    let roots = roots.iter().map(|der| parse("root-cert.pem", der)).collect::<Result<Vec<_>, _>>()?;
    let chain = chain.iter().map(|der| parse("cert-chain.pem", der)).collect::<Result<Vec<_>, _>>()?;
    let mut at = parse("ca-cert.pem", signer)?;
    let mut end = at.validity().not_after.timestamp();
    // Each step uses one link; a way longer than all links goes in circles.
    for _ in 0..=chain.len() {
        let issued = |by: &&X509Certificate<'_>| {
            by.subject() == at.issuer() && at.verify_signature(Some(by.public_key())).is_ok()
        };
        if let Some(root) = roots.iter().find(issued) {
            return Ok(time_of(end.min(root.validity().not_after.timestamp())));
        }
        let next = chain.iter().find(issued).ok_or(MaterialError::NoPath)?;
        end = end.min(next.validity().not_after.timestamp());
        at = next.clone();
    }
    Err(MaterialError::NoPath)
}

fn time_of(timestamp: i64) -> SystemTime {
    let seconds = u64::try_from(timestamp).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// DER as PEM, 64 characters a line (RFC 7468 §2).
fn pem_of(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wall_clock;

    #[test]
    fn a_root_is_renewed_in_time_with_its_key_and_beside_the_old_one() {
        let now = wall_clock();
        let first = Material::self_signed("cluster.local", now).expect("a root");
        assert_eq!(first.is_due(now), Ok(false));
        let late = now + ROOT_TTL.mul_f64(0.79);
        assert_eq!(first.is_due(late), Ok(false));
        let late = now + ROOT_TTL.mul_f64(0.81);
        assert_eq!(first.is_due(late), Ok(true));
        let second = first.renewed(late).expect("the next root");
        assert_eq!(second.is_due(late), Ok(false));
        assert_eq!(second.key, first.key);
        let roots = certificates("root-cert.pem", &second.roots).expect("readable");
        assert_eq!(roots.len(), 2);
        assert_eq!(certificates("root-cert.pem", &first.roots).expect("readable"), roots[1..]);
        // What the first has signed verifies under the second: name and key are the same.
        let (one, other) = (parse("r", &roots[0]).expect("a root"), parse("r", &roots[1]).expect("a root"));
        assert_eq!((one.subject(), one.public_key()), (other.subject(), other.public_key()));
        assert!(other.verify_signature(Some(one.public_key())).is_ok());
        let checked = check(&second, late).expect("a CA");
        assert!(checked.between.is_empty() && checked.not_after > late + ROOT_TTL.mul_f64(0.99));
        let third = second.renewed(now + ROOT_TTL + CLOCK_SKEW).expect("the one after");
        assert_eq!(certificates("root-cert.pem", &third.roots).expect("readable").len(), 2, "the first has ended");
    }
}
