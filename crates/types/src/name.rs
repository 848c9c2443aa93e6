//! What things are called: hosts, workloads, networks, clusters, policies.
//!
//! In: text from the wire and from Kubernetes. Out: newtypes used as keys.
//! Absent on purpose: looking anything up.

use std::{fmt, str::FromStr};

use crate::{WordError, id::Namespace, open_word};

open_word! {
    /// A fully qualified host name without a trailing dot, as a service is known by; may begin with `*.`.
    Hostname
}
open_word! {
    /// The primary key of a workload, opaque to us: `Kubernetes//Pod/shop/web-1`.
    WorkloadUid
}
open_word! {
    /// A network whose addresses reach each other directly; empty is the default network.
    NetworkId
}
open_word! {
    /// A Kubernetes cluster, `Kubernetes` when there is one only.
    ClusterId
}
open_word! {
    /// A Kubernetes node.
    NodeName
}
open_word! {
    /// A pod's Kubernetes UID, the key of the agent's and ztunnel's ledgers; opaque.
    PodUid
}

impl Default for NetworkId {
    fn default() -> Self {
        "".into()
    }
}

impl Default for ClusterId {
    fn default() -> Self {
        "Kubernetes".into()
    }
}

/// A service's primary key: `namespace/hostname`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedHostname {
    /// The namespace that owns the service.
    pub namespace: Namespace,
    /// Its fully qualified name.
    pub hostname: Hostname,
}

/// A policy's key: `namespace/name`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyKey {
    /// The namespace that owns the policy.
    pub namespace: Namespace,
    /// Its name there.
    pub name: std::sync::Arc<str>,
}

/// Splits `a/b` where neither part is empty or holds a further `/`.
fn pair<'t>(word: &'static str, text: &'t str, form: &'static str) -> Result<(&'t str, &'t str), WordError> {
    match text.split_once('/') {
        Some((first, second)) if !first.is_empty() && !second.is_empty() && !second.contains('/') => {
            Ok((first, second))
        }
        Some(_) | None => Err(WordError::new(word, text, form)),
    }
}

impl FromStr for NamespacedHostname {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (namespace, hostname) = pair("service key", text, "it must be <namespace>/<hostname>")?;
        Ok(Self { namespace: namespace.into(), hostname: hostname.into() })
    }
}

impl fmt::Display for NamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl fmt::Debug for NamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PolicyKey {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (namespace, name) = pair("policy key", text, "it must be <namespace>/<name>")?;
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_pairs() {
        let key: NamespacedHostname = "shop/web.shop.svc.cluster.local".parse().expect("valid");
        assert_eq!(key.to_string(), "shop/web.shop.svc.cluster.local");
        for text in ["", "shop", "/x", "shop/", "a/b/c"] {
            assert!(text.parse::<NamespacedHostname>().is_err(), "{text:?} was accepted");
            assert!(text.parse::<PolicyKey>().is_err(), "{text:?} was accepted");
        }
    }
}
