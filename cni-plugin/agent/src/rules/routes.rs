//! Policy routes that bring the app's answers back to ztunnel.
//!
//! ztunnel calls the app under the client's address, over `lo`. The app's answers carry mark 0x111 (see `plan`); a
//! rule sends what carries it to a table where every address is local.
//!
//! In: a namespace and IP versions. Out: one rule and one route per version, there or gone; repeating changes nothing.

use std::{io, net::Ipv4Addr, net::Ipv6Addr, time::Duration};

use lateen_net::netns::{Netns, NetnsError};
use lateen_rt::deadline::{Elapsed, within};
use netlink_packet_route::{
    AddressFamily,
    route::{RouteMessage, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use nix::errno::Errno;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::Families;

const MARK: u32 = 0x111;
const MASK: u32 = 0xfff;
const PRIORITY: u32 = 32764;
const TABLE: u32 = 100;
/// `lo` has this index in every namespace.
const LOOPBACK: u32 = 1;
const NETLINK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why routes were not written.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// No netlink socket.
    #[error("cannot open a netlink socket in the pod: {0}")]
    Socket(#[source] io::Error),
    /// The kernel does not answer.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// The kernel closed the conversation.
    #[error("the netlink conversation ended early")]
    Closed,
    /// The kernel refused.
    #[error("the kernel refused to {act}: {source}")]
    Refused {
        /// What was asked.
        act: &'static str,
        /// Its answer.
        source: Box<rtnetlink::Error>,
    },
}

/// Adds what is missing. IPv6 is left out where the namespace has it switched off on `lo`.
pub async fn ensure(netns: &Netns, families: Families) -> Result<(), RouteError> {
    let v6 = families.v6() && loopback_has_ipv6(netns)?;
    conversation(netns, async |handle| {
        if families.v4() {
            add(&handle, AddressFamily::Inet, v4_route()).await?;
        }
        if v6 {
            add(&handle, AddressFamily::Inet6, v6_route()).await?;
        }
        Ok(())
    })
    .await
}

/// Removes what is there, of both versions.
pub async fn remove(netns: &Netns) -> Result<(), RouteError> {
    conversation(netns, async |handle| {
        for (family, route) in [(AddressFamily::Inet, v4_route()), (AddressFamily::Inet6, v6_route())] {
            let rule = handle.rule().del(rule_message(family)).execute().await;
            unless(rule, &GONE, "delete the rule for mark 0x111")?;
            unless(handle.route().del(route).execute().await, &GONE, "delete the route of table 100")?;
        }
        Ok(())
    })
    .await
}

/// What the kernel says when there is nothing to delete, or no such IP version.
const GONE: [Errno; 5] = [Errno::ENOENT, Errno::ESRCH, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP, Errno::ENODEV];

async fn add(handle: &Handle, family: AddressFamily, route: RouteMessage) -> Result<(), RouteError> {
    let mut request = handle.rule().add();
    *request.message_mut() = rule_message(family);
    unless(request.execute().await, &[Errno::EEXIST], "add the rule for mark 0x111")?;
    unless(handle.route().add(route).execute().await, &[Errno::EEXIST], "add the route of table 100")
}

/// `result`, with these answers of the kernel counted as done.
fn unless(result: Result<(), rtnetlink::Error>, fine: &[Errno], act: &'static str) -> Result<(), RouteError> {
    match result {
        Ok(()) => Ok(()),
        Err(rtnetlink::Error::NetlinkError(message))
            if fine.contains(&Errno::from_raw(message.raw_code().unsigned_abs().try_into().unwrap_or(0))) =>
        {
            Ok(())
        }
        Err(source) => Err(RouteError::Refused { act, source: Box::new(source) }),
    }
}

fn rule_message(family: AddressFamily) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.table = TABLE as u8;
    message.header.action = RuleAction::ToTable;
    message.attributes =
        vec![RuleAttribute::Priority(PRIORITY), RuleAttribute::FwMark(MARK), RuleAttribute::FwMask(MASK)];
    message
}

fn v4_route() -> RouteMessage {
    let every = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(Ipv4Addr::UNSPECIFIED, 0);
    every.kind(RouteType::Local).scope(RouteScope::Host).output_interface(LOOPBACK).table_id(TABLE).build()
}

fn v6_route() -> RouteMessage {
    let every = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(Ipv6Addr::UNSPECIFIED, 0);
    every.kind(RouteType::Local).scope(RouteScope::Universe).output_interface(LOOPBACK).table_id(TABLE).build()
}

fn loopback_has_ipv6(netns: &Netns) -> Result<bool, RouteError> {
    // Below /proc/sys/net one sees the namespace of the reading thread.
    let read = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    Ok(netns.run(read)?.is_ok_and(|text| text.trim() == "0"))
}

async fn conversation(
    netns: &Netns,
    talk: impl AsyncFnOnce(Handle) -> Result<(), RouteError>,
) -> Result<(), RouteError> {
    let (connection, handle, _) = netns.run(rtnetlink::new_connection)?.map_err(RouteError::Socket)?;
    let both = async {
        tokio::select! {
            () = connection => Err(RouteError::Closed),
            said = talk(handle) => said,
        }
    };
    within("talking to the kernel about routes", NETLINK_TIMEOUT, both).await?
}
