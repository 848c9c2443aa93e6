//! Mesh resources encoded once, with the names they are found by.

use lateen_cluster::store::Key;
use lateen_types::addr::ip_from_bytes;
use lateen_wire::{security, type_url, workload as wire};
use lateen_xds::resource::Entry;
use prost::Message;

/// One resource, ready to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Its type.
    pub type_url: &'static str,
    /// Its names and its encoded message.
    pub entry: Entry,
}

/// The Gateway of such a group.
pub fn gateway_of(group: &str) -> Option<Key> {
    let (namespace, name) = group.strip_prefix("gateway/")?.split_once('/')?;
    Some(Key::new(namespace, name))
}

/// The group of everything on a node; a node proxy gets its own node's members unasked.
pub fn node_group(node: &str) -> String {
    format!("node/{node}")
}

/// The group of everything that is a Gateway's own, which only its instances get.
pub fn gateway_group(gateway: &Key) -> String {
    format!("gateway/{}/{}", gateway.namespace, gateway.name)
}

/// Something that is `gateway`'s own.
pub fn own(type_url: &'static str, name: &str, message: &impl Message, gateway: &Key) -> Resource {
    let entry = Entry::new(type_url, name, message).with_groups(vec![gateway_group(gateway).into()]);
    Resource { type_url, entry }
}

/// A workload. It is a member of its services, so that who asks for a service gets its workloads, and of its node.
pub fn workload(workload: wire::Workload) -> Resource {
    // Whatever shares a node's address must not be found by it.
    let findable = workload.network_mode != i32::from(wire::NetworkMode::HostNetwork);
    let addresses = workload.addresses.iter().filter(|_| findable);
    let aliases = addresses.filter_map(|bytes| alias(&workload.network, bytes)).collect();
    let node = Some(&workload.node).filter(|node| !node.is_empty()).map(|node| node_group(node));
    let groups = workload.services.keys().cloned().chain(node).map(Into::into).collect();
    let name = workload.uid.clone();
    let message = wire::Address { r#type: Some(wire::address::Type::Workload(workload)) };
    let entry = Entry::new(type_url::ADDRESS, name, &message).with_aliases(aliases).with_groups(groups);
    Resource { type_url: type_url::ADDRESS, entry }
}

/// A service.
pub fn service(service: wire::Service) -> Resource {
    let aliases = service.addresses.iter().filter_map(virtual_alias).collect();
    let name = format!("{}/{}", service.namespace, service.hostname);
    let message = wire::Address { r#type: Some(wire::address::Type::Service(service)) };
    Resource { type_url: type_url::ADDRESS, entry: Entry::new(type_url::ADDRESS, name, &message).with_aliases(aliases) }
}

/// A policy.
pub fn policy(policy: &security::Authorization) -> Resource {
    let name = format!("{}/{}", policy.namespace, policy.name);
    Resource { type_url: type_url::AUTHORIZATION, entry: Entry::new(type_url::AUTHORIZATION, name, policy) }
}

/// An address, or a range with its length.
fn virtual_alias(one: &wire::NetworkAddress) -> Option<String> {
    let alias = alias(&one.network, &one.address)?;
    Some(one.length.map_or_else(|| alias.clone(), |length| format!("{alias}/{length}")))
}

fn alias(network: &str, bytes: &[u8]) -> Option<String> {
    ip_from_bytes(bytes).ok().map(|ip| format!("{network}/{ip}"))
}
