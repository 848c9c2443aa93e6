//! What a certificate says of itself, for people.
//!
//! In: DER. Out: PEM text, serial number, validity. Absent on purpose: judging any of it (see [`crate::verify`]).

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time};

/// One certificate, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// PEM text.
    pub pem: String,
    /// In decimal.
    pub serial: String,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
}

impl Facts {
    /// What `der` says; nothing if it is no certificate.
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            pem: pem(der),
            serial: certificate.tbs_certificate.serial.to_string(),
            not_before: moment(&validity.not_before)?,
            not_after: moment(&validity.not_after)?,
        })
    }
}

/// Base64 in lines of 64 characters (RFC 7468 §2).
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// Times before 1970 are nobody's certificate.
fn moment(time: &ASN1Time) -> Option<SystemTime> {
    let seconds = u64::try_from(time.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_describes_itself() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).expect("params");
        params.serial_number = Some(rcgen::SerialNumber::from(258_u64));
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 2);
        let made = params.self_signed(&key).expect("a certificate");
        let facts = Facts::of(made.der()).expect("described");
        assert_eq!(facts.serial, "258");
        assert_eq!(facts.not_after.duration_since(facts.not_before).expect("in order"), Duration::from_secs(86400));
        assert_eq!(crate::cert::pem_certificates(&facts.pem).expect("pem"), [made.der().clone()]);
        assert_eq!(Facts::of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
