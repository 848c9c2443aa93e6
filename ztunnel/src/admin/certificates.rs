//! Certificates as the dump shows them; never a key.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lateen_identity::{facts::Facts, keeper::Held};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificatesView {
    identity: String,
    state: String,
    cert_chain: Vec<CertificateView>,
    root_certs: Vec<CertificateView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateView {
    /// Base64 of the PEM text, as the reference has it.
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

/// Sorted by identity.
pub(super) fn view(mut held: Vec<Held>) -> Vec<CertificatesView> {
    held.sort_by(|a, b| a.identity.cmp(&b.identity));
    held.iter().map(one).collect()
}

fn one(held: &Held) -> CertificatesView {
    let (chain, roots) = match &held.certificate {
        Some(certificate) => (certificate.chain(), certificate.roots()),
        None => (&[][..], &[][..]),
    };
    let described = |list: &[_]| list.iter().filter_map(Facts::of).map(certificate).collect();
    CertificatesView {
        identity: held.identity.to_string(),
        state: state(held),
        cert_chain: described(chain),
        root_certs: described(roots),
    }
}

/// An unexpired certificate serves on although its renewal fails.
fn state(held: &Held) -> String {
    let usable = held.certificate.as_ref().is_some_and(|certificate| !certificate.is_expired(SystemTime::now()));
    match &held.last_error {
        _ if usable => "Available".to_owned(),
        Some(error) => format!("Unavailable: {error}"),
        None if held.certificate.is_some() => "Unavailable: expired".to_owned(),
        None => "Initializing".to_owned(),
    }
}

fn certificate(facts: Facts) -> CertificateView {
    CertificateView {
        pem: STANDARD.encode(facts.pem),
        serial_number: facts.serial,
        valid_from: rfc3339(facts.not_before),
        expiration_time: rfc3339(facts.not_after),
    }
}

/// Whole seconds, `Z`.
fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.0}"))
}
