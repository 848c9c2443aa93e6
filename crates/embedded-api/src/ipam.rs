//! Free addresses and ports of the service ranges.
//!
//! In: a range and what is taken. Out: one that is free.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    str::FromStr,
};

/// The ports services of type NodePort may have.
pub const NODE_PORTS: RangeInclusive<i64> = 30000..=32767;

/// How many addresses at the start of a range are kept for those who ask by address (API server, DNS).
const RESERVED: u128 = 16;

/// A network: address and prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: IpAddr,
    prefix: u8,
}

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network in CIDR notation, such as 10.96.0.0/16")]
pub struct BadRange(String);

impl Range {
    fn bits(address: IpAddr) -> (u128, u8) {
        match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        }
    }

    fn host_bits(&self) -> u32 {
        u32::from(Self::bits(self.base).1 - self.prefix)
    }

    /// The address `offset` above the network's own.
    pub fn at(&self, offset: u128) -> IpAddr {
        let (bits, _) = Self::bits(self.base);
        match self.base {
            IpAddr::V4(_) => Ipv4Addr::from((bits + offset) as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(bits + offset).into(),
        }
    }

    /// Whether the address lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((mine, width), (other, other_width)) = (Self::bits(self.base), Self::bits(address));
        width == other_width && (self.host_bits() >= 128 || mine >> self.host_bits() == other >> self.host_bits())
    }

    /// How many addresses may be given, at most 65536.
    fn size(&self) -> u128 {
        1u128 << self.host_bits().min(16)
    }
}

impl FromStr for Range {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = || BadRange(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let (bits, width) = Self::bits(address);
        if prefix > width {
            return Err(bad());
        }
        let host = u32::from(width - prefix);
        let base = if host >= 128 { 0 } else { bits >> host << host };
        let zero = Self {
            base: if width == 32 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
            prefix,
        };
        Ok(Self { base: zero.at(base), prefix })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// A free address, the lowest beyond the reserved ones first; the reserved ones are never given.
pub fn free_address(range: Range, taken: &HashSet<IpAddr>) -> Option<IpAddr> {
    let reserved = RESERVED.min(range.size() / 4);
    (reserved + 1..range.size().saturating_sub(1))
        .map(|offset| range.at(offset))
        .find(|address| !taken.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_parse_contain_and_give() {
        let range: Range = "10.96.0.7/16".parse().expect("a range");
        assert_eq!(range.to_string(), "10.96.0.0/16");
        assert!(
            range.contains("10.96.255.1".parse().expect("ip")) && !range.contains("10.97.0.1".parse().expect("ip"))
        );
        assert!(!range.contains("fd00::1".parse().expect("ip")));
        let mut taken = HashSet::new();
        let first = free_address(range, &taken).expect("free");
        taken.insert(first);
        assert_ne!(free_address(range, &taken), Some(first));
        let v6: Range = "fd00:10:96::/112".parse().expect("a range");
        assert_eq!(free_address(v6, &HashSet::new()), Some("fd00:10:96::11".parse().expect("ip")));
        let small: Range = "10.0.0.0/30".parse().expect("a range");
        assert_eq!(free_address(small, &HashSet::new()), Some("10.0.0.2".parse().expect("ip")));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}
