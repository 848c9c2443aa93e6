//! The controller's own door: TLS on 15012, behind it discovery and the certificate authority.
//!
//! In: connections. Out: gRPC answers. Absent on purpose: what is served (see `publish`, `ca`).

pub mod discovery;
pub mod listen;
pub mod tls;

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use lateen_rt::drain::Drain;
use lateen_wire::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use lateen_xds::server::METHOD;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService as _,
    transport::Server,
};

use crate::ca;
use listen::Connection;

const STREAMS_MAX: u32 = 1000;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections are ended after this, so that proxies spread over replicas that were added later.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
const CONNECTION_GRACE: Duration = Duration::from_secs(10);

/// Answers on `connections` until `drain` begins.
pub async fn serve(
    connections: impl Stream<Item = Result<Connection, Infallible>> + Send + 'static,
    discovery: discovery::Service,
    ca: ca::service::Service,
    drain: Drain,
) {
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE_MAX)
        .max_connection_age_grace(CONNECTION_GRACE);
    let both = Both { discovery, ca: IstioCertificateServiceServer::new(ca) };
    let ended = server.serve_with_incoming_shutdown(both, connections, async move { drain.draining().await }).await;
    if let Err(error) = ended {
        tracing::error!(%error, "the gRPC server ended");
    }
}

/// Both services on one connection, told apart by path. (tonic's own router would bring a web framework along.)
#[derive(Debug, Clone)]
struct Both {
    discovery: discovery::Service,
    ca: IstioCertificateServiceServer<ca::service::Service>,
}

impl Service<http::Request<Body>> for Both {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == METHOD {
            let answering = self.discovery.clone().answer(request);
            return Box::pin(async move { Ok(answering.await) });
        }
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        if service == IstioCertificateServiceServer::<ca::service::Service>::NAME {
            return self.ca.call(request);
        }
        let unknown = Status::unimplemented("this server has no such service").into_http();
        Box::pin(async move { Ok(unknown) })
    }
}
