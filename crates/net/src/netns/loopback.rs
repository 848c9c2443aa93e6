//! Brings up `lo` of the calling thread's namespace by one rtnetlink message.
//!
//! In: nothing. Out: the kernel's acknowledgement. Absent on purpose: every other link change; rtnetlink does those.

use std::{io, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// `lo` has this index in every namespace.
const LO_INDEX: i32 = 1;
/// `struct nlmsghdr` and `struct ifinfomsg` are 16 bytes each (rtnetlink(7)).
const MESSAGE_LEN: u32 = 32;
const FLAGS: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;

/// Sets IFF_UP on `lo`.
pub fn up() -> io::Result<()> {
    let kind = SockType::Raw;
    let netlink = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(netlink.as_raw_fd(), &set_up_message(), MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    acknowledged(&answer[..length])
}

fn set_up_message() -> Vec<u8> {
    let up = libc::IFF_UP.cast_unsigned();
    let mut message = Vec::with_capacity(MESSAGE_LEN as usize);
    message.extend(MESSAGE_LEN.to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence number and sender, which one request and one answer need not tell apart.
    message.extend([0; 8]);
    // Family, padding and device type.
    message.extend([0; 4]);
    message.extend(LO_INDEX.to_ne_bytes());
    message.extend(up.to_ne_bytes());
    // The mask of flags to change.
    message.extend(up.to_ne_bytes());
    message
}

/// The answer is NLMSG_ERROR with the error number, negated, after the header; zero is success.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let short = || io::Error::other("the answer to a netlink request is too short");
    let errno = answer.get(16..20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).ok_or_else(short)?;
    match i32::from_ne_bytes(errno) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
    }
}
