//! Starting and ending the server.
//!
//! In: options and listeners. Out: a handle with what clients need: CA, admin token, kubeconfig.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rt::{deadline::Elapsed, drain::Drain, tasks::Tasks};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    api::{Api, Options},
    gc,
    http::{handle::Context, serve},
    object,
    tls::{Identity, TlsError, names_of},
    token::TokenError,
};

/// How long connections get to finish when the server ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long tasks get to end after that.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No listener was given.
    #[error("the API server was given no listener; give it at least one")]
    NoListener,
    /// A listener's address is unknown.
    #[error("a listener of the API server has no address: {0}")]
    Listener(#[source] std::io::Error),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No signing key.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// An in-memory Kubernetes API server.
#[derive(Debug)]
pub struct ApiServer;

/// A running server. Dropping it does not end the server; [`ApiHandle::shutdown`] does.
#[derive(Debug)]
pub struct ApiHandle {
    api: Arc<Api>,
    admin_token: Arc<str>,
    addresses: Vec<SocketAddr>,
    drain: Drain,
    tasks: Tasks,
}

impl ApiServer {
    /// Starts serving on `listeners`. The certificate covers their addresses, loopback, the in-cluster names and `options.names`.
    pub async fn start(mut options: Options, listeners: Vec<TcpListener>) -> Result<ApiHandle, StartError> {
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Listener)?;
        if addresses.is_empty() {
            return Err(StartError::NoListener);
        }
        let known = addresses.iter().chain(&options.advertise).map(SocketAddr::ip);
        options.names.extend(names_of(known.chain([options.service_range_v4.at(1), options.service_range_v6.at(1)])));
        let identity = Identity::new(&options.names)?;
        let api = Arc::new(Api::new(options, identity.ca_pem)?);
        let admin_token: Arc<str> = object::random_suffix(40).into();
        let (drain, tasks) = (Drain::new(), Tasks::new());
        let context = Context { api: api.clone(), admin_token: admin_token.clone(), drain: drain.clone() };
        let door =
            serve::Door { tls: identity.acceptor, context, tasks: tasks.clone(), permits: serve::connection_permits() };
        for listener in listeners {
            tasks.spawn("api accept", serve::accept(listener, door.clone()));
        }
        let (collector, end) = (api.clone(), drain.clone());
        tasks.spawn("api collector", async move {
            tokio::select! {
                () = gc::run(collector) => {}
                () = end.draining() => {}
            }
        });
        Ok(ApiHandle { api, admin_token, addresses, drain, tasks })
    }
}

impl ApiHandle {
    /// The certificate authority of the server, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.api.ca_pem
    }

    /// The bearer token that may do everything.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The addresses it listens on, in the order given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A kubeconfig for `server_url` (such as `https://127.0.0.1:6443`) with `token`.
    pub fn kubeconfig(&self, server_url: &str, token: &str) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lateen",
            "clusters": [{ "name": "lateen", "cluster": {
                "server": server_url, "certificate-authority-data": STANDARD.encode(&self.api.ca_pem) } }],
            "users": [{ "name": "lateen", "user": { "token": token } }],
            "contexts": [{ "name": "lateen", "context": { "cluster": "lateen", "user": "lateen" } }],
        });
        // JSON is YAML, and indented it reads well enough.
        format!("{config:#}\n")
    }

    /// Ends it: no new connections, running ones finish within a moment, then everything stops.
    pub async fn shutdown(&self) -> Result<(), Elapsed> {
        self.drain.start();
        if self.tasks.join(DRAIN_TIMEOUT).await.is_ok() {
            return Ok(());
        }
        self.drain.force();
        self.tasks.join(END_TIMEOUT).await
    }
}
