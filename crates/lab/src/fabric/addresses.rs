//! Who has which address in a lab. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::usable;

/// The addresses of the service `kubernetes`; the API listens there.
pub const KUBERNETES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1))];
/// The addresses of the cluster's DNS.
pub const CLUSTER_DNS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 10))];

/// The domain of the cluster's names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A node, by its number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub number: u8,
}

impl Node {
    /// Its Kubernetes name.
    pub fn name(self) -> String {
        format!("node-{}", self.number)
    }

    /// Its zone: two nodes of a default lab lie in different ones.
    pub fn zone(self) -> String {
        format!("lab-zone-{}", (b'a' + (self.number - 1) % 26) as char)
    }

    /// Its addresses on the fabric, IPv4 first.
    pub fn addresses(self) -> Vec<IpNet> {
        on_fabric(self.number, u16::from(self.number))
    }

    /// The ranges its pods' addresses come from, IPv4 first.
    pub fn pods(self) -> Vec<IpNet> {
        let v4 = IpAddr::from([10, 244, self.number, 0]);
        let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(self.number), 0, 0, 0, 0);
        nets([(v4, 24), (v6.into(), 64)])
    }
}

/// The addresses of the lab itself on the fabric: the nodes' default gateway.
pub fn lab_addresses() -> Vec<IpNet> {
    on_fabric(254, 0xfe)
}

fn on_fabric(last: u8, last6: u16) -> Vec<IpNet> {
    let v4 = IpAddr::from([10, 99, 0, last]);
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x99, 0, 0, 0, 0, last6);
    nets([(v4, 24), (v6.into(), 64)])
}

fn nets(of: [(IpAddr, u8); 2]) -> Vec<IpNet> {
    let usable = of.into_iter().filter(|(address, _)| usable(*address));
    usable.filter_map(|(address, bits)| IpNet::new(address, bits).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_addresses_follow_from_its_number() {
        let node = Node { number: 2 };
        assert_eq!(node.addresses()[0].to_string(), "10.99.0.2/24");
        assert_eq!(node.pods()[0].to_string(), "10.244.2.0/24");
        assert_eq!((node.name().as_str(), node.zone().as_str()), ("node-2", "lab-zone-b"));
        if let Some(v6) = node.pods().get(1) {
            assert_eq!(v6.to_string(), "fd00:10:244:2::/64");
        }
    }
}
