//! TLS of the destination's own, which we begin.
//!
//! ```text
//! Tls (the cluster's policy) + credentials of the newest book + our own certificate ─► Origin, made once of the same
//! Origin + the server's name ─► Seal, part of the connection's key ─► handshake on a carrier
//! ```
//! In: what a policy asks for, and what it names. Out: a sealed stream, or why there is none: what is missing is never
//! done without. Credentials are looked up when a connection is asked for, in the newest book, so that one that was taken
//! back or changed serves no further request. Absent on purpose: TLS of the mesh's own tunnels (see `dial`).

mod trust;

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    net::Ipv4Addr,
    sync::Arc,
};

use lateen_identity::{cert::WorkloadCertificate, keeper::KeeperError};
use lateen_types::id::SpiffeId;
use parking_lot::RwLock;
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, client::ResolvesClientCert, crypto::aws_lc_rs::default_provider,
    pki_types::ServerName, sign::CertifiedKey,
};
use tokio::sync::OnceCell;
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::trust::Trust;
use super::{connection::Speak, endpoint::Endpoint, wire::Carrier};
use crate::{
    book::{Book, BookStore, Credential, Refusal, cluster::Tls},
    lane::Shared,
};

/// Why a destination's TLS cannot be begun. Its text is for operators and clients: it says nothing of a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SealError {
    /// A credential is missing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A credential has nothing to show.
    #[error("the credential {0} holds no certificate with its key; check tls.crt and tls.key of the secret")]
    NothingToShow(Arc<str>),
    /// A credential has nothing to verify servers with.
    #[error("the credential {0} holds no certificate of an authority; check ca.crt of the secret")]
    NoAuthority(Arc<str>),
    /// There are no roots of the system's.
    #[error("this machine's own roots cannot be read ({0}); name an authority, or mend its image")]
    NoRoots(Arc<str>),
    /// Certificates or revocation lists cannot be used together.
    #[error("what verifies the server cannot be used: {0}")]
    Unusable(Arc<str>),
    /// We cannot prove who we are in the mesh.
    #[error("no certificate of our own: {0}")]
    Own(#[from] KeeperError),
    /// There is no name to ask for.
    #[error("{0:?} is no name a server can be asked for; set the destination's sni")]
    Name(Box<str>),
    /// A name that should be one of the mesh's is none.
    #[error("{0:?} is no identity of the mesh")]
    Identity(Box<str>),
}

/// TLS towards one kind of destination, ready for handshakes. Two are the same only if they are one: whatever changes
/// makes another.
pub struct Origin {
    made_of: Sources,
    kind: Kind,
}

enum Kind {
    /// Certificates of the user's.
    Configured(Box<ClientConfig>),
    /// The mesh's own.
    Mesh(Arc<WorkloadCertificate>),
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Origin")
    }
}

/// What an [`Origin`] was made of.
#[derive(Clone, Default)]
struct Sources {
    shown: Option<Arc<Credential>>,
    authority: Option<Arc<Credential>>,
    own: Option<Arc<WorkloadCertificate>>,
}

impl Sources {
    fn find(tls: &Tls, book: &Book, own: Option<Arc<WorkloadCertificate>>) -> Result<Self, Refusal> {
        let find = |name: &Option<Arc<str>>| name.as_ref().map(|name| book.credential(name).cloned()).transpose();
        Ok(Self { shown: find(&tls.credential)?, authority: find(&tls.ca)?, own })
    }

    fn is_same(&self, other: &Self) -> bool {
        fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
        }
        same(self.shown.as_ref(), other.shown.as_ref())
            && same(self.authority.as_ref(), other.authority.as_ref())
            && same(self.own.as_ref(), other.own.as_ref())
    }
}

/// All that are in use.
#[derive(Default)]
pub struct Origins {
    made: RwLock<HashMap<Arc<Tls>, Arc<Origin>>>,
    /// Read when they are first needed, and again for as long as there are none.
    system: OnceCell<Arc<RootCertStore>>,
}

impl Origins {
    /// The way to begin `tls` now; `own` is our certificate in the mesh, where that is asked for.
    pub async fn of(
        &self,
        tls: &Arc<Tls>,
        book: &BookStore,
        own: Option<Arc<WorkloadCertificate>>,
    ) -> Result<Arc<Origin>, SealError> {
        let system = match needs_system(tls) {
            true => Some(self.system().await?),
            false => None,
        };
        // The newest book, not the request's: a retry must not go out with what was taken back meanwhile.
        let sources = Sources::find(tls, &book.peek(), own)?;
        if let Some(made) = self.made.read().get(tls).filter(|made| made.made_of.is_same(&sources)) {
            return Ok(made.clone());
        }
        // Off the lock, which every request takes.
        let made = Arc::new(Origin { kind: make(tls, &sources, system)?, made_of: sources });
        let mut all = self.made.write();
        // Somebody else may have been faster.
        if let Some(first) = all.get(tls).filter(|first| first.made_of.is_same(&made.made_of)) {
            return Ok(first.clone());
        }
        all.insert(tls.clone(), made.clone());
        Ok(made)
    }

    /// The roots of this machine. They are files: read beside the data path's threads, by one who needs them for all others.
    async fn system(&self) -> Result<Arc<RootCertStore>, SealError> {
        let read = || async {
            let reading = tokio::task::spawn_blocking(trust::system).await;
            reading.unwrap_or_else(|error| Err(SealError::NoRoots(error.to_string().into()))).map(Arc::new)
        };
        self.system.get_or_try_init(read).await.cloned()
    }

    /// Forgets what no cluster of `book` asks for any more, or was made of what has changed.
    pub fn review(&self, book: &Book) {
        if self.made.read().is_empty() {
            return;
        }
        let asked: std::collections::HashSet<_> =
            book.clusters().filter_map(|cluster| cluster.policy.tls.clone()).collect();
        self.made.write().retain(|tls, made| {
            let now = Sources::find(tls, book, made.made_of.own.clone());
            asked.contains(tls) && now.is_ok_and(|now| now.is_same(&made.made_of))
        });
    }

    /// Whether connections of `origin` may be used for a further request.
    pub fn holds(&self, origin: &Arc<Origin>) -> bool {
        self.made.read().values().any(|made| Arc::ptr_eq(made, origin))
    }
}

/// Whether nobody is named who verifies the server, so that whoever this machine trusts does.
fn needs_system(tls: &Tls) -> bool {
    !tls.mesh_identity && !tls.insecure_skip_verify && tls.ca.is_none()
}

fn make(tls: &Tls, sources: &Sources, system: Option<Arc<RootCertStore>>) -> Result<Kind, SealError> {
    if let Some(own) = &sources.own {
        return Ok(Kind::Mesh(own.clone()));
    }
    let provider = Arc::new(default_provider());
    let trust = match (&tls.ca, &sources.authority, system) {
        _ if tls.insecure_skip_verify => Trust::Anybody,
        (Some(name), Some(credential), _) => Trust::of(name, credential, &provider)?,
        (_, _, Some(system)) => Trust::roots(system, &provider)?,
        (_, _, None) => return Err(SealError::NoRoots("they were not asked for".into())),
    };
    let verifier = trust.naming(&tls.subject_alt_names, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SealError::Unusable(error.to_string().into()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let shown = match (&tls.credential, &sources.shown) {
        (Some(name), Some(credential)) if credential.pairs.is_empty() => {
            return Err(SealError::NothingToShow(name.clone()));
        }
        (Some(_), Some(credential)) => credential.pairs.clone(),
        (_, _) => Box::default(),
    };
    Ok(Kind::Configured(Box::new(match shown.is_empty() {
        true => builder.with_no_client_auth(),
        false => builder.with_client_cert_resolver(Arc::new(Shown(shown))),
    })))
}

/// Our certificates: the first whose key the server can verify.
#[derive(Debug)]
struct Shown(Box<[Arc<CertifiedKey>]>);

impl ResolvesClientCert for Shown {
    /// The server's hints are not followed: a wrong one could only keep us from showing the certificate that is meant.
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|pair| pair.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// TLS towards one server.
#[derive(Debug, Clone)]
pub struct Seal {
    /// How.
    pub origin: Arc<Origin>,
    /// What was asked for.
    tls: Arc<Tls>,
    /// Whom the server must be, and what it is asked for.
    name: Option<ServerName<'static>>,
    /// Who it may be, where identities of the mesh count and not its name.
    peers: Vec<SpiffeId>,
}

impl PartialEq for Seal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.origin, &other.origin) && self.name == other.name && self.peers == other.peers
    }
}

impl Eq for Seal {}

impl Hash for Seal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.origin).hash(state);
        self.name.hash(state);
    }
}

impl Seal {
    /// Towards `endpoint`; `host` is asked for where the policy names no server.
    pub async fn of(shared: &Shared, tls: &Arc<Tls>, (endpoint, host): (&Endpoint, &str)) -> Result<Self, SealError> {
        let own = match tls.mesh_identity {
            true => Some(shared.keeper.certificate(&shared.own.identity).await?),
            false => None,
        };
        let origin = shared.origins.of(tls, &shared.book, own).await?;
        let (name, peers) = match &origin.kind {
            Kind::Configured(_) => (Some(name(tls.server_name.as_deref().unwrap_or(host))?), Vec::new()),
            Kind::Mesh(_) => (tls.server_name.as_deref().map(name).transpose()?, peers(tls, endpoint)?),
        };
        Ok(Self { origin, tls: tls.clone(), name, peers })
    }

    /// The handshake. `speak` is what will be spoken where that is HTTP.
    pub async fn begin(&self, carrier: Carrier, speak: Option<Speak>) -> std::io::Result<TlsStream<Carrier>> {
        let mut config = match &self.origin.kind {
            Kind::Configured(config) => ClientConfig::clone(config),
            Kind::Mesh(own) => own.client_towards(self.peers.iter().cloned().collect()),
        };
        config.enable_sni = self.name.is_some();
        config.alpn_protocols = offered(&self.tls, speak);
        // rustls wants a name where none is sent and none is checked, too.
        let name = self.name.clone().unwrap_or_else(|| ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into()));
        TlsConnector::from(Arc::new(config)).connect(name, carrier).await
    }
}

fn name(text: &str) -> Result<ServerName<'static>, SealError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    // A name may end in a dot; certificates' names never do.
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare.to_owned()).map_err(|_| SealError::Name(text.into()))
}

/// Who may answer: whom the policy names, or else whom the mesh knows to be there.
fn peers(tls: &Tls, endpoint: &Endpoint) -> Result<Vec<SpiffeId>, SealError> {
    if tls.subject_alt_names.is_empty() {
        return Ok(endpoint.accepted());
    }
    let read = |name: &str| name.parse().map_err(|_| SealError::Identity(name.into()));
    tls.subject_alt_names.iter().map(|name| read(name)).collect()
}

/// What we offer to speak. Of HTTP only the version that will be spoken: whatever the server chose else, it would not hear.
fn offered(tls: &Tls, speak: Option<Speak>) -> Vec<Vec<u8>> {
    let all = tls.alpn.iter().map(|one| one.as_bytes());
    let Some(speak) = speak else { return all.map(<[u8]>::to_vec).collect() };
    let own: &[u8] = match speak {
        Speak::Http1 => b"http/1.1",
        Speak::Http2 => b"h2",
    };
    let is_http = |one: &[u8]| one == b"h2" || one.starts_with(b"http/");
    let fit: Vec<_> = all.filter(|one| !is_http(one) || *one == own).map(<[u8]>::to_vec).collect();
    if fit.is_empty() { vec![own.to_vec()] } else { fit }
}

#[cfg(test)]
mod tests;
