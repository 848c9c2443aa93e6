//! What a TLS handshake costs, with the post-quantum hybrid and with X25519 alone.
//!
//! In: a count. Out: one line of JSON, microseconds of CPU of both ends together. The server is ours as it is; the client offers
//! either what ours offers, or X25519 only. One thread, no sockets: bytes go through memory.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lateen_identity::{
    cert::{PrivateKey, WorkloadCertificate, pem_certificates},
    crypto::provider,
    handshake::{HANDSHAKE_TIMEOUT, accept},
    verify::ExpectedServer,
};
use lateen_types::id::SpiffeId;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};
use rustls::{
    ClientConfig, NamedGroup, RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::{io::AsyncWriteExt as _, runtime::Builder};
use tokio_rustls::TlsConnector;

const WHO: &str = "spiffe://cluster.local/ns/bench/sa/one";
/// More than any flight.
const PIPE: usize = 64 * 1024;
/// Handshakes of one kind before those of the other: a machine that drifts drifts under both.
const TURN: u32 = 10;

/// Both kinds in turns.
pub(crate) fn run(count: u32) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let (server, hybrid, classical) = ends()?;
    let spent = |client: &Arc<ClientConfig>, wanted, count: u32| -> anyhow::Result<Duration> {
        let before = cpu()?;
        runtime.block_on(async {
            for _ in 0..count {
                once(&server, client, wanted).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(cpu()?.saturating_sub(before))
    };
    // The first ones fill what is filled once.
    spent(&hybrid, NamedGroup::X25519MLKEM768, TURN)?;
    spent(&classical, NamedGroup::X25519, TURN)?;
    let turns = count.div_ceil(TURN).max(1);
    let (mut sum_hybrid, mut sum_classical) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..turns {
        sum_hybrid += spent(&hybrid, NamedGroup::X25519MLKEM768, TURN)?;
        sum_classical += spent(&classical, NamedGroup::X25519, TURN)?;
    }
    let each = |sum: Duration| sum.as_secs_f64() * 1e6 / f64::from(turns * TURN);
    println!(
        "{}",
        serde_json::json!({"hybrid_microseconds": each(sum_hybrid), "classical_microseconds": each(sum_classical)})
    );
    Ok(())
}

/// One handshake, which must exchange keys by `wanted`.
async fn once(server: &WorkloadCertificate, client: &Arc<ClientConfig>, wanted: NamedGroup) -> anyhow::Result<()> {
    let (near, far) = tokio::io::duplex(PIPE);
    let name = ServerName::try_from("127.0.0.1").context("a name")?;
    let connecting = TlsConnector::from(client.clone()).connect(name, near);
    let (near, far) = tokio::join!(connecting, accept(far, server, HANDSHAKE_TIMEOUT));
    let (mut near, _far) = (near.context("the client")?, far.context("the server")?);
    let group = near.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
    ensure!(group == Some(wanted), "keys were exchanged by {group:?}, not {wanted:?}");
    near.shutdown().await.context("ending")
}

/// A server of ours, a client that offers what ours does, and one that knows X25519 only.
fn ends() -> anyhow::Result<(WorkloadCertificate, Arc<ClientConfig>, Arc<ClientConfig>)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, key()?).context("a CA")?;
    let (leaf_key, mut leaf) = (key()?, CertificateParams::default());
    leaf.subject_alt_names = vec![SanType::URI(WHO.try_into().context("a URI")?)];
    let chain = pem_certificates(&leaf.signed_by(&leaf_key, &issuer).context("a leaf")?.pem())?;
    let roots = pem_certificates(&issuer.pem())?;
    let server =
        WorkloadCertificate::new(chain.clone(), PrivateKey::from_pkcs8(leaf_key.serialize_der()), roots.clone())?;
    let mut anchors = RootCertStore::empty();
    anchors.add_parsable_certificates(roots);
    let anchors = Arc::new(anchors);
    let who: SpiffeId = WHO.parse().context("a SPIFFE id")?;
    let client = |provider: Arc<CryptoProvider>| -> anyhow::Result<Arc<ClientConfig>> {
        let verifier = ExpectedServer::verifier(anchors.clone(), BTreeSet::from([who.clone()]), provider.clone());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let key = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
        let mut config = builder.with_client_auth_cert(chain.clone(), key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    };
    let mut classic = CryptoProvider::clone(&provider());
    classic.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    Ok((server, client(provider())?, client(Arc::new(classic))?))
}

fn key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("a key")
}

/// Of this process so far: the sum is exact, only its parts are estimates.
fn cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("the process's time")?;
    let sum = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(sum.num_microseconds()).context("time")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each run proves by itself which key exchange it measured.
    #[test]
    fn both_kinds_shake_hands() {
        run(1).expect("handshakes");
        let (server, hybrid, _) = ends().expect("ends");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        assert!(runtime.block_on(once(&server, &hybrid, NamedGroup::X25519)).is_err(), "a wrong claim is found out");
    }
}
