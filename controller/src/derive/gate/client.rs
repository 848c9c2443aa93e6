//! The certificate that a Gateway's proxies show backends which they reach by TLS (`spec.tls.backend`).
//!
//! In: the reference, a look at Secrets. Out: what proxies need, or why it cannot be had: then backends that a backend TLS
//! policy speaks of are not sent to at all. Absent on purpose: what destination rules say of certificates of their own.

use lateen_cluster::{api::GatewayTls, store::Key};

use super::{Secrets, problem};
use crate::{
    derive::{
        attached::Problem,
        credential::{self, Trouble, Wanted},
    },
    facts::Source,
};

const REASON: &str = "InvalidClientCertificateRef";

/// What is shown; nothing where nobody asks for it.
pub fn shown(gateway: &Key, tls: &GatewayTls, secrets: &dyn Secrets) -> Option<Result<Wanted, Problem>> {
    let reference = tls.backend.as_ref()?.client_certificate_ref.as_ref()?;
    let key = Key::new(reference.namespace.as_deref().unwrap_or(&gateway.namespace), &reference.name);
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    if !matches!((group, kind), ("" | "core", "Secret")) {
        let message = format!("tls.backend: {group}/{kind} {key} is no kind that holds certificates; use a Secret");
        return Some(Err(problem(REASON, message)));
    }
    let source = Source::Secret(key.clone());
    if key.namespace != gateway.namespace && !secrets.lets(&gateway.namespace, &source) {
        let message = format!("tls.backend: {source} is of another namespace, in which no ReferenceGrant allows it");
        return Some(Err(problem("RefNotPermitted", message)));
    }
    Some(match credential::pair_in(&source, &|source| secrets.look(source)) {
        // While nobody has looked, proxies wait for it; what is broken does not take away what is in use.
        Ok(()) | Err(Trouble::Pending | Trouble::Kept(_)) => Ok(Wanted::All(source)),
        Err(Trouble::Unusable(why)) => Err(problem(REASON, format!("tls.backend: {why}"))),
    })
}
