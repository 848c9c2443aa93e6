//! Applications in pods: servers that answer, clients that call.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lateen_net::{
    dial::{self, DialOptions},
    listen::{self, ListenOptions},
    netns::Netns,
};
use lateen_rt::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};

/// What a server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Sends back what it gets, and closes when its client does.
    Echo,
    /// Says `hello from the server` first, then as [`Manner::Echo`].
    ServerFirst,
    /// Reads all, then answers with the number of bytes, then closes.
    Count,
    /// Reads some bytes, sends [`BEFORE_RESET`], then resets.
    Reset,
}

/// What a server sends that then resets.
pub const BEFORE_RESET: &[u8] = b"half of an answ";

/// A server; it ends with its tasks' runtime.
pub struct Server {
    /// The addresses of its clients, in order.
    pub peers: mpsc::Receiver<SocketAddr>,
}

/// Listens in a pod on both families.
pub fn serve(tasks: &Tasks, netns: &Netns, port: u16, manner: Manner) -> Server {
    let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
    let any = SocketAddr::from(([0_u16; 8], port));
    let listener = listen::tcp(any, &options).expect("listen").socket;
    let (seen, peers) = mpsc::channel(1024);
    let of = tasks.clone();
    tasks.spawn("test-server", async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            if seen.send(peer).await.is_err() {
                return;
            }
            of.spawn("test-connection", async move {
                // A client that resets is a test's business, not the server's.
                drop(answer(stream, manner).await);
            });
        }
    });
    Server { peers }
}

/// A listener that accepts nothing by itself.
pub fn listener(netns: &Netns, port: u16) -> TcpListener {
    let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
    listen::tcp(SocketAddr::from(([0_u16; 8], port)), &options).expect("listen").socket
}

async fn answer(mut stream: TcpStream, manner: Manner) -> io::Result<()> {
    match manner {
        Manner::Echo => echo(&mut stream).await,
        Manner::ServerFirst => {
            stream.write_all(b"hello from the server").await?;
            echo(&mut stream).await
        }
        Manner::Count => {
            let (mut total, mut buffer) = (0, vec![0; 64 * 1024]);
            loop {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    read => total += read,
                }
            }
            stream.write_all(total.to_string().as_bytes()).await
        }
        Manner::Reset => {
            let mut buffer = [0; 16];
            let _read = stream.read(&mut buffer).await?;
            stream.write_all(BEFORE_RESET).await?;
            nix::sys::socket::setsockopt(
                &stream,
                nix::sys::socket::sockopt::Linger,
                &nix::libc::linger { l_onoff: 1, l_linger: 0 },
            )?;
            Ok(())
        }
    }
}

async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

/// Connects from a pod.
pub async fn connect(netns: &Netns, to: &str) -> io::Result<TcpStream> {
    let options = DialOptions { netns: Some(netns.clone()), timeout: Duration::from_secs(5), ..DialOptions::default() };
    dial::tcp(to.parse().expect("an address"), &options).await.map_err(|error| io::Error::other(error.to_string()))
}

/// Sends `text`, closes the sending half, and returns everything that comes back.
pub async fn call(netns: &Netns, to: &str, text: &str) -> io::Result<String> {
    let mut stream = connect(netns, to).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    match tokio::time::timeout(Duration::from_secs(20), reading).await {
        Ok(read) => read.map(|_| answer),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no end of the answer within 20 s")),
    }
}

/// Connects, says nothing, and expects to be refused as by a host where nobody listens: by a reset. A client that waits for
/// the server's first word would take an orderly end for an answer that is empty.
pub async fn is_reset(netns: &Netns, to: &str) {
    let to: SocketAddr = to.parse().expect("an address");
    let make = if to.is_ipv4() { TcpSocket::new_v4 } else { TcpSocket::new_v6 };
    let socket = netns.run(make).expect("enter").expect("a socket");
    let listen = async { socket.connect(to).await?.read_u8().await };
    let heard = tokio::time::timeout(Duration::from_secs(20), listen).await.expect("an end within 20 s");
    assert_eq!(heard.expect_err("nothing was said").kind(), io::ErrorKind::ConnectionReset, "{to}");
}

/// Writes and expects exactly the same back, on a connection that stays open.
pub async fn ping(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut back = [0; 4];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut back)).await??;
    assert_eq!(&back, b"ping");
    Ok(())
}

/// Returns once the connection, on which pings were answered, is cut: by a reset, since a cut one must not look complete.
pub async fn is_cut(stream: &mut TcpStream) {
    let cut = async {
        loop {
            if let Err(error) = ping(stream).await {
                return error.kind();
            }
        }
    };
    let kind = tokio::time::timeout(Duration::from_secs(20), cut).await.expect("the connection is cut");
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
}

impl Server {
    /// The address of the next client.
    pub async fn next_peer(&mut self) -> IpAddr {
        let next = tokio::time::timeout(Duration::from_secs(10), self.peers.recv()).await;
        next.expect("a client within 10 s").expect("the server runs").ip()
    }
}
