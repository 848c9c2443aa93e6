//! Every frame of a namespace, as it is on the wire. For tests and the demonstration.
//!
//! In: a namespace, an interface name. Out: frames, and what they say as TCP over IP.
//! Absent on purpose: filters, reassembly.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{LinkAddr, recvfrom},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{netns::Netns, watched::watch};

/// Larger than any frame with segmentation offload.
const FRAME_MAX: usize = 128 * 1024;
/// Room for bursts between two reads.
const KERNEL_BUFFER: usize = 8 * 1024 * 1024;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    fd: AsyncFd<OwnedFd>,
    interface: Option<usize>,
    frame: Vec<u8>,
}

/// The TCP part of a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct TcpSegment<'f> {
    /// Its sender.
    pub source: SocketAddr,
    /// Its receiver.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'f [u8],
}

impl Capture {
    /// Captures in `netns` (or the calling thread's), on one interface or on all. Needs CAP_NET_RAW and a runtime.
    pub fn open(netns: Option<&Netns>, interface: Option<&str>) -> io::Result<Self> {
        let open = || {
            // packet(7) wants the protocol in network order.
            let every = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(every))?;
            let index = interface.map(if_nametoindex).transpose()?;
            Ok((socket, index.map(|index| index as usize)))
        };
        let (socket, interface) = match netns {
            Some(netns) => netns.run(open).map_err(io::Error::other)?,
            None => open(),
        }
        .map_err(|error: io::Error| error)?;
        socket.set_recv_buffer_size(KERNEL_BUFFER)?;
        let fd = watch(OwnedFd::from(socket), Interest::READABLE)?;
        Ok(Self { fd, interface, frame: vec![0; FRAME_MAX] })
    }

    /// The next frame with its link-layer header. Safe to drop and call again.
    pub async fn next(&mut self) -> io::Result<&[u8]> {
        let frame = &mut self.frame;
        let interface = self.interface;
        let length = loop {
            let (length, index) = self.fd.async_io(Interest::READABLE, |fd| receive(fd.as_raw_fd(), frame)).await?;
            if interface.is_none_or(|wanted| index == Some(wanted)) {
                break length;
            }
        };
        Ok(&self.frame[..length])
    }
}

fn receive(fd: RawFd, into: &mut [u8]) -> io::Result<(usize, Option<usize>)> {
    let (length, from) = recvfrom::<LinkAddr>(fd, into)?;
    Ok((length.min(into.len()), from.map(|from| from.ifindex())))
}

const ETHERNET_LEN: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV6_LEN: usize = 40;
const TCP: u8 = 6;

/// Reads an Ethernet frame as TCP; `None` for everything else, IPv6 extension headers and later fragments included.
pub fn tcp_segment(frame: &[u8]) -> Option<TcpSegment<'_>> {
    let packet = frame.get(ETHERNET_LEN..)?;
    match u16_at(frame, 12)? {
        ETHERTYPE_IPV4 => ipv4(packet),
        ETHERTYPE_IPV6 => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<TcpSegment<'_>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let fragment_offset = u16_at(packet, 6)? & 0x1fff;
    if *packet.get(9)? != TCP || fragment_offset != 0 {
        return None;
    }
    let ip = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?)));
    let end = whole_length(packet, usize::from(u16_at(packet, 2)?));
    tcp(packet.get(header..end)?, ip(12)?, ip(16)?)
}

fn ipv6(packet: &[u8]) -> Option<TcpSegment<'_>> {
    if *packet.get(6)? != TCP {
        return None;
    }
    let ip = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?)));
    let payload = usize::from(u16_at(packet, 4)?);
    let end = whole_length(packet, if payload == 0 { 0 } else { IPV6_LEN + payload });
    tcp(packet.get(IPV6_LEN..end)?, ip(8)?, ip(24)?)
}

/// Short frames are padded, so the IP header's length counts; packets with segmentation offload say zero.
fn whole_length(packet: &[u8], said: usize) -> usize {
    if said == 0 { packet.len() } else { said.min(packet.len()) }
}

fn tcp(segment: &[u8], source: IpAddr, destination: IpAddr) -> Option<TcpSegment<'_>> {
    let header = usize::from(segment.get(12)? >> 4) * 4;
    Some(TcpSegment {
        source: SocketAddr::new(source, u16_at(segment, 0)?),
        destination: SocketAddr::new(destination, u16_at(segment, 2)?),
        payload: segment.get(header..)?,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(<[u8; 2]>::try_from(bytes.get(at..at + 2)?).ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lateen_rt::deadline::within;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::{
        dial::{self, DialOptions},
        listen::{self, ListenOptions},
    };

    #[tokio::test]
    async fn what_is_sent_is_seen() {
        let netns = Netns::create().expect("create");
        netns.loopback_up().expect("lo");
        let mut capture = Capture::open(Some(&netns), Some("lo")).expect("open");
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
            let listener = listen::tcp(addr.parse().expect("valid"), &options).expect("listen").socket;
            let to = listener.local_addr().expect("address");
            let dial = DialOptions { netns: Some(netns.clone()), ..DialOptions::default() };
            dial::tcp(to, &dial).await.expect("connect").write_all(b"in the clear").await.expect("write");
            let seen = async {
                loop {
                    let frame = capture.next().await.expect("frame");
                    match tcp_segment(frame) {
                        // `lo` shows each frame twice, going out and coming in.
                        Some(segment) if segment.destination == to && segment.payload == b"in the clear" => break,
                        Some(_) | None => {}
                    }
                }
            };
            within("the frame", Duration::from_secs(10), seen).await.expect("seen");
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let mut frame = vec![0_u8; 80];
        let mut state = 1_u64;
        for round in 0..20_000 {
            for byte in &mut frame {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            let kind = if round % 2 == 0 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            let next_header = if round % 2 == 0 { 14 + 9 } else { 14 + 6 };
            frame[next_header] = TCP;
            tcp_segment(&frame[..(round % 81)]);
        }
    }
}
