//! How TLS ends at a server of the mesh's own kind Gateway.

use lateen_cluster::{api::ServerTls, store::Key};
use lateen_identity::suites;
use lateen_wire::proxy::{self as wire, ClientCertificate, TlsVersion};

use super::Secrets;
use crate::{
    derive::credential::{self, Trouble, Wanted},
    facts::{Lookup, Source},
};

/// How TLS ends.
#[derive(Default)]
pub(super) struct Ended {
    /// The terms, without what lies inside.
    pub(super) terms: wire::Terminate,
    /// What they need.
    pub(super) wanted: Vec<Wanted>,
    /// What of that cannot be used, for the author; handshakes are refused meanwhile.
    pub(super) problems: Vec<String>,
}

/// How TLS ends; or why it cannot. `gateway` is whose pods listen, and
/// in whose namespace Secrets are.
pub(super) fn derive(gateway: &Key, written: &ServerTls, secrets: &dyn Secrets) -> Result<Ended, String> {
    let mut made = Ended { terms: terms(written)?, problems: left_out(&written.cipher_suites), ..Ended::default() };
    let mode = written.mode.as_deref().unwrap_or_default();
    if mode == "SIMPLE"
        && let Some(field) = about_clients(written)
    {
        return Err(format!("tls.{field}: mode SIMPLE asks clients for no certificate; remove it, or use mode MUTUAL"));
    }
    made.terms.client_certificate = match mode {
        "SIMPLE" => ClientCertificate::Ignored,
        "MUTUAL" => ClientCertificate::Required,
        "OPTIONAL_MUTUAL" => ClientCertificate::Optional,
        "ISTIO_MUTUAL" => ClientCertificate::Mesh,
        other => return Err(format!("tls.mode {other:?} is not supported; use SIMPLE, MUTUAL or PASSTHROUGH")),
    }
    .into();
    if mode == "ISTIO_MUTUAL" {
        if made.terms.max_version() == TlsVersion::Tls12 {
            return Err(
                "tls.maxProtocolVersion: the mesh's own certificates are shown with TLS 1.3; remove it".to_owned()
            );
        }
        return Ok(made);
    }
    let look = |source: &Source| secrets.look(source);
    let names = match written.credential_name.as_str() {
        "" => written.credential_names.clone(),
        name => vec![name.to_owned()],
    };
    let Some(first) = names.first().map(|name| named(gateway, name)) else {
        return Err(format!("tls.mode {mode} has no certificate to show; name a Secret in credentialName"));
    };
    for name in &names {
        let source = Source::Secret(named(gateway, name));
        match credential::pair_in(&source, &look) {
            Ok(()) | Err(Trouble::Pending) => {}
            Err(Trouble::Kept(why) | Trouble::Unusable(why)) => {
                made.problems.push(format!("tls.credentialName: {why}"))
            }
        }
        let one = Wanted::All(source);
        made.terms.credentials.push(one.name_at(gateway));
        made.wanted.push(one);
    }
    if matches!(mode, "MUTUAL" | "OPTIONAL_MUTUAL") {
        let authority = match written.ca_cert_credential_name.as_str() {
            "" => credential::authorities_of(&first, &look),
            name => either(named(gateway, name), &look),
        };
        match credential::authorities_in(&authority, &look) {
            Ok(()) | Err(Trouble::Pending) => {}
            Err(Trouble::Kept(why) | Trouble::Unusable(why)) => {
                made.problems.push(format!("tls: clients cannot be verified: {why}"))
            }
        }
        let one = Wanted::Authorities(vec![authority]);
        made.terms.client_ca = one.name_at(gateway);
        made.wanted.push(one);
    }
    Ok(made)
}

/// A field that says something of clients' certificates.
fn about_clients(written: &ServerTls) -> Option<&'static str> {
    let fields = [
        ("subjectAltNames", &written.subject_alt_names),
        ("verifyCertificateSpki", &written.verify_certificate_spki),
        ("verifyCertificateHash", &written.verify_certificate_hash),
    ];
    fields.into_iter().find(|(_, values)| !values.is_empty()).map(|(field, _)| field)
}

/// What is wrong with the suites that are named; the others are spoken.
fn left_out(named: &[String]) -> Vec<String> {
    let unknown: Vec<&str> = named.iter().map(String::as_str).filter(|name| !suites::is_spoken(name)).collect();
    match unknown.is_empty() {
        true => Vec::new(),
        false => vec![format!("tls.cipherSuites: {} are not spoken here, only the others are", unknown.join(", "))],
    }
}

/// A Secret of the gateway's namespace; the reference's own way of saying so is understood.
fn named(gateway: &Key, name: &str) -> Key {
    Key::new(&gateway.namespace, name.strip_prefix("kubernetes://").unwrap_or(name))
}

/// A Secret, or a ConfigMap where there is no such Secret.
fn either(key: Key, look: &dyn Fn(&Source) -> Lookup) -> Source {
    let (secret, map) = (Source::Secret(key.clone()), Source::ConfigMap(key));
    let is_map = look(&secret) == Lookup::Absent && matches!(look(&map), Lookup::Found(_));
    if is_map { map } else { secret }
}

fn terms(written: &ServerTls) -> Result<wire::Terminate, String> {
    let files = [&written.server_certificate, &written.private_key, &written.ca_certificates, &written.ca_crl];
    if files.into_iter().any(|path| !path.is_empty()) || !written.tls_certificates.is_empty() {
        return Err("tls names files of the proxy, which has none; name a Secret in credentialName".to_owned());
    }
    Ok(wire::Terminate {
        client_subject_alt_names: written.subject_alt_names.clone(),
        client_spki_pins: written.verify_certificate_spki.clone(),
        client_certificate_pins: written
            .verify_certificate_hash
            .iter()
            .map(|hash| hash.replace(':', "").to_ascii_lowercase())
            .collect(),
        min_version: version(written.min_protocol_version.as_deref())?.into(),
        max_version: most(written.max_protocol_version.as_deref())?.into(),
        cipher_suites: written.cipher_suites.clone(),
        ..wire::Terminate::default()
    })
}

fn most(written: Option<&str>) -> Result<TlsVersion, String> {
    if let Some(old @ ("TLSV1_0" | "TLSV1_1")) = written {
        return Err(format!("tls.maxProtocolVersion: {old} is not spoken here; use TLSV1_2 or TLSV1_3"));
    }
    version(written)
}

/// The library speaks nothing older than 1.2; who asks for less than that as the least gets it.
fn version(written: Option<&str>) -> Result<TlsVersion, String> {
    match written {
        None | Some("TLS_AUTO") => Ok(TlsVersion::TlsAuto),
        Some("TLSV1_0" | "TLSV1_1" | "TLSV1_2") => Ok(TlsVersion::Tls12),
        Some("TLSV1_3") => Ok(TlsVersion::Tls13),
        Some(other) => Err(format!("tls: there is no protocol version {other:?}")),
    }
}
