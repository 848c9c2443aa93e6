//! Messages with at most one descriptor, over Unix sockets that keep message borders (SOCK_SEQPACKET).
//!
//! In: a path, messages. Out: whole messages with their descriptor, or an error that names what was wrong.
//! Absent on purpose: what the messages mean, and reconnecting.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, listen, recvmsg, sendmsg, socket,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::watched::watch;

/// The longest message either side sends or takes.
pub const MESSAGE_MAX: usize = 1024;
/// The kernel passes at most this many descriptors in one message (SCM_MAX_FD). With room for all of them no
/// descriptor is lost, so each surplus one can be closed.
const DESCRIPTORS_MAX: usize = 253;

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The descriptor that came with it.
    pub descriptor: Option<OwnedFd>,
}

/// Why a message was not sent or not taken.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The message is longer than [`MESSAGE_MAX`]; what arrived of it was thrown away.
    #[error("the message has more than {MESSAGE_MAX} bytes; both sides must keep to {MESSAGE_MAX}")]
    TooLong,
    /// More than one descriptor; all were closed.
    #[error("the message carries {0} descriptors; at most one is allowed")]
    TooManyDescriptors(usize),
    /// The kernel could not pass all control data.
    #[error("the message's control data was cut")]
    ControlTruncated,
}

/// A listening socket.
#[derive(Debug)]
pub struct SeqpacketListener {
    fd: AsyncFd<OwnedFd>,
}

/// A connected socket. One message at a time each way; both directions may be used at once.
#[derive(Debug)]
pub struct SeqpacketStream {
    fd: AsyncFd<OwnedFd>,
}

fn unconnected() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?)
}

impl SeqpacketListener {
    /// Listens at `path`. A file left there is the caller's to remove. Must be called on a runtime.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let fd = unconnected()?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path.as_ref())?)?;
        listen(&fd, Backlog::new(16)?)?;
        Ok(Self { fd: watch(fd, Interest::READABLE)? })
    }

    /// The next connection. Safe to drop and call again.
    pub async fn accept(&self) -> io::Result<SeqpacketStream> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let accepted = self.fd.async_io(Interest::READABLE, |fd| Ok(accept4(fd.as_raw_fd(), flags)?)).await?;
        SeqpacketStream::of(own(accepted))
    }
}

impl SeqpacketStream {
    /// Connects to `path`. Must be called on a runtime.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let fd = unconnected()?;
        // Connecting a Unix socket never waits: it succeeds, or fails at once (also when the backlog is full).
        connect(fd.as_raw_fd(), &UnixAddr::new(path.as_ref())?)?;
        Self::of(fd)
    }

    fn of(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watch(fd, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// The user who connected (or listens), as the kernel recorded it at that moment.
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(nix::sys::socket::getsockopt(&self.fd, nix::sys::socket::sockopt::PeerCredentials)?.uid())
    }

    /// Sends one message. Safe to drop: the message is sent whole or not at all.
    pub async fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), MessageError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(MessageError::TooLong);
        }
        let descriptors: Vec<RawFd> = descriptor.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(bytes)];
        let put = |fd: &OwnedFd| Ok(sendmsg::<()>(fd.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?);
        self.fd.async_io(Interest::WRITABLE, put).await?;
        Ok(())
    }

    /// The next message; `None` once the peer has closed. Safe to drop: a message is taken whole or not at all.
    pub async fn recv(&self) -> Result<Option<Message>, MessageError> {
        self.fd.async_io(Interest::READABLE, |fd| receive(fd.as_raw_fd())).await?
    }
}

/// The outer result is the socket's (and may be "not yet"), the inner one is the message's.
fn receive(fd: RawFd) -> io::Result<Result<Option<Message>, MessageError>> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let received = recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let (length, flags) = (received.bytes, received.flags);
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    if let Ok(messages) = received.cmsgs() {
        for message in messages {
            if let ControlMessageOwned::ScmRights(passed) = message {
                descriptors.extend(passed.into_iter().map(own));
            }
        }
    }
    Ok(checked(length, flags, descriptors).map(|kept| {
        kept.map(|descriptor| {
            bytes.truncate(length);
            Message { bytes, descriptor }
        })
    }))
}

/// Nothing for the end of the stream, else the one descriptor that may have come.
fn checked(
    length: usize,
    flags: MsgFlags,
    mut descriptors: Vec<OwnedFd>,
) -> Result<Option<Option<OwnedFd>>, MessageError> {
    if flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(MessageError::ControlTruncated);
    }
    if flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(MessageError::TooLong);
    }
    if descriptors.len() > 1 {
        return Err(MessageError::TooManyDescriptors(descriptors.len()));
    }
    // No protocol of ours has empty messages, so an empty read is the end of the stream.
    Ok((length > 0).then(|| descriptors.pop()))
}

#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller passes a number that accept4(2) or recvmsg(2) has just installed for us, and passes it once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::netns::Netns;

    async fn pair() -> (SeqpacketStream, SeqpacketStream, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("socket");
        let listener = SeqpacketListener::bind(&path).expect("bind");
        let client = SeqpacketStream::connect(&path).expect("connect");
        (client, listener.accept().await.expect("accept"), directory)
    }

    #[tokio::test]
    async fn borders_and_descriptors_are_kept() {
        let (client, server, _directory) = pair().await;
        let netns = Netns::create().expect("create");
        client.send(b"one", None).await.expect("send");
        client.send(b"two", Some(netns.as_fd())).await.expect("send");
        client.send(&[7; MESSAGE_MAX], None).await.expect("send");
        let one = server.recv().await.expect("receive").expect("open");
        assert_eq!((one.bytes.as_slice(), one.descriptor.is_none()), (b"one".as_slice(), true));
        let two = server.recv().await.expect("receive").expect("open");
        assert_eq!(two.bytes, b"two");
        let same = Netns::from_fd(two.descriptor.expect("a descriptor")).expect("a namespace");
        assert_eq!(same.id(), netns.id());
        assert_eq!(server.recv().await.expect("receive").expect("open").bytes.len(), MESSAGE_MAX);
        drop(client);
        assert!(server.recv().await.expect("receive").is_none());
    }

    #[tokio::test]
    async fn long_messages_are_refused_on_both_sides() {
        let (client, server, _directory) = pair().await;
        assert!(matches!(client.send(&[0; MESSAGE_MAX + 1], None).await, Err(MessageError::TooLong)));
        nix::sys::socket::send(client.fd.as_raw_fd(), &[0; MESSAGE_MAX + 1], MsgFlags::empty()).expect("send");
        assert!(matches!(server.recv().await, Err(MessageError::TooLong)));
        client.send(b"after", None).await.expect("send");
        assert_eq!(server.recv().await.expect("receive").expect("open").bytes, b"after");
    }

    #[tokio::test]
    async fn surplus_descriptors_are_closed() {
        let (client, server, _directory) = pair().await;
        let (watched, far) = nix::unistd::pipe().expect("pipe");
        let numbers = [far.as_raw_fd(), far.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(client.fd.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).expect("send");
        assert!(matches!(server.recv().await, Err(MessageError::TooManyDescriptors(2))));
        drop(far);
        // The pipe reads as ended only if no copy of its far end is left open.
        assert_eq!(nix::unistd::read(&watched, &mut [0]).expect("read"), 0);
    }
}
