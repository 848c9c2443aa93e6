//! Certificates of users' own, and endpoints that show them.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, SystemTime},
};

use lateen_waypoint::book::{Kind, compile};
use lateen_wire::proxy;
use parking_lot::Mutex;
use prost::Message as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    endpoints::{Endpoint, echo, http, raw},
    rig::Rig,
};

/// A certificate authority outside of the mesh.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Pair {
    pub chain: String,
    pub key: String,
    pub serial: u64,
}

static SERIAL: AtomicU64 = AtomicU64::new(1);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A leaf with these names: of hosts, or URIs.
    pub fn leaf(&self, names: &[&str]) -> Pair {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(serial));
        let name = |name: &&str| match (name.contains("://"), name.parse()) {
            (true, _) => SanType::URI((*name).try_into().expect("a URI")),
            (false, Ok(ip)) => SanType::IpAddress(ip),
            (false, Err(_)) => SanType::DnsName((*name).try_into().expect("a name")),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(86_400)).into();
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Pair { chain, key: key.serialize_pem(), serial }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).expect("PEM")).expect("a root");
        Arc::new(roots)
    }
}

impl Pair {
    pub fn credential(&self) -> proxy::Credential {
        let pair = proxy::KeyPair { chain_pem: self.chain.clone(), key_pem: self.key.clone() };
        proxy::Credential { pairs: vec![pair], ..Default::default() }
    }
}

/// Tells the waypoint of a credential.
pub fn tell(rig: &Rig, name: &str, credential: &proxy::Credential) {
    let change = compile::resource(Kind::Credential, &name.into(), &credential.encode_to_vec());
    rig.shared.book.apply([change.expect("a credential that can be used")]);
}

/// What an endpoint saw of a handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub server_name: Option<String>,
    pub alpn: Option<String>,
    /// The serial number of the client's certificate.
    pub client: Option<u64>,
}

/// An endpoint behind TLS.
pub struct Sealed {
    pub endpoint: Endpoint,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Sealed {
    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr
    }

    /// All handshakes so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

/// How a server proves itself, and whom it lets in: everybody, or whom `clients` vouches for.
pub fn acceptor(shows: &Pair, clients: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let chain = CertificateDer::pem_slice_iter(shows.chain.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(shows.key.as_bytes()).expect("PEM");
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// An endpoint that echoes requests inside of TLS.
pub async fn sealed(rig: &Rig, shows: &Pair, clients: Option<&Authority>) -> Sealed {
    sealed_with(rig, acceptor(shows, clients), |stream| http(stream, echo)).await
}

/// An endpoint that echoes bytes inside of TLS.
pub async fn sealed_bytes(rig: &Rig, shows: &Pair) -> Sealed {
    let echo = |mut stream: TlsStream<TcpStream>| async move {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..length]).await.ok();
        }
        stream.shutdown().await.ok();
    };
    sealed_with(rig, acceptor(shows, None), echo).await
}

async fn sealed_with<F>(
    rig: &Rig,
    acceptor: TlsAcceptor,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
) -> Sealed
where
    F: Future<Output = ()> + Send + 'static,
{
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let list = seen.clone();
    let endpoint = raw(rig, move |stream| {
        let (acceptor, seen, serve) = (acceptor.clone(), list.clone(), serve.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            seen.lock().push(look(&stream));
            serve(stream).await;
        }
    })
    .await;
    Sealed { endpoint, seen }
}

fn look(stream: &TlsStream<TcpStream>) -> Seen {
    let (_, connection) = stream.get_ref();
    let client = connection.peer_certificates().and_then(|chain| chain.first()).map(|leaf| {
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).expect("a certificate");
        leaf.raw_serial().iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    });
    Seen {
        server_name: connection.server_name().map(str::to_owned),
        alpn: connection.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
        client,
    }
}
