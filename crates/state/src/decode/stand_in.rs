//! What can still be told of an `istio.workload.Address` that was refused.
//!
//! The generated decoder gives up as a whole; here the bytes are walked field by field, and every field that stands on its
//! own is taken. What the control plane says beside the bytes (name, aliases) counts too.

use std::sync::Arc;

use lateen_types::{
    addr::{NetworkAddress, ip_from_bytes},
    id::Namespace,
};
use lateen_wire::workload as wire;
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint},
};

use super::address::{Virtual, virtual_address};
use crate::{
    service::NetworkCidr,
    unusable::{NO_WORKLOAD_IS_STRONGER, Unusable},
};

/// A refused resource, as it was announced.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'r> {
    /// Its name.
    pub name: &'r str,
    /// Its other keys, `network/ip` among them.
    pub aliases: &'r [String],
    /// Its bytes.
    pub bytes: &'r [u8],
    /// Why it was refused.
    pub reason: &'r str,
}

/// The stand-in; `None` when not one address can be told.
pub(super) fn unusable(refused: &Refused<'_>) -> Option<Unusable> {
    let mut told = Told { key: String::new(), claim: NO_WORKLOAD_IS_STRONGER, ..Told::default() };
    let mut aliases = refused.aliases.iter().filter_map(|alias| alias_address(alias)).collect();
    for (tag, value) in Fields(refused.bytes) {
        match (tag, value) {
            (1, Value::Bytes(bytes) | Value::Cut(bytes)) => {
                told = workload(bytes);
                if told.shares_its_nodes_addresses {
                    aliases = Vec::new();
                }
            }
            (2, Value::Bytes(bytes) | Value::Cut(bytes)) => told = service(bytes),
            (_, Value::Bytes(_) | Value::Cut(_) | Value::Number(_) | Value::Fixed) => {}
        }
    }
    told.addresses.append(&mut aliases);
    told.addresses.sort();
    told.addresses.dedup();
    let key: Arc<str> = if told.key.is_empty() { refused.name.into() } else { told.key.into() };
    let (addresses, ranges) = (told.addresses, told.ranges);
    let one =
        Unusable { key, reason: refused.reason.into(), addresses, ranges, only_for: told.only_for, claim: told.claim };
    (!one.addresses.is_empty() || !one.ranges.is_empty()).then_some(one)
}

/// What was told so far.
#[derive(Default)]
struct Told {
    key: String,
    addresses: Vec<NetworkAddress>,
    ranges: Vec<NetworkCidr>,
    only_for: Option<Namespace>,
    claim: u8,
    shares_its_nodes_addresses: bool,
}

fn workload(bytes: &[u8]) -> Told {
    let (mut told, mut network, mut ips) = (Told::default(), String::new(), Vec::new());
    for (tag, value) in Fields(bytes) {
        match (tag, value) {
            (3, Value::Bytes(ip)) => ips.extend(ip_from_bytes(ip)),
            (4, Value::Bytes(text)) => network = words(text),
            (20, Value::Bytes(text)) => told.key = words(text),
            (25, Value::Number(mode)) => {
                told.shares_its_nodes_addresses = i32::try_from(mode) == Ok(wire::NetworkMode::HostNetwork.into());
            }
            (_, Value::Bytes(_) | Value::Cut(_) | Value::Number(_) | Value::Fixed) => {}
        }
    }
    // As a tunnelled one: which it may be.
    told.claim = if told.key.contains("//Pod/") { 3 } else { 1 };
    if !told.shares_its_nodes_addresses {
        let key = |ip| NetworkAddress { network: network.as_str().into(), ip };
        told.addresses = ips.into_iter().map(key).collect();
    }
    told
}

fn service(bytes: &[u8]) -> Told {
    let mut told = Told { claim: NO_WORKLOAD_IS_STRONGER, ..Told::default() };
    let (mut namespace, mut hostname, mut is_private) = (String::new(), String::new(), false);
    for (tag, value) in Fields(bytes) {
        match (tag, value) {
            (2, Value::Bytes(text)) => namespace = words(text),
            (3, Value::Bytes(text)) => hostname = words(text),
            (4, Value::Bytes(address)) => match wire::NetworkAddress::decode(address).map(virtual_address) {
                Ok(Ok(Virtual::Host(vip))) => told.addresses.push(vip),
                Ok(Ok(Virtual::Range(range))) => told.ranges.push(range),
                Ok(Err(_)) | Err(_) => {}
            },
            (14, Value::Number(visibility)) => {
                is_private = i32::try_from(visibility) == Ok(wire::service::Visibility::Namespace.into());
            }
            (_, Value::Bytes(_) | Value::Cut(_) | Value::Number(_) | Value::Fixed) => {}
        }
    }
    if !namespace.is_empty() && !hostname.is_empty() {
        told.key = format!("{namespace}/{hostname}");
    }
    told.only_for = (is_private && !namespace.is_empty()).then(|| namespace.into());
    told
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `network/ip`; anything else is some other key.
fn alias_address(alias: &str) -> Option<NetworkAddress> {
    let (network, ip) = alias.rsplit_once('/')?;
    Some(NetworkAddress { network: network.into(), ip: ip.parse().ok()? })
}

/// The fields of a message as far as they can be told apart.
struct Fields<'b>(&'b [u8]);

enum Value<'b> {
    Bytes(&'b [u8]),
    /// Announced as longer than what is there.
    Cut(&'b [u8]),
    Number(u64),
    /// Of fixed width; we know no field like that.
    Fixed,
}

impl<'b> Iterator for Fields<'b> {
    type Item = (u32, Value<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, kind) = decode_key(&mut self.0).ok()?;
        let value = match kind {
            WireType::Varint => Value::Number(decode_varint(&mut self.0).ok()?),
            WireType::LengthDelimited => {
                let announced = decode_varint(&mut self.0).ok()?;
                match usize::try_from(announced).ok().and_then(|length| self.0.split_at_checked(length)) {
                    Some((bytes, rest)) => {
                        self.0 = rest;
                        Value::Bytes(bytes)
                    }
                    None => Value::Cut(std::mem::take(&mut self.0)),
                }
            }
            WireType::SixtyFourBit => self.skip(8)?,
            WireType::ThirtyTwoBit => self.skip(4)?,
            // Groups are not of this protocol; behind one nothing can be told apart.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((tag, value))
    }
}

impl<'b> Fields<'b> {
    fn skip(&mut self, length: usize) -> Option<Value<'b>> {
        self.0 = self.0.get(length..)?;
        Some(Value::Fixed)
    }
}
