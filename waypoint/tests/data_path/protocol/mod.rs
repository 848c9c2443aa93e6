//! The rules of l7-protocol that concern whole messages, one by one; `tests/l7-protocol.txt` names the test of each.

mod answers;
mod special;
mod told;
mod versions;

use lateen_waypoint::book::Protocol;
use lateen_wire::proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    endpoints::{Endpoint, echoing, http, raw},
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, LINE, Peer, block, frame},
    rig::{HOST, Rig, Service, cluster, forward, id, soon, until},
};

/// Reads a head, byte by byte, so that nothing of what follows is taken.
async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match soon("a head", stream.read_u8()).await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// An endpoint that says this to each request, and closes where that is part of it.
async fn saying(rig: &Rig, answer: &'static [u8], then_closes: bool) -> Endpoint {
    raw(rig, move |mut stream| async move {
        while !head(&mut stream).await.is_empty() {
            stream.write_all(answer).await.expect("write");
            if then_closes {
                return;
            }
        }
    })
    .await
}

/// A service that echoes.
async fn echo(of: Service) -> Rig {
    let rig = Rig::serving(of, &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    rig
}

/// A request that is the last of its connection.
fn get(more: &str) -> Vec<u8> {
    format!("GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n").into_bytes()
}

/// The same by a member of the mesh.
async fn exchange_as_member(rig: &Rig, bytes: &[u8]) -> String {
    let mut client = rig.connect_as(Protocol::Http, Some(id("client"))).await;
    client.write_all(bytes).await.expect("write");
    let mut answer = Vec::new();
    let _end = soon("the answer", client.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The data that answers this request of HTTP/2.
async fn data(rig: &Rig, more: &[(&str, &str)]) -> String {
    let mut peer = Peer::begin(rig).await;
    let asks = block(&[&LINE, more].concat());
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &asks)).await;
    let mut text = Vec::new();
    while let Some((kind, flags, payload)) = peer.next().await {
        if kind == DATA {
            text.extend(payload);
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Records of this form are written.
fn logging(format: &str) -> proxy::Options {
    let encoding = proxy::access_log::Encoding::Text.into();
    proxy::Options {
        access_log: Some(proxy::AccessLog { encoding, format: format.to_owned() }),
        ..proxy::Options::default()
    }
}
