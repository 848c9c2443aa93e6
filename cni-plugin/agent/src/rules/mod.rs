//! Redirection rules: a pod's own, and the node's for its probes.
//!
//! In: [`PodOptions`], addresses. Out: rule text ([`plan`], [`host`], both pure) and its presence in a namespace
//! ([`apply`]). Absent on purpose: which pods, and when.

use std::net::{Ipv4Addr, Ipv6Addr};

pub mod apply;
mod handover;
pub mod host;
pub mod overrides;
pub mod plan;
mod ports;
mod reuse;
mod routes;
pub mod sysctl;

pub use lateen_net::nft::NftError;
pub use routes::RouteError;

/// The IP versions that are captured; the other is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Both,
}

impl Families {
    /// Whether IPv4 is captured.
    pub fn v4(self) -> bool {
        matches!(self, Self::V4 | Self::Both)
    }

    /// Whether IPv6 is captured.
    pub fn v6(self) -> bool {
        matches!(self, Self::V6 | Self::Both)
    }
}

/// What is done with the pod's DNS questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DnsCapture {
    /// ztunnel answers them.
    On,
    /// They go where the pod sends them.
    Off,
}

/// What is done with plain connections to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboundCapture {
    /// They go through ztunnel.
    On,
    /// "Ingress mode": they reach the pod untouched; tunnels still end at ztunnel.
    Off,
}

/// The source addresses of the node's probes, which are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProbeAddresses {
    /// For IPv4.
    pub v4: Ipv4Addr,
    /// For IPv6.
    pub v6: Ipv6Addr,
}

impl Default for ProbeAddresses {
    /// Istio's, so that either agent's rules let the other's probes through.
    fn default() -> Self {
        Self {
            v4: Ipv4Addr::new(169, 254, 7, 127),
            v6: Ipv6Addr::new(0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff),
        }
    }
}

/// The name of a network interface, safe to write into a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks `text`: what Linux allows, without what means something in rules (quotes, `*`, spaces).
    pub fn parse(text: &str) -> Option<Self> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "_-.:@".contains(c);
        let valid = (1..=15).contains(&text.len()) && text != "." && text != ".." && text.chars().all(fine);
        valid.then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Everything that shapes a pod's rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodOptions {
    /// Which IP versions.
    pub families: Families,
    /// DNS questions.
    pub dns: DnsCapture,
    /// Plain connections to the pod.
    pub inbound: InboundCapture,
    /// Interfaces whose incoming traffic is the pod's outgoing traffic (virtual machines, nested containers).
    pub virtual_interfaces: Vec<InterfaceName>,
    /// Who probes.
    pub probes: ProbeAddresses,
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            families: Families::Both,
            dns: DnsCapture::On,
            inbound: InboundCapture::On,
            virtual_interfaces: Vec::new(),
            probes: ProbeAddresses::default(),
        }
    }
}
