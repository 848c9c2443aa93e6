//! gRPC to the control plane and to the CA: server-authenticated TLS, a bearer token, the headers they want.
//!
//! In: an address, where roots and token are. Out: a channel that connects when first used and again when it breaks.
//! Roots are read for each connection and the token for each request, because both files change under us.
//! Absent on purpose: retrying calls.

use std::{fmt, path::PathBuf, time::Duration};

use http::Uri;
use lateen_types::name::ClusterId;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataKey, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

mod connector;
pub mod vars;

use connector::{Connector, Target};

/// How long connecting may take, from the name look-up to the end of the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 PINGs on an idle connection.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A channel with credentials on every request; clones share the connection.
pub type ControlChannel = InterceptedService<Channel, Credentials>;

/// Where the certificates to trust come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// A PEM file, read anew for each connection.
    File(PathBuf),
    /// PEM text.
    Pem(String),
}

/// Where the bearer token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// No credentials are sent.
    None,
    /// A file, read anew for each request.
    File(PathBuf),
    /// The token itself.
    Inline(String),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Inline(_) => f.write_str("Inline"),
        }
    }
}

/// What a channel needs to know.
#[derive(Clone)]
pub struct ChannelConfig {
    /// `https://host:port`, `http://host:port` (no TLS), `unix:///path` (no TLS), or `host:port`, which means https.
    pub address: String,
    /// Whom to trust; unused without TLS.
    pub roots: Roots,
    /// A further name the server's certificate may have.
    pub alternative_host: Option<String>,
    /// The credentials.
    pub token: Token,
    /// Sent as `clusterid` together with the token.
    pub cluster: ClusterId,
    /// Further metadata, name and value.
    pub headers: Vec<(String, String)>,
}

/// Headers carry credentials too: only their names are shown.
impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("ChannelConfig")
            .field("address", &self.address)
            .field("roots", &self.roots)
            .field("alternative_host", &self.alternative_host)
            .field("token", &self.token)
            .field("cluster", &self.cluster)
            .field("headers", &names)
            .finish()
    }
}

/// Why a channel's configuration cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The address is none.
    #[error(
        "{0:?} is no control plane address; it must be https://<host>:<port>, http://<host>:<port> or unix:///<path>"
    )]
    Address(String),
    /// A header cannot be sent.
    #[error("the header {name:?} cannot be sent as gRPC metadata; use lower-case letters, digits, '-' and '_'")]
    Header {
        /// Its name.
        name: String,
    },
}

/// A channel that connects when first used. Must be called on a runtime.
pub fn channel(config: &ChannelConfig) -> Result<ControlChannel, ChannelError> {
    let bad = || ChannelError::Address(config.address.clone());
    let target = Target::parse(&config.address).ok_or_else(bad)?;
    // The connector does TLS itself, so the endpoint is plain; the origin keeps what requests say right.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.authority())).map_err(|_| bad())?;
    let origin: Uri = format!("{}://{}", target.scheme(), target.authority()).parse().map_err(|_| bad())?;
    let endpoint = endpoint
        .origin(origin)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let connector = Connector::new(target, config.roots.clone(), config.alternative_host.clone());
    let credentials = Credentials::new(config)?;
    Ok(InterceptedService::new(endpoint.connect_with_connector_lazy(connector), credentials))
}

/// Puts the token and the headers on each request.
#[derive(Clone)]
pub struct Credentials {
    token: Token,
    headers: Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Credentials {
    fn new(config: &ChannelConfig) -> Result<Self, ChannelError> {
        let cluster = ("clusterid".to_owned(), config.cluster.as_str().to_owned());
        let cluster = (config.token != Token::None).then_some(&cluster);
        let entry = |(name, value): &(String, String)| {
            let bad = || ChannelError::Header { name: name.clone() };
            let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| bad())?;
            Ok((key, value.parse().map_err(|_| bad())?))
        };
        let headers = cluster.into_iter().chain(&config.headers).map(entry).collect::<Result<_, _>>()?;
        Ok(Self { token: config.token.clone(), headers })
    }

    fn bearer(&self) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let read;
        let token = match &self.token {
            Token::None => return Ok(None),
            Token::Inline(token) => token.trim(),
            Token::File(path) => {
                let failed = |error| Status::unauthenticated(format!("cannot read token {}: {error}", path.display()));
                read = std::fs::read_to_string(path).map_err(failed)?;
                read.trim()
            }
        };
        if token.is_empty() {
            return Err(Status::unauthenticated("the token is empty; is the projected token volume mounted?"));
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| Status::unauthenticated("the token holds characters that no token has"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = self.bearer()? {
            request.metadata_mut().insert("authorization", bearer);
        }
        for (key, value) in &self.headers {
            request.metadata_mut().insert(key.clone(), value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
