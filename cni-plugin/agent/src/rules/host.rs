//! The node's rules for probes as text for `nft`. Pure.
//!
//! A kubelet's probe and any other caller on the node share the node's address; probes must pass ztunnel by. So TCP
//! that begins on the node and goes to an enrolled pod gets a source address that pods' rules let through.
//!
//! In: addresses with their owners. Out: text. Absent on purpose: running it. What pods send through the node is never
//! touched: its source is not an address of the node.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use lateen_types::name::PodUid;

use super::ProbeAddresses;

/// The table in the node's namespace.
pub const TABLE: &str = "lateen-node";
/// Istio's names, where operators look for them.
const SET_V4: &str = "istio-inpod-probes-v4";
const SET_V6: &str = "istio-inpod-probes-v6";

/// The addresses of enrolled pods, each with the pod it belongs to: addresses are reused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    by_ip: BTreeMap<IpAddr, PodUid>,
}

impl Owners {
    /// Makes `ips` the addresses of `uid`, whoever had them before. Out: the change as text; empty for none.
    pub fn assign(&mut self, uid: &PodUid, ips: &[IpAddr]) -> String {
        let gone: Vec<IpAddr> = self.of(uid).into_iter().filter(|ip| !ips.contains(ip)).collect();
        let mut text = self.take(&gone);
        for ip in ips {
            match self.by_ip.insert(*ip, uid.clone()) {
                Some(before) if before == *uid => {}
                Some(_) => text.push_str(&replace(*ip, uid)),
                // Nothing to delete, and so nothing to wait for (see `plan::PodRules::fresh`).
                None => text.push_str(&add(*ip, uid)),
            }
        }
        text
    }

    /// Drops what `uid` still owns. Out: the change as text; empty for none.
    pub fn release(&mut self, uid: &PodUid) -> String {
        let gone = self.of(uid);
        self.take(&gone)
    }

    /// All owners.
    pub fn uids(&self) -> Vec<PodUid> {
        let mut all: Vec<PodUid> = self.by_ip.values().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    fn of(&self, uid: &PodUid) -> Vec<IpAddr> {
        self.by_ip.iter().filter(|(_, owner)| *owner == uid).map(|(ip, _)| *ip).collect()
    }

    fn take(&mut self, ips: &[IpAddr]) -> String {
        let mut text = String::new();
        for ip in ips {
            self.by_ip.remove(ip);
            text.push_str(&remove(*ip));
        }
        text
    }

    /// The whole table with these owners, replacing what is there.
    pub fn table(&self, probes: ProbeAddresses) -> String {
        let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
        text.push_str("\tcomment \"probes of enrolled pods, version 1\"\n");
        for (set, kind) in [(SET_V4, "ipv4_addr"), (SET_V6, "ipv6_addr")] {
            let _ = writeln!(text, "\tset {set} {{\n\t\ttype {kind};\n\t}}");
        }
        text.push_str("\tchain postrouting {\n");
        // Just before srcnat (100), where others masquerade: the first translation is the one that counts.
        text.push_str("\t\ttype nat hook postrouting priority 99; policy accept;\n");
        for (words, set, to) in [
            ("ip daddr", SET_V4, format!("ip to {}", probes.v4)),
            ("ip6 daddr", SET_V6, format!("ip6 to {}", probes.v6)),
        ] {
            let _ = writeln!(text, "\t\tmeta l4proto tcp {words} @{set} fib saddr type local counter snat {to}");
        }
        text.push_str("\t}\n}\n");
        for (ip, uid) in &self.by_ip {
            text.push_str(&add(*ip, uid));
        }
        text
    }
}

/// The text that removes the table, whether or not it is there.
pub fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn set_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { SET_V4 } else { SET_V6 }
}

/// The comment is for people; our own record of the owner is the ledger. Kubernetes UIDs are safe to quote, others
/// (static pods have hashes) are cut down to what is.
fn add(ip: IpAddr, uid: &PodUid) -> String {
    let fine = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    let comment: String = uid.as_str().chars().filter(fine).take(64).collect();
    format!("add element inet {TABLE} {} {{ {ip} comment \"{comment}\" }}\n", set_of(ip))
}

fn replace(ip: IpAddr, uid: &PodUid) -> String {
    format!("{}{}", remove(ip), add(ip, uid))
}

/// Adding first makes the delete succeed where the element is gone already.
fn remove(ip: IpAddr) -> String {
    let set = set_of(ip);
    format!("add element inet {TABLE} {set} {{ {ip} }}\ndelete element inet {TABLE} {set} {{ {ip} }}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_reused_address_belongs_to_its_new_pod() {
        let mut owners = Owners::default();
        let (old, new) = (PodUid::from("old"), PodUid::from("new"));
        assert!(owners.assign(&old, &[ip("10.0.0.5"), ip("fd00::5")]).contains("istio-inpod-probes-v6 { fd00::5"));
        assert!(owners.assign(&new, &[ip("10.0.0.5")]).contains("comment \"new\""));
        let released = owners.release(&old);
        assert!(released.contains("fd00::5") && !released.contains("10.0.0.5"), "{released}");
        assert_eq!(owners.uids(), [new]);
        assert!(owners.release(&old).is_empty());
    }

    #[test]
    fn what_does_not_change_is_not_written() {
        let mut owners = Owners::default();
        let uid = PodUid::from("u");
        assert!(!owners.assign(&uid, &[ip("10.0.0.5")]).is_empty());
        assert!(owners.assign(&uid, &[ip("10.0.0.5")]).is_empty());
        let moved = owners.assign(&uid, &[ip("10.0.0.6")]);
        assert!(moved.contains("delete element inet lateen-node istio-inpod-probes-v4 { 10.0.0.5 }"), "{moved}");
        assert!(moved.contains("10.0.0.6"));
    }

    #[test]
    fn a_uid_cannot_break_out_of_its_comment() {
        let mut owners = Owners::default();
        let text = owners.assign(&PodUid::from("x\" } ; flush ruleset"), &[ip("10.0.0.5")]);
        assert!(text.ends_with("comment \"xflushruleset\" }\n"), "{text}");
    }

    #[test]
    fn the_table_is_the_one_expected() {
        let mut owners = Owners::default();
        owners.assign(&PodUid::from("u"), &[ip("10.0.0.5"), ip("fd00::5")]);
        let expected = "add table inet lateen-node
delete table inet lateen-node
table inet lateen-node {
\tcomment \"probes of enrolled pods, version 1\"
\tset istio-inpod-probes-v4 {
\t\ttype ipv4_addr;
\t}
\tset istio-inpod-probes-v6 {
\t\ttype ipv6_addr;
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority 99; policy accept;
\t\tmeta l4proto tcp ip daddr @istio-inpod-probes-v4 fib saddr type local counter snat ip to 169.254.7.127
\t\tmeta l4proto tcp ip6 daddr @istio-inpod-probes-v6 fib saddr type local counter snat ip6 to fd16:9254:7127:1337:ffff:ffff:ffff:ffff
\t}
}
add element inet lateen-node istio-inpod-probes-v4 { 10.0.0.5 comment \"u\" }
add element inet lateen-node istio-inpod-probes-v6 { fd00::5 comment \"u\" }
";
        assert_eq!(owners.table(ProbeAddresses::default()), expected);
    }
}
