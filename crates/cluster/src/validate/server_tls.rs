//! TLS of a server: G9 to G15.

use super::{
    at::{At, Report},
    field,
};

/// What the reference's proxies speak, as they name it.
const CIPHERS: [&str; 14] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
];
const CERTIFICATES_MAX: usize = 2;

pub(super) fn check(tls: &At<'_>, report: &mut Report) {
    let mode = tls.text("mode");
    let sources = sources(tls, report);
    match mode {
        "ISTIO_MUTUAL" => {
            let foreign = ["serverCertificate", "privateKey", "caCertificates", "credentialName", "credentialNames"];
            for part in foreign.into_iter().chain(["tlsCertificates"]).filter(|part| tls.has(part)) {
                let reason = "ISTIO_MUTUAL shows the mesh's own certificate";
                report.error(tls.field(part), reason, "remove it, or use mode: MUTUAL");
            }
        }
        "PASSTHROUGH" | "AUTO_PASSTHROUGH" => {
            if let Some(source) = sources.first() {
                let reason = format!("{mode} ends no TLS, so nobody is shown a certificate");
                report.warn(tls.field(source), reason, "remove it, or use mode: SIMPLE");
            }
        }
        _ => terminating(tls, &sources, report),
    }
    revoked(tls, &sources, report);
    count(tls, report);
    doubtful(tls, report);
    pinned(tls, report);
}

/// Where certificates come from: one place. G10.
fn sources(tls: &At<'_>, report: &mut Report) -> Vec<&'static str> {
    let files = ["serverCertificate", "privateKey"].into_iter().find(|part| tls.has(part));
    let others = ["credentialName", "credentialNames", "tlsCertificates"].into_iter().filter(|part| tls.has(part));
    let given: Vec<&'static str> = files.into_iter().chain(others).collect();
    if let [first, second, ..] = given[..] {
        let reason = format!("{first} and {second} cannot stand together");
        report.error(tls.field(second), reason, "keep one source of certificates");
    }
    given
}

/// G11.
fn terminating(tls: &At<'_>, sources: &[&str], report: &mut Report) {
    let mode = Some(tls.text("mode")).filter(|mode| !mode.is_empty()).unwrap_or("SIMPLE");
    let redirects = tls.get("httpsRedirect").is_some_and(|it| it.value.as_bool() == Some(true));
    if sources.is_empty() && !(redirects && tls.members().len() == 1) {
        let reason = format!("{mode} needs a certificate");
        report.error(tls.field("credentialName"), reason, "name a secret, or serverCertificate and privateKey");
    }
    let in_files = |at: &At<'_>, report: &mut Report| {
        for part in ["serverCertificate", "privateKey"].into_iter().filter(|part| at.text(part).is_empty()) {
            report.error(at.field(part), format!("there is no {part}"), "name a file");
        }
    };
    if sources.first().is_some_and(|source| matches!(*source, "serverCertificate" | "privateKey")) {
        in_files(tls, report);
    }
    for certificate in field::entries(tls, "tlsCertificates", "certificate", report) {
        in_files(&certificate, report);
    }
    let from_secret = tls.has("credentialName") || tls.has("credentialNames") || tls.has("caCertCredentialName");
    let certificates = tls.list("tlsCertificates");
    let authority = tls.has("caCertificates") || certificates.iter().any(|one| one.has("caCertificates"));
    if matches!(mode, "MUTUAL" | "OPTIONAL_MUTUAL") && !from_secret && !authority {
        let reason = format!("{mode} needs authorities that vouch for clients");
        report.error(tls.field("caCertificates"), reason, "name a file with them, or credentialName");
    }
}

/// G12.
fn revoked(tls: &At<'_>, sources: &[&str], report: &mut Report) {
    if !tls.has("caCrl") {
        return;
    }
    if sources.iter().any(|source| source.starts_with("credential")) {
        report.error(
            tls.field("caCrl"),
            "a secret holds its own list of revoked certificates",
            "put it there as ca.crl",
        );
    } else if matches!(tls.text("mode"), "" | "SIMPLE") {
        report.error(tls.field("caCrl"), "SIMPLE asks clients for no certificate", "remove it, or use mode: MUTUAL");
    }
}

/// G13.
fn count(tls: &At<'_>, report: &mut Report) {
    for part in ["tlsCertificates", "credentialNames"] {
        let count = tls.list(part).len();
        if count > CERTIFICATES_MAX {
            let reason = format!("there are {count} certificates, and {CERTIFICATES_MAX} are used: RSA and ECDSA");
            report.warn(tls.field(part), reason, "keep one of each");
        }
    }
}

/// G14.
fn doubtful(tls: &At<'_>, report: &mut Report) {
    let ciphers = tls.list("cipherSuites");
    let mut seen: Vec<&str> = Vec::new();
    for cipher in &ciphers {
        let text = cipher.word();
        if seen.contains(&text) {
            report.warn(&cipher.path, format!("{text:?} is there twice"), "remove one");
        } else if !CIPHERS.contains(&text) {
            report.warn(
                &cipher.path,
                format!("there is no {text:?}, so it is left out"),
                format!("write {}", CIPHERS.join(", ")),
            );
        }
        seen.push(text);
    }
    if matches!(tls.text("minProtocolVersion"), "TLSV1_0" | "TLSV1_1") && ciphers.is_empty() {
        let reason = "the usual ciphers are none of that version";
        report.warn(tls.field("minProtocolVersion"), reason, "write TLSV1_2, or cipherSuites of old clients");
    }
    if tls.get("httpsRedirect").is_some_and(|it| it.value.as_bool() == Some(true)) {
        let reason = "on a port with TLS there is nothing to redirect to";
        report.warn(tls.field("httpsRedirect"), reason, "write it at the server of port 80");
    }
}

/// G15.
fn pinned(tls: &At<'_>, report: &mut Report) {
    let base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    let is_spki = |text: &str| text.len() == 44 && text.strip_suffix('=').is_some_and(|rest| rest.chars().all(base64));
    for pin in tls.list("verifyCertificateSpki").iter().filter(|pin| !is_spki(pin.word())) {
        let reason = format!("{:?} is not the hash of a key", pin.word());
        report.error(&pin.path, reason, "write its SHA-256 in base64, 44 characters");
    }
    let is_hex = |text: &str| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    let is_pairs = |text: &str| text.split(':').count() == 32 && text.split(':').all(|pair| pair.len() == 2);
    let is_hash = |text: &str| is_hex(text) || is_pairs(text) && is_hex(&text.replace(':', ""));
    for pin in tls.list("verifyCertificateHash").iter().filter(|pin| !is_hash(pin.word())) {
        let reason = format!("{:?} is not the hash of a certificate", pin.word());
        report.error(&pin.path, reason, "write its SHA-256 in hexadecimal, with or without colons");
    }
}
