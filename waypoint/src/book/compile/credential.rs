//! `lateen.proxy.Credential`. No error says anything of what is in it.

use lateen_wire::proxy as wire;
use rustls::crypto::aws_lc_rs::default_provider;

use super::error::{DecodeError, Wrong};
use crate::{
    book::credential::{Credential, certificates, pair, revocations},
    filter::session::Sealer,
};

pub(super) fn credential(from: &wire::Credential) -> Result<Credential, DecodeError> {
    let provider = default_provider();
    let mut pairs = Vec::with_capacity(from.pairs.len());
    for (at, one) in from.pairs.iter().enumerate() {
        let read = pair(&one.chain_pem, &one.key_pem, &provider);
        pairs.push(read.map_err(|error| DecodeError::new(&format!("pairs[{at}]"), error))?);
    }
    Ok(Credential {
        pairs: pairs.into(),
        authorities: certificates(&from.ca_pem).map_err(|error| DecodeError::new("ca_pem", error))?.into(),
        revocations: revocations(&from.crl_pem).map_err(|error| DecodeError::new("crl_pem", error))?.into(),
        sealer: sealer(&from.secret)?,
    })
}

fn sealer(secret: &[u8]) -> Result<Option<Sealer>, DecodeError> {
    if secret.is_empty() {
        return Ok(None);
    }
    let expected = "the length of a secret (at least 16 bytes)";
    let short = || DecodeError::new("secret", Wrong::Number { given: secret.len() as u64, expected });
    Sealer::new(secret).map(Some).ok_or_else(short)
}
