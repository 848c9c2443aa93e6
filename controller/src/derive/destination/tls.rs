//! TLS towards endpoints, inside of the tunnel or straight to what is outside of the mesh.
//!
//! Within the mesh tunnels are mTLS already, so ISTIO_MUTUAL asks for nothing more, and neither does DISABLE. What a rule
//! asks for and cannot be had makes the cluster unusable: it is never sent to in plain instead.

use std::collections::BTreeSet;

use lateen_cluster::{api::ClientTls, store::Key};
use lateen_wire::proxy as wire;

use crate::derive::backend::Backend;

/// What a proxy has to be given besides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// A Secret with a key pair, or a certificate of an authority, or both.
    Secret(Key),
    /// A ConfigMap with certificates of authorities.
    ConfigMap(Key),
}

impl Wanted {
    /// The name of the Credential resource made of it.
    pub fn credential(&self) -> String {
        match self {
            Self::Secret(key) => format!("{}/{}", key.namespace, key.name),
            Self::ConfigMap(key) => format!("configmap/{}/{}", key.namespace, key.name),
        }
    }
}

/// Who vouches for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Whoever the system trusts.
    System,
    /// The authorities of a ConfigMap.
    ConfigMap(Key),
}

/// What a backend TLS policy says of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// TLS so.
    Tls {
        /// Who vouches.
        authority: Authority,
        /// The name that is asked for.
        hostname: String,
        /// Names the certificate may carry, in place of that.
        subject_alt_names: Vec<String>,
    },
    /// It asks for TLS that cannot be had: why.
    Unusable(String),
}

#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) tls: Option<wire::Tls>,
    pub(super) unusable: String,
    pub(super) wanted: BTreeSet<Wanted>,
}

/// What a rule says counts; a policy fills what it leaves out.
pub(super) fn derive(
    backend: &Backend,
    (asked, backing): (Option<&ClientTls>, Option<Backing>),
    namespace: &str,
) -> Made {
    match asked.map(|asked| (asked, asked.mode.as_deref().unwrap_or("DISABLE"))) {
        Some((asked, mode @ ("SIMPLE" | "MUTUAL"))) => by_rule(backend, (asked, mode), namespace),
        Some(_) => Made::default(),
        None => backing.map_or_else(Made::default, by_policy),
    }
}

fn by_rule(backend: &Backend, (asked, mode): (&ClientTls, &str), namespace: &str) -> Made {
    let mut made = Made::default();
    let files = [&asked.client_certificate, &asked.private_key, &asked.ca_certificates, &asked.ca_crl];
    if files.into_iter().flatten().any(|path| !path.is_empty()) {
        made.unusable = "tls names files of the proxy, which has none; use credentialName".to_owned();
        return made;
    }
    let name = asked.credential_name.as_deref().unwrap_or_default();
    let mut tls = wire::Tls {
        server_name: asked.sni.clone().unwrap_or_default(),
        subject_alt_names: asked.subject_alt_names.clone(),
        insecure_skip_verify: asked.insecure_skip_verify.unwrap_or_default(),
        ..wire::Tls::default()
    };
    if tls.subject_alt_names.is_empty() {
        tls.subject_alt_names.clone_from(&backend.identities);
    }
    if !name.is_empty() {
        let wanted = Wanted::Secret(Key::new(namespace, name));
        tls.ca = wanted.credential();
        if mode == "MUTUAL" {
            tls.credential = wanted.credential();
        }
        made.wanted.insert(wanted);
    } else if mode == "MUTUAL" {
        made.unusable = "tls.mode MUTUAL has no certificate to show; name a Secret in credentialName".to_owned();
    }
    made.tls = Some(tls);
    made
}

fn by_policy(backing: Backing) -> Made {
    let (authority, server_name, subject_alt_names) = match backing {
        Backing::Tls { authority, hostname, subject_alt_names } => (authority, hostname, subject_alt_names),
        Backing::Unusable(unusable) => return Made { unusable, ..Made::default() },
    };
    let mut made = Made::default();
    let ca = match authority {
        Authority::System => String::new(),
        Authority::ConfigMap(key) => {
            let wanted = Wanted::ConfigMap(key);
            let name = wanted.credential();
            made.wanted.insert(wanted);
            name
        }
    };
    made.tls = Some(wire::Tls { ca, server_name, subject_alt_names, ..wire::Tls::default() });
    made
}
