//! TLS towards a service: D14, D17.

use crate::validate::at::{At, Report};

pub(super) fn check(tls: &At<'_>, report: &mut Report) {
    let mode = tls.text("mode");
    let credential = tls.has("credentialName");
    let own: Vec<&str> = ["clientCertificate", "privateKey"].into_iter().filter(|part| tls.has(part)).collect();
    match mode {
        "MUTUAL" if !credential => {
            for part in ["clientCertificate", "privateKey"].into_iter().filter(|part| tls.text(part).is_empty()) {
                let reason = format!("MUTUAL without {part} cannot prove who calls");
                report.error(tls.field(part), reason, "write it, or credentialName");
            }
        }
        "SIMPLE" | "ISTIO_MUTUAL" => {
            for part in own.iter().copied() {
                let reason = match mode {
                    "SIMPLE" => "SIMPLE shows no certificate of the caller",
                    _ => "ISTIO_MUTUAL shows the mesh's own certificate",
                };
                report.error(tls.field(part), reason, "remove it, or use mode: MUTUAL");
            }
            if mode == "ISTIO_MUTUAL" && credential {
                let mend = "remove it, or use mode: MUTUAL";
                report.error(tls.field("credentialName"), "ISTIO_MUTUAL shows the mesh's own certificate", mend);
            }
        }
        _ => {}
    }
    if credential {
        let files = ["clientCertificate", "privateKey", "caCertificates", "caCrl"];
        for part in files.into_iter().filter(|part| tls.has(part)) {
            let reason = format!("credentialName and {part} cannot stand together");
            report.error(tls.field(part), reason, "keep the secret, or name all files");
        }
    }
    let skips = tls.get("insecureSkipVerify").is_some_and(|it| it.value.as_bool() == Some(true));
    if skips {
        for part in ["caCertificates", "subjectAltNames"].into_iter().filter(|part| tls.has(part)) {
            let reason = format!("with insecureSkipVerify nobody looks at {part}");
            report.error(tls.field(part), reason, "remove insecureSkipVerify: it lets anybody answer");
        }
    } else if matches!(mode, "SIMPLE" | "MUTUAL") && !credential && !tls.has("caCertificates") {
        let reason = "no authority is named, so any that the proxy's system trusts may vouch for the service";
        report.warn(tls.field("caCertificates"), reason, "name a file with the authorities, or credentialName");
    }
}
