//! What a peer's certificate says of its holder, whoever signed it.
//!
//! In: DER. Out: subject, names, digests. Absent on purpose: whether any of it may be believed (see [`crate::verify`], and
//! whoever else verifies chains).

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer as _,
    x509::{AttributeTypeAndValue, X509Name},
};

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// As RFC 2253 writes it: the last part first.
    pub subject: String,
    /// Its alternative names in order.
    pub names: Vec<Name>,
    /// SHA-256 of all of it.
    pub digest: Vec<u8>,
    /// SHA-256 of its public key with the key's kind (SubjectPublicKeyInfo).
    pub key_digest: Vec<u8>,
}

/// An alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Of a host.
    Dns(String),
    /// A URI, a SPIFFE id for one.
    Uri(String),
    /// An e-mail address.
    Email(String),
    /// An address.
    Ip(IpAddr),
}

impl Presented {
    /// What `der` says; nothing if it is no certificate.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let extension = certificate.subject_alternative_name().ok()?;
        let names = extension.iter().flat_map(|extension| &extension.value.general_names);
        Some(Self {
            subject: subject(certificate.subject()),
            names: names.filter_map(name).collect(),
            digest: sha256(der),
            key_digest: sha256(certificate.public_key().raw),
        })
    }

    /// Whether one of its names is `wanted`. Names of hosts are compared as DNS does.
    pub fn is_named(&self, wanted: &str) -> bool {
        self.names.iter().any(|name| match name {
            Name::Dns(host) => host.eq_ignore_ascii_case(wanted),
            Name::Uri(text) | Name::Email(text) => text == wanted,
            Name::Ip(ip) => wanted.parse() == Ok(*ip),
        })
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn name(from: &GeneralName<'_>) -> Option<Name> {
    match from {
        GeneralName::DNSName(host) => Some(Name::Dns((*host).to_owned())),
        GeneralName::URI(uri) => Some(Name::Uri((*uri).to_owned())),
        GeneralName::RFC822Name(email) => Some(Name::Email((*email).to_owned())),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from)).ok().map(Name::Ip)
        }
        _ => None,
    }
}

fn subject(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .filter(|part| !part.is_empty())
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(of: &AttributeTypeAndValue<'_>) -> String {
    let kind = of.attr_type();
    let known = oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
    // What is no text is written in hexadecimal (RFC 2253 §2.4).
    let value = of.as_str().map_or_else(|_| ["#", &hex(of.as_slice())].concat(), escaped);
    [&known, "=", &value].concat()
}

/// RFC 2253 §2.4; what is not printable ASCII is written in hexadecimal too, so that any header can carry it.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\{other:02X}")),
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _, SanType};

    use super::*;

    #[test]
    fn a_certificate_tells_who_holds_it() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "CH");
        params.distinguished_name.push(DnType::OrganizationName, "Cheese, \"Wine\" & Söhne");
        params.distinguished_name.push(DnType::CommonName, " me ");
        params.subject_alt_names = vec![
            SanType::DnsName("A.example.com".try_into().expect("a name")),
            SanType::URI("spiffe://td/ns/a/sa/b".try_into().expect("a URI")),
            SanType::Rfc822Name("me@example.com".try_into().expect("an address")),
            SanType::IpAddress("10.0.0.1".parse().expect("an address")),
            SanType::IpAddress("fd00::1".parse().expect("an address")),
        ];
        let made = params.self_signed(&key).expect("a certificate");
        let presented = Presented::read(made.der()).expect("read");
        assert_eq!(presented.subject, r#"CN=\ me\ ,O=Cheese\, \"Wine\" & S\C3\B6hne,C=CH"#);
        for wanted in ["a.example.com", "spiffe://td/ns/a/sa/b", "me@example.com", "10.0.0.1", "fd00:0::1"] {
            assert!(presented.is_named(wanted), "{wanted}");
        }
        for other in ["b.example.com", "spiffe://td/ns/a/sa/B", "10.0.0.2", "", "CH"] {
            assert!(!presented.is_named(other), "{other}");
        }
        assert_eq!(presented.digest, sha256(made.der()));
        assert_eq!(presented.key_digest, sha256(&key.subject_public_key_info()));
        assert_eq!(Presented::read(&CertificateDer::from(vec![1, 2, 3])), None);
    }

    #[test]
    fn no_certificate_makes_it_panic() {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["a.example.com".to_owned()]).expect("params");
        let whole = params.self_signed(&key).expect("a certificate").der().to_vec();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                Presented::read(&CertificateDer::from(changed));
            }
            assert!(Presented::read(&CertificateDer::from(whole[..at].to_vec())).is_none());
        }
    }
}
