//! Accepts connections and makes them TLS before gRPC sees them.
//!
//! In: a listener, a TLS configuration. Out: a stream of secured connections, under a limit and a deadline each.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use lateen_rt::{backoff::Backoff, deadline::within, drain::Drain, tasks::Tasks};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

/// Connections, secured or on their way; more wait in the kernel's queue. Anybody may open one without a token, and a
/// node has three.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Handshakes under way; more connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Secured connections that gRPC has not taken yet.
const WAITING_MAX: usize = 64;

/// A listener on `port` of every address, of both families where there are two.
pub async fn everywhere(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).await {
        Ok(listener) => Ok(listener),
        // The kernel has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT) => {
            TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await
        }
        Err(error) => Err(error),
    }
}

/// "Address family not supported by protocol", errno(3).
const EAFNOSUPPORT: i32 = 97;

/// Secured connections of `listener`, at most `max` at a time, until `drain` begins.
pub fn secured(
    listener: TcpListener,
    (config, max): (Arc<ServerConfig>, usize),
    tasks: &Tasks,
    drain: Drain,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send + 'static {
    let (ready, connections) = mpsc::channel(WAITING_MAX);
    let handshakes = tasks.clone();
    tasks.spawn("accepting connections", async move {
        tokio::select! {
            () = accept(listener, TlsAcceptor::from(config), (&ready, max), &handshakes) => {}
            () = drain.draining() => {}
        }
    });
    Secured { connections }
}

struct Secured {
    connections: mpsc::Receiver<Connection>,
}

impl Stream for Secured {
    type Item = Result<Connection, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|next| next.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    (ready, max): (&mpsc::Sender<Connection>, usize),
    tasks: &Tasks,
) {
    let (all, places) = (Arc::new(Semaphore::new(max)), Arc::new(Semaphore::new(HANDSHAKES_MAX)));
    let mut pace = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    // Neither semaphore is ever closed.
    while let (Ok(one), Ok(place)) = (all.clone().acquire_owned().await, places.clone().acquire_owned().await) {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; trying again");
                tokio::time::sleep(pace.next_wait()).await;
                continue;
            }
        };
        pace.reset();
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tasks.spawn("TLS handshake", async move {
            match secure(stream, &acceptor, one).await {
                // Fails only when the server has ended.
                Ok(connection) => drop(ready.send(connection).await),
                Err(reason) => tracing::debug!(%peer, reason, "a TLS handshake failed"),
            }
            drop(place);
        });
    }
}

async fn secure(stream: TcpStream, acceptor: &TlsAcceptor, place: OwnedSemaphorePermit) -> Result<Connection, String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let handshake = within("the TLS handshake", HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = handshake.map_err(|late| late.to_string())?.map_err(|error| error.to_string())?;
    Ok(Connection { stream, _place: place })
}

/// A secured connection, as gRPC takes it.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    /// Given back when the connection ends.
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// A server's configuration under a new certificate, and a client's that trusts it.
    fn configs() -> (TlsAcceptor, TlsConnector) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let made = rcgen::generate_simple_self_signed(["here".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let server = server.expect("versions").with_no_client_auth();
        let server = server.with_single_cert(vec![made.cert.der().clone()], key).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
        (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
    }

    #[tokio::test]
    async fn a_connection_keeps_its_place_until_it_ends() {
        let (acceptor, connector) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let to = listener.local_addr().expect("bound");
        let (ready, mut connections) = mpsc::channel(4);
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let (handshakes, ending) = (tasks.clone(), drain.clone());
        tasks.spawn("accepting", async move {
            tokio::select! {
                () = accept(listener, acceptor, (&ready, 1), &handshakes) => {}
                () = ending.draining() => {}
            }
        });
        let connect = || async {
            let stream = TcpStream::connect(to).await.expect("connects");
            connector.connect(ServerName::try_from("here").expect("a name"), stream).await
        };
        let _client = connect().await.expect("secured");
        let first = connections.recv().await.expect("one");
        let mut second = Box::pin(connect());
        let early = within("no place yet", Duration::from_millis(200), &mut second).await;
        early.expect_err("the only place is taken");
        drop(first);
        within("a place", Duration::from_secs(20), second).await.expect("in time").expect("secured");
        drain.start();
    }
}
