//! TLS with the outside ends here.
//!
//! In: a connection whose ClientHello was read, the terms of the host it names. Out: the bytes inside, and what is proven of
//! the client; or why hands are not shaken. A configuration is made once for the same terms and the same credentials: a
//! credential that changes means another one for the next handshake. Connections that have shaken hands go on, unless others
//! would be let in now: then requests are answered with 421 (see `book::proxy`). Absent on purpose: choosing the host.

use std::{collections::HashMap, sync::Arc};

use lateen_identity::{
    handshake::HANDSHAKE_TIMEOUT,
    keeper::KeeperError,
    presented::{Name, Presented},
    suites,
    verifier::Verifier,
};
use lateen_net::splice::Io;
use lateen_rt::deadline::{Elapsed, within};
use lateen_types::id::SpiffeId;
use parking_lot::Mutex;
use rustls::{
    ProtocolVersion, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs as aws},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::clients::{self, Clients, Refused};
use crate::{
    arrival::{Ended, Proof},
    book::{
        Book, Credential, Refusal,
        proxy::{ClientCertificate, Terms, TlsVersion},
    },
    http::normalize::headers,
    lane::Lane,
    rewound::Rewound,
};

/// Configurations that are kept; beyond that those nobody may use any more are forgotten, and then all.
const KEPT_MAX: usize = 4096;
/// What is offered where requests are inside.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why hands are not shaken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A credential is not here.
    #[error(transparent)]
    Missing(#[from] Refusal),
    /// A credential has no key.
    #[error("the credential {0} has no certificate with its key; check the secret's tls.crt and tls.key")]
    NoKey(Arc<str>),
    /// No credential is named.
    #[error("no credential is named for this host")]
    NoCredential,
    /// Nothing verifies clients.
    #[error("clients cannot be verified: {0}; check the CA certificate of the secret")]
    Authorities(String),
    /// No version and cipher suite is left.
    #[error("no cipher suite is left for the versions that are allowed")]
    NoSuite,
    /// Our own certificate is not here.
    #[error("no certificate: {0}")]
    Own(#[from] KeeperError),
    /// The client did not answer in time.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// The handshake broke a rule of TLS, or the client went away.
    #[error("TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    /// The client is of the mesh, but not one of those that are let in.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl TlsError {
    /// The word in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::NoKey(_) | Self::NoCredential => "credential_missing",
            Self::Authorities(_) => "authority_missing",
            Self::NoSuite => "no_cipher_suite",
            Self::Own(_) => "no_certificate",
            Self::Timeout(_) => "handshake_timeout",
            Self::Handshake(_) => "handshake_failed",
            Self::Refused(_) => "client_refused",
        }
    }

    /// Whether the client is not to blame.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Timeout(_) | Self::Handshake(_) | Self::Refused(_))
    }
}

/// A finished handshake.
pub struct Opened {
    /// What is inside.
    pub stream: Io<TlsStream<Rewound<TcpStream>>>,
    /// The client's proven identity in the mesh, or in another one.
    pub peer: Option<SpiffeId>,
    /// What was agreed on.
    pub ended: Ended,
}

/// Configurations that were made.
#[derive(Debug, Default)]
pub struct Configs(Mutex<HashMap<Key, Arc<Made>>>);

/// What a configuration is made of. Credentials by their addresses, which stay theirs while [`Made`] holds them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    terms: Arc<Terms>,
    credentials: Vec<usize>,
}

#[derive(Debug)]
struct Made {
    config: Arc<ServerConfig>,
    clients: Option<Arc<Verifier<Clients>>>,
    credentials: Vec<Arc<Credential>>,
}

/// Everything that one handshake needs.
pub struct Ready {
    terms: Arc<Terms>,
    proof: Proof,
    config: Arc<ServerConfig>,
    prover: Prover,
    own: SpiffeId,
}

/// Who a client is, and who says so.
enum Prover {
    /// Clients are not asked.
    Nobody,
    /// Authorities that were configured.
    Clients(Arc<Verifier<Clients>>),
    /// The mesh.
    Mesh,
}

impl Ready {
    /// Shakes hands.
    pub async fn shake(self, stream: Rewound<TcpStream>) -> Result<Opened, TlsError> {
        let accepting = TlsAcceptor::from(self.config.clone()).accept(stream);
        let accepted = within("the client's TLS handshake", HANDSHAKE_TIMEOUT, accepting).await?;
        let stream = accepted.map_err(TlsError::Handshake)?;
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates();
        let presented = match &self.prover {
            Prover::Nobody => None,
            Prover::Clients(clients) => clients.rule().presented(chain),
            Prover::Mesh => {
                let presented = chain.and_then(|chain| Presented::read(chain.first()?));
                clients::lets_in(&self.terms, presented.as_ref())?;
                presented
            }
        };
        let peer = presented.as_ref().and_then(identity).filter(|peer| match &self.prover {
            Prover::Mesh => true,
            // Whoever may sign a user's clients must not thereby speak for members of our mesh.
            Prover::Nobody | Prover::Clients(_) => peer.trust_domain() != self.own.trust_domain(),
        });
        let by = matches!(self.prover, Prover::Mesh).then_some(&self.own);
        let leaf = chain.and_then(|chain| chain.first());
        let shown = presented.as_ref().zip(leaf);
        let certificate = shown.and_then(|(presented, leaf)| headers::of_certificate(by, presented, leaf));
        let version = version(connection.protocol_version());
        let ended = Ended { terms: self.terms, proof: self.proof, version, certificate };
        Ok(Opened { stream: Io(stream), peer, ended })
    }
}

/// The first SPIFFE id.
fn identity(presented: &Presented) -> Option<SpiffeId> {
    presented.names.iter().find_map(|name| match name {
        Name::Uri(uri) => uri.parse().ok(),
        Name::Dns(_) | Name::Email(_) | Name::Ip(_) => None,
    })
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

impl Configs {
    /// What a handshake by `terms` needs now. A credential may have come since the port was bound.
    pub async fn prepare(&self, lane: &Lane, terms: &Arc<Terms>) -> Result<Ready, TlsError> {
        let (own, terms) = (lane.shared.own.identity.clone(), terms.clone());
        if terms.client_certificate == ClientCertificate::Mesh {
            let ours = lane.shared.keeper.certificate(&own).await?;
            let config = ours.serving(if terms.is_http { &HTTP } else { &[] });
            let proof = Proof::of(&terms, &[]);
            return Ok(Ready { terms, proof, config: Arc::new(config), prover: Prover::Mesh, own });
        }
        let made = self.of(&terms, &lane.shared.book.peek())?;
        let prover = made.clients.clone().map_or(Prover::Nobody, Prover::Clients);
        let proof = Proof::of(&terms, &made.credentials);
        Ok(Ready { terms, proof, config: made.config.clone(), prover, own })
    }

    fn of(&self, terms: &Arc<Terms>, book: &Book) -> Result<Arc<Made>, TlsError> {
        let named = terms.credentials.iter().map(|name| book.credential(name).cloned());
        let mut credentials = named.collect::<Result<Vec<_>, _>>()?;
        if credentials.is_empty() {
            return Err(TlsError::NoCredential);
        }
        if let Some(ca) = &terms.client_ca {
            credentials.push(book.credential(ca)?.clone());
        }
        let addresses = credentials.iter().map(|credential| Arc::as_ptr(credential).addr()).collect();
        let key = Key { terms: terms.clone(), credentials: addresses };
        if let Some(made) = self.0.lock().get(&key) {
            return Ok(made.clone());
        }
        // Off the lock: another handshake may make the same, and one of them is kept.
        let made = Arc::new(make(terms, credentials)?);
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX {
            kept.retain(|key, made| is_current(&key.terms, &made.credentials, book));
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        Ok(kept.entry(key).or_insert(made).clone())
    }
}

/// Whether the credentials are still those of the book.
fn is_current(terms: &Terms, held: &[Arc<Credential>], book: &Book) -> bool {
    let named = terms.credentials.iter().chain(terms.client_ca.as_ref());
    named.zip(held).all(|(name, held)| book.credential(name).is_ok_and(|now| Arc::ptr_eq(now, held)))
}

/// `credentials` are those that `terms` name, and last the one of the client's authority where that is named.
fn make(terms: &Arc<Terms>, credentials: Vec<Arc<Credential>>) -> Result<Made, TlsError> {
    let own = &credentials[..terms.credentials.len()];
    let empty = terms.credentials.iter().zip(own).find(|(_, credential)| credential.pairs.is_empty());
    if let Some((name, _)) = empty {
        return Err(TlsError::NoKey(name.clone()));
    }
    let pairs = Pairs(own.iter().flat_map(|credential| credential.pairs.iter().cloned()).collect());
    let provider = Arc::new(provider(terms));
    let authority = credentials.last().filter(|_| terms.client_ca.is_some()).or(credentials.first());
    let clients = match terms.client_certificate {
        ClientCertificate::Ignored => None,
        ClientCertificate::Required
        | ClientCertificate::Optional
        | ClientCertificate::OptionalUnverified
        | ClientCertificate::Mesh => Some(Clients::new(terms, authority.ok_or(TlsError::NoCredential)?, &provider)?),
    };
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&versions(terms)).map_err(|_| TlsError::NoSuite)?;
    let builder = match &clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.clone()),
    };
    let mut config = builder.with_cert_resolver(Arc::new(pairs));
    if terms.is_http {
        config.alpn_protocols = HTTP.iter().map(|protocol| protocol.to_vec()).collect();
    }
    if clients.is_some() {
        // A session taken up again would not have its certificate looked at.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Made { config: Arc::new(config), clients, credentials })
}

/// The cipher suites that are named are those of TLS 1.2, as in the reference; those of TLS 1.3 are all good.
fn provider(terms: &Terms) -> CryptoProvider {
    let mut provider = aws::default_provider();
    if !terms.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            suite.tls13().is_some() || terms.cipher_suites.iter().any(|wanted| suites::is_called(suite, wanted))
        });
    }
    provider
}

fn versions(terms: &Terms) -> Vec<&'static SupportedProtocolVersion> {
    match (terms.min_version, terms.max_version) {
        (TlsVersion::V13, TlsVersion::V12) => vec![],
        (TlsVersion::V13, TlsVersion::Auto | TlsVersion::V13) => vec![&TLS13],
        (TlsVersion::Auto | TlsVersion::V12, TlsVersion::V12) => vec![&TLS12],
        (TlsVersion::Auto | TlsVersion::V12, TlsVersion::Auto | TlsVersion::V13) => vec![&TLS13, &TLS12],
    }
}

/// The first whose key the client can use.
#[derive(Debug)]
struct Pairs(Box<[Arc<CertifiedKey>]>);

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|pair| pair.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
    }
}
