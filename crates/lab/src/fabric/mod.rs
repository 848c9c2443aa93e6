//! The wires of a lab: one bridge, a namespace per node, routes between them.
//!
//! In: how many nodes. Out: a network namespace per node, in which every other node, its pods and the API are reachable.
//!
//! ```text
//!  lab's own namespace                         node 1                        pod
//!  fabric (bridge) 10.99.0.254 ── node1 ═══ eth0 10.99.0.1 ─ v… 10.244.1.1 ═══ eth0 10.244.1.2
//!   also 10.96.0.1 (API), 10.96.0.10 (DNS)
//! ```

pub mod addresses;
pub mod links;

use std::{fs, io, net::IpAddr, os::fd::AsFd as _};

use ipnet::IpNet;
use lateen_net::netns::{Netns, NetnsError};
use lateen_rt::tasks::Tasks;

use addresses::{CLUSTER_DNS, KUBERNETES, Node, lab_addresses};
use links::{LinkError, Links};

/// Why the fabric could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// A namespace could not be made or entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A link, an address or a route.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A kernel setting.
    #[error("setting {name} to {value}: {source}")]
    Setting {
        /// The file below `/proc/sys`.
        name: String,
        /// What was written.
        value: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

const BRIDGE: &str = "fabric";

/// Makes the fabric in the calling process's namespace, and the nodes' namespaces.
pub async fn build(nodes: u8, tasks: &Tasks) -> Result<Vec<Netns>, FabricError> {
    let here = Netns::current()?;
    forward(&here)?;
    here.loopback_up()?;
    let links = Links::of(&here, tasks)?;
    let bridge = links.bridge(BRIDGE).await?;
    links.up(bridge).await?;
    for address in lab_addresses() {
        links.address(bridge, address).await?;
    }
    for service in KUBERNETES.into_iter().chain(CLUSTER_DNS) {
        links.address(bridge, IpNet::from(service)).await?;
    }
    let mut made = Vec::new();
    for number in 1..=nodes {
        let node = Node { number };
        made.push(attach(&links, bridge, node, tasks).await?);
        for (pods, via) in node.pods().into_iter().zip(node.addresses()) {
            links.route(pods, via.addr(), bridge).await?;
        }
    }
    for (netns, number) in made.iter().zip(1..) {
        let others = (1..=nodes).filter(|other| *other != number).map(|number| Node { number });
        route(netns, others, tasks).await?;
    }
    Ok(made)
}

/// The bridge's end of a node's wire, in the lab's own namespace: all that enters and leaves the node passes it.
pub(crate) fn wire_of(node: u8) -> String {
    format!("node{node}")
}

/// One node's namespace with its wire to the bridge.
async fn attach(links: &Links, bridge: u32, node: Node, tasks: &Tasks) -> Result<Netns, FabricError> {
    let netns = Netns::create()?;
    forward(&netns)?;
    netns.loopback_up()?;
    let (ours, theirs) = (wire_of(node.number), format!("wire{}", node.number));
    let (port, wire) = links.veth(&ours, &theirs).await?;
    links.enslave(port, bridge).await?;
    links.up(port).await?;
    links.give(wire, "eth0", netns.as_fd()).await?;
    let inside = Links::of(&netns, tasks)?;
    let wire = inside.index("eth0").await?;
    inside.up(wire).await?;
    for address in node.addresses() {
        inside.address(wire, address).await?;
    }
    for lab in lab_addresses() {
        inside.default_route(lab.addr(), wire).await?;
    }
    Ok(netns)
}

/// Routes to the other nodes' pods.
async fn route(netns: &Netns, others: impl Iterator<Item = Node>, tasks: &Tasks) -> Result<(), FabricError> {
    let links = Links::of(netns, tasks)?;
    let wire = links.index("eth0").await?;
    for other in others {
        for (pods, via) in other.pods().into_iter().zip(other.addresses()) {
            links.route(pods, via.addr(), wire).await?;
        }
    }
    Ok(())
}

/// Makes a namespace forward packets, as a node does.
fn forward(netns: &Netns) -> Result<(), FabricError> {
    settle(netns)?;
    set(netns, "net/ipv4/ip_forward", "1")?;
    if has_ipv6() {
        set(netns, "net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Settings every namespace of the lab gets: addresses are usable at once, and replies may take another way in.
pub(crate) fn settle(netns: &Netns) -> Result<(), FabricError> {
    for which in ["all", "default"] {
        set(netns, &format!("net/ipv4/conf/{which}/rp_filter"), "0")?;
        if has_ipv6() {
            set(netns, &format!("net/ipv6/conf/{which}/accept_dad"), "0")?;
        }
    }
    Ok(())
}

fn set(netns: &Netns, name: &str, value: &'static str) -> Result<(), FabricError> {
    let written = netns.run(|| fs::write(format!("/proc/sys/{name}"), value))?;
    written.map_err(|source| FabricError::Setting { name: name.to_owned(), value, source })
}

/// Whether this kernel speaks IPv6; without it the lab is IPv4 only.
pub(crate) fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6").unwrap_or(false)
}

/// Whether an address can be used here.
pub(crate) fn usable(address: IpAddr) -> bool {
    address.is_ipv4() || has_ipv6()
}
