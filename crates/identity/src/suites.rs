//! Cipher suites, by the names users write.
//!
//! In: a name. Out: whether a suite has it, whether it is spoken at all. Those that can be chosen are those of TLS 1.2, as
//! in the reference; those of TLS 1.3 are all good and always there.

use rustls::{SupportedCipherSuite, crypto::aws_lc_rs as aws};

/// Whether `suite` is called so: IANA's name, or OpenSSL's, `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` is
/// `ECDHE-RSA-AES128-GCM-SHA256`.
pub fn is_called(suite: &SupportedCipherSuite, wanted: &str) -> bool {
    let iana = suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_");
    if wanted.eq_ignore_ascii_case(&iana) {
        return true;
    }
    // Those of TLS 1.3 have one name, which would be another's of 1.2.
    if suite.tls13().is_some() {
        return false;
    }
    let openssl = iana.trim_start_matches("TLS_").replace("_WITH_", "_").replace("AES_", "AES").replace('_', "-");
    // OpenSSL does not write the hash of ChaCha20's suites.
    let openssl = if openssl.contains("CHACHA20") { openssl.trim_end_matches("-SHA256") } else { &openssl };
    wanted.eq_ignore_ascii_case(openssl)
}

/// Whether there is a suite that is called so.
pub fn is_spoken(wanted: &str) -> bool {
    aws::ALL_CIPHER_SUITES.iter().any(|suite| is_called(suite, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_two_names() {
        let of_12 = || aws::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_none());
        for wanted in [
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ] {
            assert_eq!(of_12().filter(|suite| is_called(suite, wanted)).count(), 1, "{wanted}");
            assert!(is_spoken(wanted));
        }
        assert!(is_spoken("TLS_AES_128_GCM_SHA256"));
        for weak in ["AES128-SHA", "ECDHE-RSA-AES128-SHA", "AES128-GCM-SHA256", ""] {
            assert!(!is_spoken(weak), "{weak}");
        }
    }
}
