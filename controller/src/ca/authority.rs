//! Signs.
//!
//! In: a signing request, the identity its sender may have, for how long. Out: the chain of PEM texts to answer with.
//! Of the request only the public key counts: names and extensions a caller asks for are not read, apart from whether
//! it has a common name at all. Absent on purpose: who may have which identity.

use std::time::{Duration, SystemTime};

use lateen_types::id::SpiffeId;
use rcgen::{
    Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::material::{self, CLOCK_SKEW, Material, MaterialError, random_serial};

/// How long certificates may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// When the caller does not say.
    pub usual: Duration,
    /// The most a caller may ask for.
    pub max: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { usual: DAY, max: 90 * DAY }
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is not one.
    #[error("the signing request cannot be used: {0}; send PEM PKCS#10 signed by its own key")]
    Request(String),
    /// The caller wants too much.
    #[error("a lifetime of {asked:?} was asked for; at most {max:?} is given")]
    Lifetime {
        /// What was asked.
        asked: Duration,
        /// What is possible.
        max: Duration,
    },
    /// The CA itself is at its end.
    #[error("the CA's own certificate has expired; renew it")]
    Expired,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(String),
}

/// A CA that can sign.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    between: Vec<String>,
    not_after: SystemTime,
    material: Material,
}

/// A request to sign.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// PEM PKCS#10.
    pub csr: &'a str,
    /// Whose certificate it will be.
    pub identity: &'a SpiffeId,
    /// For how long; `None` leaves it to the CA.
    pub lifetime: Option<Duration>,
}

impl Authority {
    /// The CA of these texts.
    pub fn new(material: Material, now: SystemTime) -> Result<Self, MaterialError> {
        let checked = material::check(&material, now)?;
        let issuer = Issuer::from_ca_cert_der(&checked.certificate, checked.key)
            .map_err(|error| MaterialError::Unreadable { file: "ca-cert.pem", reason: error.to_string() })?;
        Ok(Self { issuer, between: checked.between, not_after: checked.not_after, material })
    }

    /// The trust anchors, PEM.
    pub fn roots(&self) -> &str {
        &self.material.roots
    }

    /// What it was made of.
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// When it can no longer sign.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Leaf, intermediates, and last the roots.
    pub fn issue(&self, wish: Wish<'_>, lifetimes: Lifetimes, now: SystemTime) -> Result<Vec<String>, IssueError> {
        let request = Requested::read(wish.csr)?;
        let lifetime = match wish.lifetime {
            None => lifetimes.usual,
            Some(asked) if asked > lifetimes.max => {
                return Err(IssueError::Lifetime { asked, max: lifetimes.max });
            }
            Some(asked) => asked,
        };
        let uri = wish.identity.to_string();
        let mut params = self.params(lifetime, now)?;
        if request.has_common_name {
            params.distinguished_name.push(DnType::CommonName, uri.as_str());
        }
        let name = uri.as_str().try_into().map_err(|error: rcgen::Error| IssueError::Sign(error.to_string()))?;
        params.subject_alt_names = vec![SanType::URI(name)];
        let leaf = self.sign(&params, &request.key)?.pem();
        Ok(std::iter::once(leaf).chain(self.between.iter().cloned()).chain([self.roots().to_owned()]).collect())
    }

    /// A certificate for a server of these DNS names with a new key: chain in DER, and the key.
    pub fn issue_server(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<ServerCertificate, IssueError> {
        let failed = |error: rcgen::Error| IssueError::Sign(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = self.params(lifetime, now)?;
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        let leaf = self.sign(&params, &key)?;
        let chain = std::iter::once(leaf.pem()).chain(self.between.iter().cloned()).collect();
        Ok(ServerCertificate { chain, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) })
    }

    fn params(&self, lifetime: Duration, now: SystemTime) -> Result<CertificateParams, IssueError> {
        if self.not_after <= now {
            return Err(IssueError::Expired);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(random_serial());
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + lifetime).min(self.not_after).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Certificate, IssueError> {
        params.signed_by(key, &self.issuer).map_err(|error| IssueError::Sign(error.to_string()))
    }
}

/// A server's certificate and key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// Leaf first, PEM.
    pub chain: Vec<String>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// What counts of a signing request.
struct Requested {
    key: SubjectPublicKeyInfo,
    has_common_name: bool,
}

impl Requested {
    fn read(csr: &str) -> Result<Self, IssueError> {
        let refused = |reason: String| IssueError::Request(reason);
        let der =
            CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).map_err(|error| refused(error.to_string()))?;
        let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| refused(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refused("bytes follow the request".to_owned()));
        }
        parsed.verify_signature().map_err(|error| refused(format!("its signature does not verify: {error}")))?;
        let info = &parsed.certification_request_info;
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|error| refused(error.to_string()))?;
        let mut names = info.subject.iter_common_name();
        let has_common_name = names.any(|name| name.as_str().is_ok_and(|text| !text.is_empty()));
        Ok(Self { key, has_common_name })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertifiedIssuer, IsCa};
    use rustls_pki_types::CertificateDer;
    use x509_parser::prelude::{GeneralName, X509Certificate};

    use super::*;
    use crate::wall_clock;

    fn csr(params: CertificateParams, key: &KeyPair) -> String {
        params.serialize_request(key).and_then(|request| request.pem()).expect("a request")
    }

    fn nameless() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
    }

    fn authority() -> Authority {
        let now = wall_clock();
        Authority::new(Material::self_signed("cluster.local", now).expect("a root"), now).expect("a CA")
    }

    fn identity() -> SpiffeId {
        "spiffe://cluster.local/ns/shop/sa/web".parse().expect("a SPIFFE id")
    }

    /// What was issued, parsed and checked against its issuer.
    fn leaf<T>(chain: &[String], look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let (leaf, issuer) = (der(&chain[0]), der(&chain[1]));
        let (_, issuer) = X509Certificate::from_der(&issuer).expect("a certificate");
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
        leaf.verify_signature(Some(issuer.public_key())).expect("signed by the next one");
        look(&leaf)
    }

    #[test]
    fn only_the_key_of_a_request_counts() {
        let key = KeyPair::generate().expect("a key");
        let mut params = nameless();
        params.distinguished_name.push(DnType::CommonName, "admin");
        let foreign = "spiffe://cluster.local/ns/kube-system/sa/admin";
        params.subject_alt_names = vec![SanType::URI(foreign.try_into().expect("a URI"))];
        let request = csr(params, &key);
        let now = wall_clock();
        let wish = Wish { csr: &request, identity: &identity(), lifetime: None };
        let chain = authority().issue(wish, Lifetimes::default(), now).expect("issued");
        assert_eq!(chain.len(), 2);
        leaf(&chain, |leaf| {
            let names = leaf.subject_alternative_name().expect("readable").expect("there");
            assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]);
            let common: Vec<_> = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
            assert_eq!(common, ["spiffe://cluster.local/ns/shop/sa/web"]);
            assert!(!leaf.is_ca());
            assert_eq!(*leaf.public_key().subject_public_key.data, *key.public_key_raw());
            let lasts = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
            assert_eq!(lasts, 24 * 3600 + 120);
        });
    }

    #[test]
    fn a_nameless_request_gives_an_empty_subject_and_a_critical_name() {
        let key = KeyPair::generate().expect("a key");
        let request = csr(nameless(), &key);
        let wish = Wish { csr: &request, identity: &identity(), lifetime: Some(Duration::from_secs(60)) };
        let chain = authority().issue(wish, Lifetimes::default(), wall_clock()).expect("issued");
        leaf(&chain, |leaf| {
            assert_eq!(leaf.subject().iter().count(), 0);
            assert!(leaf.subject_alternative_name().expect("readable").expect("there").critical);
            let lasts = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
            assert_eq!(lasts, 180);
        });
    }

    #[test]
    fn lifetimes_have_a_ceiling_and_end_with_the_ca() {
        let (ca, key) = (authority(), KeyPair::generate().expect("a key"));
        let request = csr(nameless(), &key);
        let ask = |days: u64, now: SystemTime| {
            let lifetime = Some(Duration::from_secs(days * 24 * 3600));
            ca.issue(Wish { csr: &request, identity: &identity(), lifetime }, Lifetimes::default(), now)
        };
        let now = wall_clock();
        assert!(matches!(ask(91, now), Err(IssueError::Lifetime { .. })));
        assert!(ask(90, now).is_ok());
        let late = ca.not_after() - Duration::from_secs(3600);
        let chain = ask(1, late).expect("an hour is left");
        let end = ca.not_after().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        leaf(&chain, |leaf| assert_eq!(u64::try_from(leaf.validity().not_after.timestamp()), Ok(end)));
        assert_eq!(ask(1, ca.not_after()), Err(IssueError::Expired));
    }

    #[test]
    fn a_request_that_is_none_is_refused() {
        let (one, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let good = csr(nameless(), &one);
        // The other's request with this one's signature: the last line of base64 carries the end of the signature.
        let lines = |pem: &str| pem.lines().map(str::to_owned).collect::<Vec<_>>();
        let (mut forged, donor) = (lines(&csr(nameless(), &other)), lines(&good));
        let at = forged.len() - 2;
        forged[at] = donor[donor.len() - 2].clone();
        for text in [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            &forged.join("\n"),
        ] {
            let wish = Wish { csr: text, identity: &identity(), lifetime: None };
            let refused = authority().issue(wish, Lifetimes::default(), wall_clock());
            assert!(matches!(refused, Err(IssueError::Request(_))), "{text:?}: {refused:?}");
        }
    }

    fn ca_params(name: &str) -> CertificateParams {
        let mut params = nameless();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::OrganizationName, name);
        params
    }

    /// A root, a middle and a signing certificate below it.
    fn plugged() -> (Material, String) {
        let make = || KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(ca_params("root"), make()).expect("a root");
        let middle = CertifiedIssuer::signed_by(ca_params("middle"), make(), &root).expect("a CA");
        let signer = CertifiedIssuer::signed_by(ca_params("signer"), make(), &middle).expect("a CA");
        let material = Material {
            certificate: signer.pem(),
            key: signer.key().serialize_pem(),
            chain: format!("{}{}", signer.pem(), middle.pem()),
            roots: root.pem(),
        };
        (material, middle.pem())
    }

    #[test]
    fn a_plugged_in_ca_answers_with_its_intermediates() {
        let (material, middle) = plugged();
        let now = wall_clock();
        let ca = Authority::new(material.clone(), now).expect("a CA");
        let request = csr(nameless(), &KeyPair::generate().expect("a key"));
        let wish = Wish { csr: &request, identity: &identity(), lifetime: None };
        let chain = ca.issue(wish, Lifetimes::default(), now).expect("issued");
        let bare = |pem: &str| pem.split_whitespace().collect::<String>();
        let rest: Vec<String> = chain[1..].iter().map(|pem| bare(pem)).collect();
        assert_eq!(rest, [bare(&material.certificate), bare(&middle), bare(&material.roots)]);
        leaf(&chain, |leaf| assert!(!leaf.is_ca()));
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused() {
        let (material, _) = plugged();
        let (other, _) = plugged();
        let now = wall_clock();
        let refused = |material: Material| Authority::new(material, now).map(|_| ()).expect_err("refused");
        assert_eq!(refused(Material { key: other.key, ..material.clone() }), MaterialError::OtherKey);
        assert_eq!(refused(Material { chain: String::new(), ..material.clone() }), MaterialError::NoPath);
        assert_eq!(refused(Material { roots: other.roots, ..material.clone() }), MaterialError::NoPath);
        let key = KeyPair::generate().expect("a key");
        let no_ca = nameless().self_signed(&key).expect("a certificate").pem();
        let no_ca =
            Material { certificate: no_ca.clone(), key: key.serialize_pem(), chain: String::new(), roots: no_ca };
        assert_eq!(refused(no_ca), MaterialError::NoCa);
        assert!(matches!(
            refused(Material { key: "x".into(), ..material }),
            MaterialError::Unreadable { file: "ca-key.pem", .. }
        ));
        let own = Material::self_signed("cluster.local", now).expect("a root");
        let expired = Authority::new(own, now + material::ROOT_TTL).map(|_| ()).expect_err("refused");
        assert_eq!(expired, MaterialError::Expired);
    }
}
