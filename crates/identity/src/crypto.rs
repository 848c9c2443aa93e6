//! Which cryptography we speak.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs as aws};

/// TLS 1.3 only, and of it what the reference offers: AES in GCM, no ChaCha20. The post-quantum hybrid comes first;
/// classic groups follow for peers that lack it, and a key share for X25519 goes along, so they lose no round trip.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                aws::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ],
            kx_groups: vec![
                aws::kx_group::X25519MLKEM768,
                aws::kx_group::X25519,
                aws::kx_group::SECP256R1,
                aws::kx_group::SECP384R1,
            ],
            ..aws::default_provider()
        })
    };
    PROVIDER.get_or_init(make).clone()
}
