//! A gateway's data path in this process: real sockets, real TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lateen_net::{accept, listen::ListenOptions};
use lateen_waypoint::{
    book::{Change, Kind, compile},
    listen::{self, Door},
};
use lateen_wire::proxy;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::rig::{HOST, Rig, cluster, forward, soon};

/// The port all listeners of these tests are bound to, as far as the configuration knows.
pub const BIND: u16 = 8443;
/// What clients call it.
pub const PORT: u16 = 443;

/// A gateway with these listeners.
pub fn gateway(listeners: Vec<proxy::Listener>, options: proxy::Options) -> Rig {
    let rig = Rig::new();
    speaks(&rig, proxy::Protocol::Http);
    listens(&rig, listeners, options);
    rig
}

/// What the control plane says the service speaks.
pub fn speaks(rig: &Rig, protocol: proxy::Protocol) {
    let clusters = vec![cluster(protocol, proxy::TrafficPolicy::default())];
    let destination = proxy::Destination { namespace: "shop".into(), hostname: HOST.into(), clusters };
    put(rig, Kind::Destination, &format!("shop/gw/shop/{HOST}"), &destination);
}

/// What the control plane says now of the gateway's listeners.
pub fn listens(rig: &Rig, listeners: Vec<proxy::Listener>, options: proxy::Options) {
    let proxy = proxy::Proxy {
        namespace: "shop".into(),
        name: "gw".into(),
        role: proxy::Role::Gateway.into(),
        options: Some(options),
        listeners,
        ..Default::default()
    };
    put(rig, Kind::Proxy, "shop/gw", &proxy);
}

/// One resource of the control plane.
pub fn put(rig: &Rig, kind: Kind, name: &str, message: &impl prost::Message) {
    let change = compile::resource(kind, &name.into(), &message.encode_to_vec());
    rig.shared.book.apply([change.expect("a resource that can be used")]);
}

/// The control plane takes one back.
pub fn take_back(rig: &Rig, kind: Kind, name: &str) {
    rig.shared.book.apply([Change::Removed { kind, name: name.into() }]);
}

/// A listener that is bound to [`BIND`].
pub fn listener(kind: proxy::listener::Kind) -> proxy::Listener {
    proxy::Listener { bind_port: BIND.into(), port: PORT.into(), kind: Some(kind) }
}

/// Virtual hosts that send everything to the service.
pub fn hosts(names: &[&str]) -> proxy::VirtualHosts {
    let one = |name: &&str| proxy::VirtualHost {
        host: (*name).into(),
        routes: vec![forward(proxy::Forward::default())],
        https_redirect: false,
    };
    proxy::VirtualHosts { hosts: names.iter().map(one).collect() }
}

pub fn plain(names: &[&str]) -> proxy::Listener {
    listener(proxy::listener::Kind::Http(hosts(names)))
}

/// A listener for TLS.
pub fn tls(all: Vec<(&str, proxy::tls_host::Then)>) -> proxy::Listener {
    let one = |(host, then): (&str, _)| proxy::TlsHost { host: host.into(), then: Some(then) };
    listener(proxy::listener::Kind::Tls(proxy::TlsHosts { hosts: all.into_iter().map(one).collect() }))
}

/// TLS that ends here, with requests for `names` inside.
pub fn ends(credential: &str, names: &[&str]) -> proxy::Terminate {
    proxy::Terminate {
        credentials: vec![credential.into()],
        then: Some(proxy::terminate::Then::Http(hosts(names))),
        ..Default::default()
    }
}

pub fn terminate(of: proxy::Terminate) -> proxy::tls_host::Then {
    proxy::tls_host::Then::Terminate(of)
}

/// A route for bytes to the service itself.
pub fn bytes() -> proxy::TcpRoutes {
    let to = proxy::weighted::To::Upstream(crate::rig::upstream());
    let destinations = vec![proxy::Weighted { weight: 1, to: Some(to), ..Default::default() }];
    proxy::TcpRoutes { routes: vec![proxy::TcpRoute { destinations, ..Default::default() }] }
}

/// The socket whose connections come in at [`BIND`].
pub fn door(rig: &Rig) -> SocketAddr {
    let any = "127.0.0.1:0".parse().expect("valid");
    let socket = lateen_net::listen::tcp(any, &ListenOptions::default()).expect("bind").socket;
    let addr = socket.local_addr().expect("bound");
    let (lane, owner) = (rig.lane.clone(), (rig.tasks.clone(), rig.drain.clone()));
    let door = Door { bind: BIND, drain: rig.drain.child() };
    let accepting = accept::run("gateway", (socket, 100), owner, move |stream, peer| {
        listen::handle(lane.clone(), door.clone(), stream, peer)
    });
    rig.tasks.spawn("door", accepting);
    addr
}

/// Sends these bytes and reads until the other end closes.
pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.expect("write");
    let mut answer = Vec::new();
    // A reset after the answer is an end, too.
    let _end = soon("the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request that is the last of its connection.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Asks in plain.
pub async fn ask(at: SocketAddr, bytes: &[u8]) -> String {
    exchange(TcpStream::connect(at).await.expect("connect"), bytes).await
}

/// An authority that signs certificates of hosts and of users.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Pair {
    pub chain_pem: String,
    pub key_pem: String,
    pub der: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn sign(&self, names: Vec<SanType>) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "holder");
        params.subject_alt_names = names;
        let now = std::time::SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(86_400)).into();
        let leaf = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { chain_pem: leaf.pem(), key_pem: key.serialize_pem(), der: leaf.der().clone(), key }
    }

    pub fn host(&self, name: &str) -> Pair {
        self.sign(vec![SanType::DnsName(name.try_into().expect("a name"))])
    }

    pub fn user(&self, uri: &str) -> Pair {
        self.sign(vec![SanType::URI(uri.try_into().expect("a URI"))])
    }
}

impl Pair {
    /// The resource that holds it.
    pub fn credential(&self) -> proxy::Credential {
        let pair = proxy::KeyPair { chain_pem: self.chain_pem.clone(), key_pem: self.key_pem.clone() };
        proxy::Credential { pairs: vec![pair], ..Default::default() }
    }
}

/// A client of TLS.
pub struct Caller<'c> {
    pub trusts: &'c Authority,
    pub shows: Option<&'c Pair>,
    pub protocols: &'c [&'c str],
}

impl Caller<'_> {
    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.0.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::Pkcs8(pair.key.serialize_der().into());
                builder.with_client_auth_cert(vec![pair.der.clone()], key).expect("a pair")
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        config
    }

    /// Shakes hands for `name`; with TLS 1.3 a client hears only later that it was refused.
    pub async fn connect(&self, at: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(at).await.expect("connect");
        let name = name.to_owned().try_into().expect("a name");
        soon("the handshake", TlsConnector::from(Arc::new(self.config())).connect(name, socket)).await
    }

    /// Asks for `path` of `host` on a connection to `name`: the whole answer, or why there is none.
    pub async fn get(&self, at: SocketAddr, name: &str, (host, path): (&str, &str)) -> Result<String, String> {
        let mut stream = self.connect(at, name).await.map_err(|error| error.to_string())?;
        stream.write_all(&get(host, path)).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        let end = soon("the answer", stream.read_to_end(&mut answer)).await;
        match (answer.is_empty(), end) {
            (true, Err(error)) => Err(error.to_string()),
            (true, Ok(_)) => Err("closed".to_owned()),
            (false, _) => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    }
}

/// A client without a certificate.
pub fn caller(trusts: &Authority) -> Caller<'_> {
    Caller { trusts, shows: None, protocols: &[] }
}
