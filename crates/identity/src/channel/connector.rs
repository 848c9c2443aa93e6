//! Connecting to a control plane: TCP or a Unix socket, with TLS where the address says so.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use lateen_net::{
    dial::{self, DialOptions},
    options::Keepalive,
};
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::ServerName,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixStream, lookup_host},
};
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;

use super::Roots;
use crate::{
    cert::pem_certificates,
    crypto::provider,
    verifier::{ServerRule, Shown, Verifier},
};

/// Longer than on the data path: control streams are silent for hours.
const KEEPALIVE: Keepalive =
    Keepalive { idle: Duration::from_secs(300), interval: Duration::from_secs(75), probes: 9, user_timeout: None };

/// Where a channel leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Tls { host: String, port: u16 },
    Plain { host: String, port: u16 },
    Unix(PathBuf),
}

impl Target {
    pub fn parse(address: &str) -> Option<Self> {
        if let Some(path) = address.strip_prefix("unix://") {
            return path.starts_with('/').then(|| Self::Unix(path.into()));
        }
        let whole = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
        let uri: Uri = whole.parse().ok()?;
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        match uri.scheme_str()? {
            "https" => Some(Self::Tls { host, port: uri.port_u16().unwrap_or(443) }),
            "http" => Some(Self::Plain { host, port: uri.port_u16().unwrap_or(80) }),
            _ => None,
        }
    }

    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tls { .. } => "https",
            Self::Plain { .. } | Self::Unix(_) => "http",
        }
    }

    /// What `:authority` says.
    pub fn authority(&self) -> String {
        match self {
            Self::Tls { host, port } | Self::Plain { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tls { host, port } | Self::Plain { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// Any of the streams we connect by.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to one target each time it is called.
#[derive(Debug, Clone)]
pub struct Connector {
    target: Arc<Target>,
    roots: Arc<Roots>,
    alternative_host: Option<String>,
}

impl Connector {
    pub fn new(target: Target, roots: Roots, alternative_host: Option<String>) -> Self {
        Self { target: Arc::new(target), roots: Arc::new(roots), alternative_host }
    }

    async fn connect(self) -> io::Result<Box<dyn Stream>> {
        match &*self.target {
            Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Target::Plain { host, port } => Ok(Box::new(tcp(host, *port).await?)),
            Target::Tls { host, port } => {
                let config = self.tls_config(host).await?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let stream = tcp(host, *port).await?;
                Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
            }
        }
    }

    async fn tls_config(&self, host: &str) -> io::Result<ClientConfig> {
        let pem = match &*self.roots {
            Roots::Pem(pem) => pem.clone(),
            Roots::File(path) => tokio::fs::read_to_string(path).await.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot read the roots for {host} from {}: {error}", path.display()),
                )
            })?,
        };
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(pem_certificates(&pem).map_err(io::Error::other)?);
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), provider());
        let chain = chain.build().map_err(io::Error::other)?;
        let alternative = self.alternative_host.clone().map(ServerName::try_from).transpose();
        let verifier = EitherName { chain, alternative: alternative.map_err(io::Error::other)? };
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(io::Error::other)?;
        let builder =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::new(verifier, provider())));
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<tokio::net::TcpStream> {
    let options = DialOptions { keepalive: Some(KEEPALIVE), ..DialOptions::default() };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for addr in lookup_host((host, port)).await? {
        match dial::tcp(addr, &options).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = io::Error::other(error),
        }
    }
    Err(last)
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.clone().connect();
        Box::pin(async { Ok(TokioIo::new(connecting.await?)) })
    }
}

/// The usual check of a server, which may go by a second name.
#[derive(Debug)]
struct EitherName {
    chain: Arc<WebPkiServerVerifier>,
    alternative: Option<ServerName<'static>>,
}

impl ServerRule for EitherName {
    fn check(&self, shown: Shown<'_>, asked: &ServerName<'_>) -> Result<(), rustls::Error> {
        let by = |name: &ServerName<'_>| {
            self.chain.verify_server_cert(shown.leaf, shown.intermediates, name, &[], shown.now).map(|_| ())
        };
        match (by(asked), &self.alternative) {
            (Err(rustls::Error::InvalidCertificate(reason)), Some(alternative)) if is_about_the_name(&reason) => {
                by(alternative)
            }
            (verified, _) => verified,
        }
    }
}

fn is_about_the_name(reason: &CertificateError) -> bool {
    matches!(reason, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}
