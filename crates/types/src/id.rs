//! Who a workload is: SPIFFE ids and their parts.
//!
//! In: text from certificates, policies and pods. Out: [`SpiffeId`].
//! Absent on purpose: certificates (see `lateen-identity`), matching rules (see `lateen-policy`).

use std::{fmt, str::FromStr};

use crate::{WordError, open_word, string_word};

open_word! {
    /// The root of trust an identity belongs to, for example `cluster.local`.
    TrustDomain
}
open_word! {
    /// A Kubernetes namespace.
    Namespace
}
open_word! {
    /// The name of a Kubernetes service account inside its namespace.
    ServiceAccount
}
string_word! {
    /// A whole identity as one text without the scheme: `cluster.local/ns/web/sa/front`. What policies compare with.
    Principal
}

impl Default for TrustDomain {
    /// `cluster.local`, which the wire leaves out.
    fn default() -> Self {
        "cluster.local".into()
    }
}

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the identity of a workload.
///
/// The form is Istio's (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md> allows more). No percent
/// decoding and no case folding: two ids are the same only when their bytes are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: Namespace,
    service_account: ServiceAccount,
    principal: Principal,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// The id of a service account. Parts must not hold `/`, which would let one id be read as another.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: Namespace,
        service_account: ServiceAccount,
    ) -> Result<Self, WordError> {
        let text = format!("{trust_domain}/ns/{namespace}/sa/{service_account}");
        if [trust_domain.as_str(), namespace.as_str(), service_account.as_str()].iter().any(|part| part.contains('/')) {
            return Err(WordError::new(
                "SPIFFE id",
                &text,
                "a part holds '/'; trust domain, namespace and account must not",
            ));
        }
        Ok(Self { trust_domain, namespace, service_account, principal: Principal(text.into()) })
    }

    /// The trust domain part.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace part.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The service account part.
    pub fn service_account(&self) -> &ServiceAccount {
        &self.service_account
    }

    /// The id without `spiffe://`.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl FromStr for SpiffeId {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let bad = |reason| WordError::new("SPIFFE id", text, reason);
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| bad("it must begin with spiffe://"))?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", account] = parts.as_slice() else {
            return Err(bad("it must be spiffe://<trust domain>/ns/<namespace>/sa/<service account>"));
        };
        Self::new((*trust_domain).into(), (*namespace).into(), (*account).into())
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.principal)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_parsed_into_its_parts_and_back() {
        let id: SpiffeId = "spiffe://td.example/ns/shop/sa/web".parse().expect("valid");
        assert_eq!(id.trust_domain().as_str(), "td.example");
        assert_eq!(id.namespace().as_str(), "shop");
        assert_eq!(id.service_account().as_str(), "web");
        assert_eq!(id.principal().as_str(), "td.example/ns/shop/sa/web");
        assert_eq!(id.to_string(), "spiffe://td.example/ns/shop/sa/web");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "spiffe://",
            "https://td/ns/n/sa/s",
            "SPIFFE://td/ns/n/sa/s",
            "spiffe://td/ns/n/sa",
            "spiffe://td/ns/n/sa/s/x",
            "spiffe://td/sa/n/ns/s",
            "spiffe:/td/ns/n/sa/s",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_part_with_a_slash_cannot_make_another_identity() {
        assert!(SpiffeId::new("td".into(), "a/sa/b".into(), "c".into()).is_err());
    }
}
