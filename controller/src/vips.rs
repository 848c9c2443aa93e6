//! Gives addresses to service entries without any, so that their hosts can be captured.
//!
//! In: all service entries. Out: `status.addresses` of those that may have some. Only the leader gives.
//! [`plan`] decides and is pure. What was once given stays; what two have, the older keeps; what a user wrote is never
//! given, and an address that was ever given is not given to another while this process lives.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use lateen_cluster::store::{Key, Store};
use lateen_rt::{backoff::Backoff, deadline::within, inbox::Inbox};
use serde_json::{Value, json};

use crate::{
    facts::{Resolution, ServiceEntry},
    leader::Leading,
};

const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses that were given or taken by anybody.
#[derive(Debug, Default)]
pub struct Used {
    ever: HashSet<IpAddr>,
}

/// One entry's new addresses, by host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The entry.
    pub key: Key,
    /// Host and address, in the order of hosts.
    pub addresses: Vec<(String, IpAddr)>,
}

/// Whether an entry may be given addresses at all.
fn qualifies(entry: &ServiceEntry) -> bool {
    entry.allocate && entry.addresses.is_empty() && entry.resolution != Resolution::None
}

/// Whether a host may.
fn host_qualifies(entry: &ServiceEntry, host: &str) -> bool {
    !host.starts_with('*') || entry.resolution == Resolution::DynamicDns
}

/// The entries whose addresses must change.
pub fn plan(entries: &[(Key, Arc<ServiceEntry>)], used: &mut Used) -> Vec<Given> {
    let written: Vec<IpNet> = entries.iter().flat_map(|(_, entry)| entry.addresses.clone()).collect();
    let is_written = |ip: &IpAddr| written.iter().any(|net| net.contains(ip));
    // What was given before this process began counts as used, by whomever.
    used.ever.extend(entries.iter().flat_map(|(_, entry)| entry.allocated.values().flatten().copied()));
    let mut oldest_first: Vec<&(Key, Arc<ServiceEntry>)> = entries.iter().collect();
    oldest_first.sort_by(|(key, entry), (other_key, other)| (&entry.age, key).cmp(&(&other.age, other_key)));
    let mut held: BTreeSet<IpAddr> = BTreeSet::new();
    let mut kept: Vec<BTreeMap<&str, Vec<IpAddr>>> = Vec::new();
    for (_, entry) in &oldest_first {
        let hosts = entry.hosts.iter().filter(|host| qualifies(entry) && host_qualifies(entry, host));
        let keep = hosts.map(|host| {
            let before = entry.allocated.get(host).cloned().unwrap_or_default();
            let mut families = (false, false);
            let own = before.into_iter().filter(|ip| {
                let family = if ip.is_ipv4() { &mut families.0 } else { &mut families.1 };
                !std::mem::replace(family, true) && !is_written(ip) && held.insert(*ip)
            });
            (host.as_str(), own.collect())
        });
        kept.push(keep.collect());
    }
    let mut changed = Vec::new();
    for ((key, entry), mut keep) in oldest_first.into_iter().zip(kept) {
        for (host, own) in &mut keep {
            for range in [Range::V4, Range::V6] {
                if !own.iter().any(|ip| ip.is_ipv4() == (range == Range::V4)) {
                    own.extend(range.free(&(key, host), |ip| !used.ever.contains(ip) && !is_written(ip)));
                }
            }
            own.sort_unstable();
            used.ever.extend(own.iter().copied());
        }
        let same = keep.len() == entry.allocated.len()
            && keep.iter().all(|(host, own)| {
                let mut before = entry.allocated.get(*host).cloned().unwrap_or_default();
                before.sort_unstable();
                before == *own
            });
        if !same {
            let hosts = entry.hosts.iter().filter_map(|host| keep.get_key_value(host.as_str()));
            let addresses = hosts.flat_map(|(host, own)| own.iter().map(|ip| ((*host).to_owned(), *ip))).collect();
            changed.push(Given { key: key.clone(), addresses });
        }
    }
    changed
}

/// The ranges of the reference: `240.240.0.0/16` is reserved space, `2001:2::/48` is for benchmarks (RFC 5180).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    V4,
    V6,
}

/// Addresses in a range, without its first and its last.
const HOSTS: u32 = 0xfffe;

impl Range {
    /// A free address, beginning where the owner's name says: mostly the same in every cluster and after every loss of
    /// the status. None when the range is full.
    fn free(self, owner: &(&Key, &str), is_free: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let text = format!("{}/{}", owner.0, owner.1);
        let start = fnv1a(text.as_bytes()) % HOSTS;
        (0..HOSTS).map(|step| self.host((start + step) % HOSTS + 1)).find(is_free)
    }

    fn host(self, number: u32) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits((240 << 24) | (240 << 16) | number).into(),
            Self::V6 => {
                let [high, low] = [(number >> 16) as u16, (number & 0xffff) as u16];
                Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, high, low).into()
            }
        }
    }
}

/// FNV-1a, 32 bits: only a place to begin looking.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What giving needs.
pub struct Giver {
    /// The API.
    pub client: Client,
    /// All service entries.
    pub entries: Store<ServiceEntry>,
    /// Told of each entry that changes.
    pub inbox: Inbox<Key>,
    /// Whether this process gives.
    pub leading: Leading,
}

impl Giver {
    /// Gives while this process leads, for ever.
    pub async fn run(mut self) {
        let mut pace = Backoff::new(Duration::from_millis(200), Duration::from_secs(30)).with_jitter(0.2);
        // The set is of this process's life, not of one leadership.
        let mut used = Used::default();
        loop {
            if self.leading.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let given = plan(&self.entries.snapshot(), &mut used);
            let failed = self.write(given).await;
            if failed {
                tokio::time::sleep(pace.next_wait()).await;
                continue;
            }
            pace.reset();
            // Dropping a drain takes nothing.
            tokio::select! {
                _changed = self.inbox.drain() => {}
                ended = self.leading.changed() => if ended.is_err() { return },
            }
        }
    }

    /// Whether anything failed that may succeed later.
    async fn write(&self, given: Vec<Given>) -> bool {
        let mut failed = false;
        for one in given {
            match within("giving addresses", API_TIMEOUT, self.write_one(&one)).await {
                Ok(Ok(())) => tracing::info!(entry = %one.key, addresses = ?one.addresses, "gave addresses"),
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                // Somebody changed it meanwhile; the change comes to the inbox and everything is planned anew.
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
                Ok(Err(error)) => failed |= said(&one.key, &error.to_string()),
                Err(late) => failed |= said(&one.key, &late.to_string()),
            }
        }
        failed
    }

    async fn write_one(&self, given: &Given) -> Result<(), kube::Error> {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "ServiceEntry");
        let kind = ApiResource::from_gvk_with_plural(&kind, "serviceentries");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &given.key.namespace, &kind);
        let object = api.get_status(&given.key.name).await?;
        let all: Vec<Value> =
            given.addresses.iter().map(|(host, ip)| json!({"host": host, "value": ip.to_string()})).collect();
        let patch = json!({
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "status": {"addresses": all},
        });
        api.patch_status(&given.key.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
    }
}

fn said(key: &Key, reason: &str) -> bool {
    tracing::warn!(entry = %key, reason, "giving addresses failed; trying again");
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::tests::read_entry;

    fn entry(name: &str, created: &str, spec: Value, given: &[(&str, &str)]) -> (Key, Arc<ServiceEntry>) {
        let addresses: Vec<Value> = given.iter().map(|(host, ip)| json!({"host": host, "value": ip})).collect();
        let made = read_entry(name, Some(created), spec, json!({"addresses": addresses}));
        (Key::new("shop", name), Arc::new(made))
    }

    const OLD: &str = "2026-01-01T00:00:00Z";
    const NEW: &str = "2026-02-01T00:00:00Z";

    fn dns(hosts: &[&str]) -> Value {
        json!({"hosts": hosts, "resolution": "DNS"})
    }

    #[test]
    fn each_host_gets_one_of_each_family_and_keeps_them() {
        let mut used = Used::default();
        let first = plan(&[entry("a", OLD, dns(&["x.example", "y.example"]), &[])], &mut used);
        let addresses = &first[0].addresses;
        let hosts: Vec<&str> = addresses.iter().map(|(host, _)| host.as_str()).collect();
        assert_eq!(hosts, ["x.example", "x.example", "y.example", "y.example"]);
        let net: [IpNet; 2] = ["240.240.0.0/16".parse().expect("a net"), "2001:2::/48".parse().expect("a net")];
        assert!(net[0].contains(&addresses[0].1) && net[1].contains(&addresses[1].1));
        let distinct: BTreeSet<IpAddr> = addresses.iter().map(|(_, ip)| *ip).collect();
        assert_eq!(distinct.len(), 4);
        let text: Vec<(&str, String)> = addresses.iter().map(|(host, ip)| (host.as_str(), ip.to_string())).collect();
        let given: Vec<(&str, &str)> = text.iter().map(|(host, ip)| (*host, ip.as_str())).collect();
        assert!(plan(&[entry("a", OLD, dns(&["x.example", "y.example"]), &given)], &mut used).is_empty());
        // A host more leaves the others what they have.
        let more = plan(&[entry("a", OLD, dns(&["x.example", "y.example", "z.example"]), &given)], &mut used);
        assert_eq!(&more[0].addresses[..4], &addresses[..]);
        assert_eq!(more[0].addresses.len(), 6);
    }

    #[test]
    fn who_gets_none_and_loses_what_it_has() {
        let given = [("x.example", "240.240.0.9")];
        let check = |spec: Value, expected: bool| {
            let planned = plan(&[entry("a", OLD, spec.clone(), &given)], &mut Used::default());
            let lost = planned.iter().any(|one| one.addresses.is_empty());
            assert_eq!(lost, expected, "{spec}");
        };
        check(dns(&["x.example"]), false);
        check(json!({"hosts": ["x.example"], "resolution": "NONE"}), true);
        check(json!({"hosts": ["x.example"], "resolution": "DNS", "addresses": ["10.1.1.1"]}), true);
        check(dns(&["*.example"]), true);
        check(json!({"hosts": ["*.example"], "resolution": "DYNAMIC_DNS"}), false);
    }

    #[test]
    fn of_two_the_older_keeps_it_and_what_is_written_is_never_given() {
        let both = ["240.240.0.9", "2001:2::9"];
        let given = [("x.example", both[0]), ("x.example", both[1])];
        let all = [entry("young", NEW, dns(&["x.example"]), &given), entry("aged", OLD, dns(&["x.example"]), &given)];
        let planned = plan(&all, &mut Used::default());
        assert_eq!(planned.len(), 1);
        assert_eq!(&*planned[0].key.name, "young");
        assert!(planned[0].addresses.iter().all(|(_, ip)| !both.contains(&ip.to_string().as_str())));
        let written = json!({"hosts": ["w.example"], "resolution": "STATIC", "addresses": ["240.240.0.0/28"]});
        let all = [entry("w", NEW, written, &[]), entry("aged", OLD, dns(&["x.example"]), &given)];
        let planned = plan(&all, &mut Used::default());
        assert_eq!(&*planned[0].key.name, "aged");
        assert!(planned[0].addresses.iter().all(|(_, ip)| ip.to_string() != both[0]));
    }

    #[test]
    fn an_address_of_an_entry_that_is_gone_is_not_given_again() {
        let mut used = Used::default();
        let first = plan(&[entry("a", OLD, dns(&["x.example"]), &[])], &mut used);
        let again = plan(&[entry("a", NEW, dns(&["x.example"]), &[])], &mut used);
        assert!(first[0].addresses.iter().all(|one| !again[0].addresses.contains(one)));
    }
}
