//! Which cryptography we speak.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as aws};

static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();

/// Cryptography was used before the choice was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key exchange must be chosen before the first connection is made")]
pub struct AlreadyChosen;

/// From now on, and for the whole process, keys are exchanged by the post-quantum hybrid only; peers that lack it are
/// refused. To be called before anything else of this crate.
pub fn only_post_quantum() -> Result<(), AlreadyChosen> {
    PROVIDER.set(Arc::new(with(vec![aws::kx_group::X25519MLKEM768]))).map_err(|_| AlreadyChosen)
}

/// The post-quantum hybrid comes first; classic groups follow for peers that lack it, and a key share for X25519 goes
/// along, so they lose no round trip.
pub fn provider() -> Arc<CryptoProvider> {
    let usual = || {
        Arc::new(with(vec![
            aws::kx_group::X25519MLKEM768,
            aws::kx_group::X25519,
            aws::kx_group::SECP256R1,
            aws::kx_group::SECP384R1,
        ]))
    };
    PROVIDER.get_or_init(usual).clone()
}

/// TLS 1.3 only, and of it what the reference offers: AES in GCM, no ChaCha20. The order is ours: AES-128 costs a fifth
/// less per byte, and as a server rustls follows the client's order, so between two of ours it is what is spoken. The
/// reference puts AES-256 first, so it is spoken with a client of its make; its server knows both.
fn with(kx_groups: Vec<&'static dyn SupportedKxGroup>) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![aws::cipher_suite::TLS13_AES_128_GCM_SHA256, aws::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups,
        ..aws::default_provider()
    }
}
