//! Bytes that nobody looks into: plain, inside TLS that ends here, and TLS that is passed on.

use std::sync::Arc;

use lateen_waypoint::book::Kind;
use lateen_wire::proxy;
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{
    logged,
    rig::{Authority, Pair, bytes, caller, door, ends, gateway, listener, listens, put, terminate, tls},
};
use crate::{
    endpoints::{Endpoint, raw},
    rig::{HOST, Rig, soon},
};

/// An endpoint that says who it is and repeats what it hears.
async fn parrot(rig: &Rig) -> Endpoint {
    raw(rig, |mut stream| async move {
        stream.write_all(b"parrot ").await.expect("write");
        let (mut from, mut to) = stream.split();
        drop(tokio::io::copy(&mut from, &mut to).await);
        drop(to.shutdown().await);
    })
    .await
}

async fn talk(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    stream.write_all(b"hello").await.expect("write");
    stream.shutdown().await.expect("a half-close");
    let mut heard = Vec::new();
    soon("the answer", stream.read_to_end(&mut heard)).await.expect("in good order");
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_port_for_bytes_passes_them_on() {
    let rig = gateway(vec![listener(proxy::listener::Kind::Tcp(bytes()))], logged());
    let parrot = parrot(&rig).await;
    rig.endpoints(&[parrot.addr]);
    let at = door(&rig);
    assert_eq!(talk(TcpStream::connect(at).await.expect("connect")).await, "parrot hello");
    let record = rig.record().await;
    assert!(record.contains(&format!("outbound|80||{HOST}")) && record.contains(" 5 12 "), "{record}");
    listens(&rig, vec![listener(proxy::listener::Kind::Tcp(proxy::TcpRoutes::default()))], logged());
    let mut stream = TcpStream::connect(at).await.expect("connect");
    soon("the end", stream.read_u8()).await.expect_err("no route leads anywhere");
}

#[tokio::test]
async fn tls_may_end_here_with_bytes_inside() {
    let authority = Authority::new("hosts");
    let then = Some(proxy::terminate::Then::Tcp(bytes()));
    let of = proxy::Terminate { then, ..ends("shop/a", &[]) };
    let rig = gateway(vec![tls(vec![("a.example.com", terminate(of))])], logged());
    put(&rig, Kind::Credential, "shop/a", &authority.host("a.example.com").credential());
    let parrot = parrot(&rig).await;
    rig.endpoints(&[parrot.addr]);
    let stream = caller(&authority).connect(door(&rig), "a.example.com").await.expect("connected");
    assert_eq!(talk(stream).await, "parrot hello");
    let record = rig.record().await;
    assert!(record.contains(" a.example.com "), "the record names the server: {record}");
}

fn server(pair: &Pair) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(pair.key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![pair.der.clone()], key)
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

/// Vector 7, beside a host whose TLS ends here.
#[tokio::test]
async fn tls_may_be_passed_on_by_server_name() {
    let authority = Authority::new("endpoints");
    let passed = proxy::tls_host::Then::Passthrough(bytes());
    let all = vec![("b.example.com", passed), ("*.example.com", terminate(ends("shop/any", &["*.example.com"])))];
    let rig = gateway(vec![tls(all)], logged());
    put(&rig, Kind::Credential, "shop/any", &authority.host("*.example.com").credential());
    let own = authority.host("b.example.com");
    let acceptor = server(&own);
    let endpoint = raw(&rig, move |stream| {
        let accepting = acceptor.accept(stream);
        async move {
            let mut stream = accepting.await.expect("shaken hands");
            stream.write_all(b"endpoint").await.expect("write");
            stream.shutdown().await.expect("closed");
        }
    })
    .await;
    rig.endpoints(&[endpoint.addr]);
    let at = door(&rig);
    let mut stream = caller(&authority).connect(at, "b.example.com").await.expect("connected");
    assert_eq!(stream.get_ref().1.peer_certificates().expect("a chain")[0], own.der, "the endpoint's own");
    let mut heard = String::new();
    soon("the answer", stream.read_to_string(&mut heard)).await.expect("in good order");
    assert_eq!(heard, "endpoint");
    drop(stream);
    let record = rig.record().await;
    assert!(record.contains(" b.example.com "), "{record}");
    let stream = caller(&authority).connect(at, "c.example.com").await.expect("connected");
    assert_ne!(stream.get_ref().1.peer_certificates().expect("a chain")[0], own.der, "it ends here");
    caller(&authority).connect(at, "example.org").await.expect_err("nobody is called so");
}

/// A client may send its ClientHello in pieces, and long after it has connected.
#[tokio::test]
async fn a_hello_in_pieces_is_passed_on_whole() {
    let passed = proxy::tls_host::Then::Passthrough(bytes());
    let rig = gateway(vec![tls(vec![("*", passed)])], proxy::Options::default());
    let parrot = parrot(&rig).await;
    rig.endpoints(&[parrot.addr]);
    let hello = hello("b.example.com");
    let mut stream = TcpStream::connect(door(&rig)).await.expect("connect");
    stream.set_nodelay(true).expect("no delay");
    for byte in &hello {
        stream.write_all(&[*byte]).await.expect("write");
    }
    stream.shutdown().await.expect("a half-close");
    let mut heard = Vec::new();
    soon("the answer", stream.read_to_end(&mut heard)).await.expect("in good order");
    assert_eq!(heard, [b"parrot ", &hello[..]].concat());
}

fn hello(name: &str) -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("in memory");
    bytes
}
