//! The slow, obvious evaluator: the words of the spec, over plain lists, sharing no code with the engine.

use std::net::IpAddr;

/// A policy in plain lists.
#[derive(Debug, Clone)]
pub struct PlainPolicy {
    pub deny: bool,
    pub dry_run: bool,
    pub rules: Vec<PlainRule>,
}

#[derive(Debug, Clone)]
pub struct PlainRule(pub Vec<PlainClause>);

#[derive(Debug, Clone)]
pub struct PlainClause(pub Vec<PlainMatch>);

/// Texts are in the notation of AuthorizationPolicy; blocks are base and length.
#[derive(Debug, Clone, Default)]
pub struct PlainMatch {
    pub namespaces: Vec<String>,
    pub not_namespaces: Vec<String>,
    pub accounts: Vec<String>,
    pub not_accounts: Vec<String>,
    pub principals: Vec<String>,
    pub not_principals: Vec<String>,
    pub source_ips: Vec<PlainBlock>,
    pub not_source_ips: Vec<PlainBlock>,
    pub destination_ips: Vec<PlainBlock>,
    pub not_destination_ips: Vec<PlainBlock>,
    pub ports: Vec<u16>,
    pub not_ports: Vec<u16>,
}

#[derive(Debug, Clone, Copy)]
pub struct PlainBlock {
    pub base: IpAddr,
    pub length: u8,
}

/// One connection. An identity is (trust domain, namespace, account).
#[derive(Debug, Clone)]
pub struct PlainFacts {
    pub source_ip: IpAddr,
    pub destination_ip: IpAddr,
    pub destination_port: u16,
    pub identity: Option<PlainIdentity>,
    /// Whom the peer speaks for.
    pub client: Option<PlainIdentity>,
}

#[derive(Debug, Clone)]
pub struct PlainIdentity {
    pub trust_domain: &'static str,
    pub namespace: &'static str,
    pub account: &'static str,
}

/// Whether the connection passes.
pub fn passes(policies: &[PlainPolicy], facts: &PlainFacts) -> bool {
    let enforced: Vec<&PlainPolicy> = policies.iter().filter(|policy| !policy.dry_run).collect();
    let denies = enforced.iter().filter(|policy| policy.deny);
    let allows: Vec<_> = enforced.iter().filter(|policy| !policy.deny).collect();
    for policy in denies {
        if policy_matches(policy, facts) {
            return false;
        }
    }
    allows.is_empty() || allows.iter().any(|policy| policy_matches(policy, facts))
}

fn policy_matches(policy: &PlainPolicy, facts: &PlainFacts) -> bool {
    policy.rules.iter().any(|PlainRule(clauses)| {
        clauses.iter().all(|PlainClause(matches)| {
            matches.is_empty() || matches.iter().any(|one| !is_empty(one) && match_holds(one, facts))
        })
    })
}

fn is_empty(one: &PlainMatch) -> bool {
    one.namespaces.is_empty()
        && one.not_namespaces.is_empty()
        && one.accounts.is_empty()
        && one.not_accounts.is_empty()
        && one.principals.is_empty()
        && one.not_principals.is_empty()
        && one.source_ips.is_empty()
        && one.not_source_ips.is_empty()
        && one.destination_ips.is_empty()
        && one.not_destination_ips.is_empty()
        && one.ports.is_empty()
        && one.not_ports.is_empty()
}

fn match_holds(one: &PlainMatch, facts: &PlainFacts) -> bool {
    let callers: Vec<&PlainIdentity> = facts.identity.iter().chain(&facts.client).collect();
    let mut namespaces: Vec<&str> = callers.iter().map(|id| id.namespace).collect();
    if callers.is_empty() {
        namespaces.push("");
    }
    let accounts: Vec<String> = callers.iter().map(|id| format!("{}/{}", id.namespace, id.account)).collect();
    let principals: Vec<String> =
        callers.iter().map(|id| format!("{}/ns/{}/sa/{}", id.trust_domain, id.namespace, id.account)).collect();

    let text_hit = |list: &[String], text: &str| list.iter().any(|notation| text_matches(notation, text));
    let namespace_hit = |list: &[String]| namespaces.iter().any(|text| text_hit(list, text));
    let principal_hit = |list: &[String]| principals.iter().any(|text| text_hit(list, text));
    let account_hit = |list: &[String]| accounts.iter().any(|text| list.contains(text));
    let block_hit = |list: &[PlainBlock], ip| list.iter().any(|block| in_block(*block, ip));

    (one.namespaces.is_empty() || namespace_hit(&one.namespaces))
        && !namespace_hit(&one.not_namespaces)
        && (one.accounts.is_empty() || account_hit(&one.accounts))
        && !account_hit(&one.not_accounts)
        && (one.principals.is_empty() || principal_hit(&one.principals))
        && !principal_hit(&one.not_principals)
        && (one.source_ips.is_empty() || block_hit(&one.source_ips, facts.source_ip))
        && !block_hit(&one.not_source_ips, facts.source_ip)
        && (one.destination_ips.is_empty() || block_hit(&one.destination_ips, facts.destination_ip))
        && !block_hit(&one.not_destination_ips, facts.destination_ip)
        && (one.ports.is_empty() || one.ports.contains(&facts.destination_port))
        && !one.not_ports.contains(&facts.destination_port)
}

pub fn text_matches(notation: &str, text: &str) -> bool {
    if notation == "*" {
        !text.is_empty()
    } else if let Some(end) = notation.strip_prefix('*') {
        text.ends_with(end)
    } else if let Some(start) = notation.strip_suffix('*') {
        text.starts_with(start)
    } else {
        text == notation
    }
}

/// Compares bit by bit.
pub fn in_block(block: PlainBlock, ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| -> Vec<u8> {
        match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        }
    };
    let (base, ip) = (bits(block.base), bits(ip));
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    base.len() == ip.len() && (0..usize::from(block.length)).all(|at| bit(&base, at) == bit(&ip, at))
}
