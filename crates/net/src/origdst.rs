//! Where a redirected connection was going.
//!
//! In: an accepted TCP stream. Out: the destination its client dialled, as a plain address.
//! Absent on purpose: installing redirections (the node agent does).

use std::{io, net::SocketAddr};

use lateen_types::addr::{OrigDst, canonical};
use socket2::SockRef;
use tokio::net::TcpStream;

/// The original destination: what conntrack remembers, or the socket's own address when nothing was redirected.
pub fn original_dst(stream: &TcpStream) -> io::Result<OrigDst> {
    let local = canonical(stream.local_addr()?);
    let socket = SockRef::from(stream);
    // A dual-stack socket answers for IPv4 connections at the IPv4 level only.
    let asked = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    Ok(OrigDst::new(asked.ok().and_then(|address| address.as_socket()).unwrap_or(local)))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::{
        dial::{self, DialOptions},
        listen::{self, ListenOptions},
        netns::Netns,
    };

    const REDIRECT: &str = "table inet t { chain out { type nat hook output priority -100; \
        tcp dport 80 redirect to :15001; }; }";

    #[tokio::test]
    async fn redirected_connections_tell_what_was_dialled() {
        let netns = Netns::create().expect("create");
        netns.loopback_up().expect("lo");
        let mut nft = Command::new("nft");
        let mut nft =
            netns.spawn(nft.args(["-f", "-"]).stdin(Stdio::piped())).expect("enter").expect("nft is installed");
        nft.stdin.take().expect("piped").write_all(REDIRECT.as_bytes()).expect("write");
        assert!(nft.wait().expect("wait").success());

        let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
        let listener = listen::tcp("[::]:15001".parse().expect("valid"), &options).expect("listen").socket;
        let dial = DialOptions { netns: Some(netns), ..DialOptions::default() };
        for to in ["127.0.0.7:80", "[::1]:80", "127.0.0.1:15001", "[::1]:15001"] {
            let to: SocketAddr = to.parse().expect("valid");
            let _client = dial::tcp(to, &dial).await.expect("connect");
            let (stream, _) = listener.accept().await.expect("accept");
            assert_eq!(original_dst(&stream).expect("read").get(), to);
        }
    }
}
