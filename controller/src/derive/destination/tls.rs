//! TLS towards endpoints, inside of the tunnel or straight to what is outside of the mesh.
//!
//! Within the mesh tunnels are mTLS already, so ISTIO_MUTUAL asks for nothing more, and neither does DISABLE. What a rule
//! asks for and cannot be had makes the cluster unusable: it is never sent to in plain instead.

use std::collections::BTreeSet;

use lateen_cluster::{api::ClientTls, store::Key};
use lateen_wire::proxy as wire;

use crate::{
    derive::{
        attached::Problem,
        backend::Backend,
        credential::{self, Wanted},
    },
    facts::{Lookup, Source},
};

/// Who vouches for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Whoever the system trusts.
    System,
    /// Those of these objects.
    These(Vec<Source>),
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

/// Who sends, with a look at Secrets.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) gateway: &'a Key,
    pub(super) look: &'a dyn Fn(&Source) -> Lookup,
    pub(super) client: Option<&'a Result<Wanted, Problem>>,
}

/// What a rule says counts; a policy fills what it leaves out.
pub(super) fn derive(
    backend: &Backend,
    (asked, backing): (Option<&ClientTls>, Option<Backing>),
    sender: Sender<'_>,
) -> Made {
    match asked.map(|asked| (asked, asked.mode.as_deref().unwrap_or("DISABLE"))) {
        Some((asked, mode @ ("SIMPLE" | "MUTUAL"))) => by_rule(backend, (asked, mode), sender),
        // Tunnels are mutual TLS already; what is outside of the mesh has none.
        Some((asked, "ISTIO_MUTUAL")) if backend.is_external => by_mesh(backend, asked),
        Some(_) => Made::default(),
        None => backing.map_or_else(Made::default, |backing| by_policy(backing, sender)),
    }
}

fn by_rule(backend: &Backend, (asked, mode): (&ClientTls, &str), sender: Sender<'_>) -> Made {
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
        // Secrets are those of the proxy's own namespace.
        let secret = Key::new(&sender.gateway.namespace, name);
        let vouching = Wanted::Authorities(vec![credential::authorities_of(&secret, sender.look)]);
        tls.ca = vouching.name_at(sender.gateway);
        made.wanted.insert(vouching);
        if mode == "MUTUAL" {
            let own = Wanted::All(Source::Secret(secret));
            tls.credential = own.name_at(sender.gateway);
            made.wanted.insert(own);
        }
    } else if mode == "MUTUAL" {
        made.unusable = "tls.mode MUTUAL has no certificate to show; name a Secret in credentialName".to_owned();
    }
    made.tls = Some(tls);
    made
}

fn by_mesh(backend: &Backend, asked: &ClientTls) -> Made {
    let names = if asked.subject_alt_names.is_empty() { &backend.identities } else { &asked.subject_alt_names };
    let tls = wire::Tls {
        mesh_identity: true,
        server_name: asked.sni.clone().unwrap_or_default(),
        subject_alt_names: names.clone(),
        ..wire::Tls::default()
    };
    Made { tls: Some(tls), ..Made::default() }
}

fn by_policy(backing: Backing, sender: Sender<'_>) -> Made {
    let (authority, server_name, subject_alt_names) = match backing {
        Backing::Tls { authority, hostname, subject_alt_names } => (authority, hostname, subject_alt_names),
        Backing::Unusable(unusable) => return Made { unusable, ..Made::default() },
    };
    let mut made = Made::default();
    let credential = match sender.client {
        None => String::new(),
        Some(Ok(wanted)) => {
            made.wanted.insert(wanted.clone());
            wanted.name_at(sender.gateway)
        }
        Some(Err(problem)) => {
            let unusable = format!("the Gateway's certificate for backends cannot be shown: {}", problem.message);
            return Made { unusable, ..Made::default() };
        }
    };
    let ca = match authority {
        Authority::System => String::new(),
        Authority::These(sources) => {
            let wanted = Wanted::Authorities(sources);
            let name = wanted.name_at(sender.gateway);
            made.wanted.insert(wanted);
            name
        }
    };
    made.tls = Some(wire::Tls { credential, ca, server_name, subject_alt_names, ..wire::Tls::default() });
    made
}
