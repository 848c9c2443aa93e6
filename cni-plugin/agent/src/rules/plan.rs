//! A pod's rules as text for `nft`. Pure.
//!
//! In: [`PodOptions`]. Out: [`PodRules`], one table that replaces its former self in one transaction.
//! Absent on purpose: policy routes (see `routes`; they are the same for every pod) and running anything.
//!
//! Only a connection's first packet (SYN) is redirected. A connection that is older than the rules is unknown to
//! conntrack, which takes its next packet for a new connection; without the flag test it would be torn away.
//!
//! ```text
//!  app ──► nat-output ──► 15001 (ztunnel) ──mark 0x539──► wire
//!  wire ─► nat-prerouting ─► 15006 (ztunnel) ──mark 0x539, client's source──► lo ─► mangle-prerouting: ct mark 0x111
//!  app's answer to the client ─► mangle-output: mark 0x111 ─► ip rule ─► table 100 ─► lo ─► ztunnel
//! ```

use std::fmt::Write as _;

use super::{DnsCapture, InboundCapture, PodOptions};

/// The table in a pod's namespace.
pub const TABLE: &str = "lateen-pod";
/// Rises when the meaning of the rules changes, so that an operator sees which agent wrote a table.
const VERSION: u32 = 1;

/// A pod's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRules {
    /// For `nft -f -`: replaces the table, whatever is there.
    pub nft: String,
    /// The same for a namespace without our table; refused ("File exists") where there is one. The kernel lets a
    /// process that deleted anything wait, when it ends, until what it deleted is freed, which takes seconds on a busy
    /// node. A new pod must not wait for that.
    pub fresh: String,
    /// Which policy routes go with them.
    pub families: super::Families,
}

/// The first packet of a TCP connection.
const FIRST: &str = "tcp flags & (fin|syn|rst|ack) == syn";
/// Sent by ztunnel.
const OURS: &str = "meta mark & 0xfff == 0x539";
/// Not sent by ztunnel.
const NOT_OURS: &str = "meta mark & 0xfff != 0x539";

/// The rules of a pod with `options`.
pub fn plan(options: &PodOptions) -> PodRules {
    let comment = format!("comment \"in-pod redirection, version {VERSION}\"");
    let mut text = format!("table inet {TABLE} {{\n\t{comment}\n");
    if options.dns == DnsCapture::On {
        chain(&mut text, "raw-prerouting", "filter hook prerouting priority -300", &raw_prerouting(options));
        chain(&mut text, "raw-output", "filter hook output priority -300", &raw_output(options));
    }
    chain(&mut text, "mangle-prerouting", "filter hook prerouting priority -150", &mangle_prerouting(options));
    chain(&mut text, "mangle-output", "route hook output priority -150", &mangle_output(options));
    chain(&mut text, "nat-prerouting", "nat hook prerouting priority -100", &nat_prerouting(options));
    chain(&mut text, "nat-output", "nat hook output priority -100", &nat_output(options));
    text.push_str("}\n");
    let (nft, fresh) = (format!("{}{text}", removal()), format!("create table inet {TABLE} {{ {comment} ; }}\n{text}"));
    PodRules { nft, fresh, families: options.families }
}

/// The text that removes the table, whether or not it is there: adding first makes the delete succeed.
pub fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// The text that lets new connections and questions of the pod go where they were sent, for a pod that has our table.
/// Those that were redirected before still find back, so that ztunnel can end them; without the table's chains the kernel
/// would no longer translate what ztunnel sends, and the app would wait for ever. Nothing is deleted here (see
/// [`PodRules::fresh`] for why that matters).
pub fn opening() -> String {
    format!("insert rule inet {TABLE} nat-prerouting accept\ninsert rule inet {TABLE} nat-output accept\n")
}

fn chain(text: &mut String, name: &str, hook: &str, rules: &[String]) {
    let _ = writeln!(text, "\tchain {name} {{\n\t\ttype {hook}; policy accept;");
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
}

/// One captured IP version as rules name it.
struct Family {
    /// Not to the address every process may call its own.
    not_loopback: &'static str,
    source: &'static str,
    destination: &'static str,
    probe: String,
}

fn families(options: &PodOptions) -> Vec<Family> {
    let mut all = Vec::new();
    if options.families.v4() {
        let probe = options.probes.v4.to_string();
        all.push(Family { not_loopback: "ip daddr != 127.0.0.1", source: "ip saddr", destination: "ip daddr", probe });
    }
    if options.families.v6() {
        let probe = options.probes.v6.to_string();
        all.push(Family { not_loopback: "ip6 daddr != ::1", source: "ip6 saddr", destination: "ip6 daddr", probe });
    }
    all
}

/// A match on the captured versions for rules that name no address; empty where both are.
fn captured(options: &PodOptions) -> &'static str {
    match options.families {
        super::Families::V4 => "meta nfproto ipv4 ",
        super::Families::V6 => "meta nfproto ipv6 ",
        super::Families::Both => "",
    }
}

/// ztunnel's own DNS questions live in a conntrack zone of their own: they may have the same ports as the app's.
fn raw_output(options: &PodOptions) -> Vec<String> {
    vec![format!("{}udp dport 53 {OURS} counter ct zone set 1", captured(options))]
}

fn raw_prerouting(options: &PodOptions) -> Vec<String> {
    vec![format!("{}udp sport 53 {NOT_OURS} counter ct zone set 1", captured(options))]
}

/// What ztunnel sent to the app under the client's address marks its connection, so that the answers find back.
fn mangle_prerouting(options: &PodOptions) -> Vec<String> {
    vec![format!("{}{OURS} counter ct mark set ct mark & 0xfffff000 | 0x111", captured(options))]
}

fn mangle_output(options: &PodOptions) -> Vec<String> {
    vec![format!("{}ct mark & 0xfff == 0x111 counter meta mark set ct mark", captured(options))]
}

fn nat_prerouting(options: &PodOptions) -> Vec<String> {
    let mut rules = Vec::new();
    for interface in &options.virtual_interfaces {
        let name = interface.as_str();
        rules.push(format!("iifname \"{name}\" {}{FIRST} counter redirect to :15001", captured(options)));
        rules.push(format!("iifname \"{name}\" {}meta l4proto tcp counter return", captured(options)));
    }
    if options.inbound == InboundCapture::Off {
        return rules;
    }
    let all = families(options);
    rules.extend(all.iter().map(|of| format!("{} {} meta l4proto tcp counter accept", of.source, of.probe)));
    let plain =
        |of: &Family| format!("{} {FIRST} tcp dport != 15008 {NOT_OURS} counter redirect to :15006", of.not_loopback);
    rules.extend(all.iter().map(plain));
    rules
}

fn nat_output(options: &PodOptions) -> Vec<String> {
    let all = families(options);
    let mut rules: Vec<String> =
        all.iter().map(|of| format!("{} {} meta l4proto tcp counter accept", of.destination, of.probe)).collect();
    if options.dns == DnsCapture::On {
        let lan = "oifname != \"lo\"";
        rules.push(format!("{lan} {}udp dport 53 {NOT_OURS} counter redirect to :15053", captured(options)));
        let tcp =
            |of: &Family| format!("{} {FIRST} tcp dport 53 {NOT_OURS} counter redirect to :15053", of.not_loopback);
        rules.extend(all.iter().map(tcp));
    }
    rules.push(format!("{}meta l4proto tcp meta mark & 0xfff == 0x111 counter accept", captured(options)));
    // The pod calling itself by its own address stays inside.
    rules.extend(all.iter().map(|of| format!("oifname \"lo\" {} counter accept", of.not_loopback)));
    rules.extend(all.iter().map(|of| format!("{} {FIRST} {NOT_OURS} counter redirect to :15001", of.not_loopback)));
    rules
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::rules::{Families, InterfaceName};

    type Mode = (&'static str, fn(&mut PodOptions));

    /// Every combination of the catalogue (l4-tests §13), by the name of its file.
    fn cases() -> Vec<(String, PodOptions)> {
        let interfaces = || ["vif0", "docker0"].iter().filter_map(|name| InterfaceName::parse(name)).collect();
        let modes: [Mode; 4] = [
            ("default", |_| {}),
            ("no-dns", |options| options.dns = DnsCapture::Off),
            ("ingress", |options| options.inbound = InboundCapture::Off),
            ("ingress-no-dns", |options| {
                options.inbound = InboundCapture::Off;
                options.dns = DnsCapture::Off;
            }),
        ];
        let mut cases = Vec::new();
        for (family, families) in [("v4", Families::V4), ("v6", Families::V6), ("dual", Families::Both)] {
            for (mode, set) in modes {
                let mut options = PodOptions { families, ..PodOptions::default() };
                set(&mut options);
                cases.push((format!("{mode}-{family}"), options.clone()));
                options.virtual_interfaces = interfaces();
                cases.push((format!("{mode}-virtual-{family}"), options));
            }
        }
        cases
    }

    fn file(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/rules/golden").join(format!("{name}.nft"))
    }

    #[test]
    fn every_combination_has_the_rules_of_its_file() {
        for (name, options) in cases() {
            let expected = std::fs::read_to_string(file(&name)).unwrap_or_default();
            assert_eq!(plan(&options).nft, expected, "{name}: if the change is meant, run the ignored test `rewrite`");
        }
    }

    #[test]
    #[ignore = "writes the files the test above compares with"]
    fn rewrite() {
        for (name, options) in cases() {
            std::fs::write(file(&name), plan(&options).nft).expect("writes");
        }
    }

    #[test]
    fn no_rule_takes_a_connection_in_its_middle() {
        for (name, options) in cases() {
            for rule in plan(&options).nft.lines().filter(|rule| rule.contains("redirect to") && !rule.contains("udp"))
            {
                assert!(rule.contains(FIRST), "{name}: {rule}");
            }
        }
    }

    #[test]
    fn probe_addresses_are_the_given_ones() {
        let probes = crate::rules::ProbeAddresses { v4: [169, 254, 1, 1].into(), ..Default::default() };
        let rules = plan(&PodOptions { probes, ..PodOptions::default() });
        assert!(rules.nft.contains("ip saddr 169.254.1.1 meta l4proto tcp counter accept"));
        assert!(!rules.nft.contains("169.254.7.127"));
    }
}
