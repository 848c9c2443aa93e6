//! Links, addresses and routes of one network namespace, over rtnetlink.
//!
//! In: names, indices, addresses. Out: the kernel's answer with what it was about.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use futures::{FutureExt as _, StreamExt as _};
use ipnet::IpNet;
use lateen_net::netns::{Netns, NetnsError};
use lateen_rt::tasks::Tasks;
use netlink_packet_route::{
    address::AddressFlags,
    link::LinkAttribute,
    route::{RouteMessage, RouteScope},
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::usable;

/// A change the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// No netlink socket.
    #[error("opening a netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The kernel said no.
    #[error("{what}: {source}")]
    Refused {
        /// What was tried.
        what: String,
        /// Its answer.
        source: Box<rtnetlink::Error>,
    },
    /// There is no such link.
    #[error("there is no network interface {0}")]
    Absent(String),
    /// A prefix that is none.
    #[error("the route to {0} has impossible parts")]
    Route(IpNet),
}

/// The links of one namespace.
#[derive(Debug, Clone)]
pub struct Links {
    handle: Handle,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy)]
enum Hop {
    /// The destination is on the link itself.
    OnLink,
    /// A neighbour on the link.
    Via(IpAddr),
}

impl Links {
    /// The links of `netns`; the socket's task belongs to `tasks`.
    pub fn of(netns: &Netns, tasks: &Tasks) -> Result<Self, LinkError> {
        let (connection, handle, _) = netns.run(rtnetlink::new_connection)?.map_err(LinkError::Socket)?;
        tasks.spawn("netlink", connection.map(|_| ()));
        Ok(Self { handle })
    }

    /// The index of the link called `name`.
    pub async fn index(&self, name: &str) -> Result<u32, LinkError> {
        self.find(name).await?.ok_or_else(|| LinkError::Absent(name.to_owned()))
    }

    /// The index of the link called `name`, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<u32>, LinkError> {
        let mut found = Box::pin(self.handle.link().get().match_name(name.to_owned()).execute());
        match found.next().await {
            Some(Ok(link)) => Ok(Some(link.header.index)),
            None => Ok(None),
            Some(Err(rtnetlink::Error::NetlinkError(error))) if error.raw_code() == -nix::libc::ENODEV => Ok(None),
            Some(Err(error)) => Err(refused(format!("looking for the interface {name}"), error)),
        }
    }

    /// The hardware address of link `index`, as text.
    pub async fn hardware_address(&self, index: u32) -> Result<String, LinkError> {
        let mut found = Box::pin(self.handle.link().get().match_index(index).execute());
        let link = found.next().await.ok_or_else(|| LinkError::Absent(format!("number {index}")))?;
        let link = link.map_err(|error| refused(format!("looking at interface number {index}"), error))?;
        let bytes = link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => Some(bytes),
            _ => None,
        });
        let parts: Vec<String> = bytes.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(parts.join(":"))
    }

    /// Makes a bridge.
    pub async fn bridge(&self, name: &str) -> Result<u32, LinkError> {
        let made = self.handle.link().add(LinkBridge::new(name).build()).execute().await;
        made.map_err(|error| refused(format!("making the bridge {name}"), error))?;
        self.index(name).await
    }

    /// Makes a wire with two ends; their indices.
    pub async fn veth(&self, one: &str, other: &str) -> Result<(u32, u32), LinkError> {
        let made = self.handle.link().add(LinkVeth::new(one, other).build()).execute().await;
        made.map_err(|error| refused(format!("making the veth pair {one}, {other}"), error))?;
        Ok((self.index(one).await?, self.index(other).await?))
    }

    /// Brings a link up.
    pub async fn up(&self, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| refused(format!("bringing up interface number {index}"), error))
    }

    /// Puts a link on a bridge.
    pub async fn enslave(&self, index: u32, bridge: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).controller(bridge).build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| refused(format!("putting interface number {index} on the bridge"), error))
    }

    /// Moves a link into another namespace, where it is called `name`.
    pub async fn give(&self, index: u32, name: &str, to: BorrowedFd<'_>) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).name(name).setns_by_fd(to.as_raw_fd()).build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| refused(format!("moving interface number {index} as {name}"), error))
    }

    /// Removes a link (with its other end, if it is a wire).
    pub async fn remove(&self, index: u32) -> Result<(), LinkError> {
        let gone = self.handle.link().del(index).execute().await;
        gone.map_err(|error| refused(format!("removing interface number {index}"), error))
    }

    /// Gives a link an address that is usable at once. IPv6 is left out where the kernel has none.
    pub async fn address(&self, index: u32, address: IpNet) -> Result<(), LinkError> {
        if !usable(address.addr()) {
            return Ok(());
        }
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= netlink_packet_route::address::AddressHeaderFlags::Nodad;
            message.attributes.push(netlink_packet_route::address::AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.map_err(|error| refused(format!("adding the address {address}"), error))
    }

    /// A route through a neighbour.
    pub async fn route(&self, to: IpNet, via: IpAddr, index: u32) -> Result<(), LinkError> {
        self.add_route(to, Hop::Via(via), index).await
    }

    /// A route to what is on the link.
    pub async fn link_route(&self, to: IpNet, index: u32) -> Result<(), LinkError> {
        self.add_route(to, Hop::OnLink, index).await
    }

    /// The default route of `via`'s family.
    pub async fn default_route(&self, via: IpAddr, index: u32) -> Result<(), LinkError> {
        let all = if via.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
        let all = IpNet::new(all, 0).map_err(|_| LinkError::Route(IpNet::from(via)))?;
        self.add_route(all, Hop::Via(via), index).await
    }

    async fn add_route(&self, to: IpNet, hop: Hop, index: u32) -> Result<(), LinkError> {
        if !usable(to.addr()) {
            return Ok(());
        }
        let message = route_message(to, hop, index).ok_or(LinkError::Route(to))?;
        let added = self.handle.route().add(message).execute().await;
        added.map_err(|error| refused(format!("adding the route to {to}"), error))
    }
}

fn route_message(to: IpNet, hop: Hop, index: u32) -> Option<RouteMessage> {
    let route = RouteMessageBuilder::<IpAddr>::new().output_interface(index);
    let route = route.destination_prefix(to.network(), to.prefix_len()).ok()?;
    Some(match hop {
        Hop::Via(via) => route.gateway(via).ok()?.build(),
        Hop::OnLink => route.scope(RouteScope::Link).build(),
    })
}

fn refused(what: String, source: rtnetlink::Error) -> LinkError {
    LinkError::Refused { what, source: Box::new(source) }
}
