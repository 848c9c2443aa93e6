//! `istio.security`: L4 policies.
//!
//! Stricter than the reference on purpose: an address or a string match it cannot read is dropped there, which can empty
//! the list and so widen an ALLOW or void a DENY. Here such a policy is refused, and what was held before stays; where
//! nothing was held, [`stand_in`] refuses what the policy may have refused.

use ipnet::IpNet;
use lateen_policy::model::{Account, Action, Clause, Match, Policy, Rule, Scope, StringMatch};
use lateen_types::{addr::ip_from_bytes, name::PolicyKey};
use lateen_wire::security as wire;
use prost::Message as _;

use super::{DecodeError, known, word};

pub(super) fn policy(from: wire::Authorization) -> Result<Policy, DecodeError> {
    let key: PolicyKey = word("name", format!("{}/{}", from.namespace, from.name).parse())?;
    Ok(Policy {
        key,
        scope: match known("scope", from.scope)? {
            wire::Scope::Global => Scope::Global,
            wire::Scope::Namespace => Scope::Namespace,
            wire::Scope::WorkloadSelector => Scope::WorkloadSelector,
        },
        action: match known("action", from.action)? {
            wire::Action::Allow => Action::Allow,
            wire::Action::Deny => Action::Deny,
        },
        dry_run: from.dry_run,
        rules: from.rules.into_iter().map(rule).collect::<Result<_, _>>()?,
    })
}

/// What stands in for a policy that cannot be read and of which no earlier state is held: an ALLOW that admits nobody,
/// or, for a DENY and for what may be one, a DENY of everything. Of a mesh-wide one only if it says so itself. A dry-run
/// policy has no stand-in.
pub(super) fn stand_in(name: &str, bytes: &[u8]) -> Option<Policy> {
    let message = wire::Authorization::decode(bytes).unwrap_or_default();
    if message.dry_run {
        return None;
    }
    let named = format!("{}/{}", message.namespace, message.name);
    let key = named.parse().or_else(|_| name.parse()).ok()?;
    let scope = match wire::Scope::try_from(message.scope) {
        Ok(wire::Scope::Global) if !message.name.is_empty() => Scope::Global,
        Ok(wire::Scope::WorkloadSelector) => Scope::WorkloadSelector,
        Ok(wire::Scope::Global | wire::Scope::Namespace) | Err(_) => Scope::Namespace,
    };
    let is_allow = !message.name.is_empty() && wire::Action::try_from(message.action) == Ok(wire::Action::Allow);
    let (action, rules) = match is_allow {
        true => (Action::Allow, Vec::new()),
        // A rule without clauses matches everything.
        false => (Action::Deny, vec![Rule { clauses: Vec::new() }]),
    };
    Some(Policy { key, scope, action, dry_run: false, rules })
}

fn rule(from: wire::Rule) -> Result<Rule, DecodeError> {
    Ok(Rule { clauses: from.clauses.into_iter().map(clause).collect::<Result<_, _>>()? })
}

fn clause(from: wire::Clause) -> Result<Clause, DecodeError> {
    Ok(Clause { matches: from.matches.into_iter().map(one).collect::<Result<_, _>>()? })
}

fn one(from: wire::Match) -> Result<Match, DecodeError> {
    Ok(Match {
        namespaces: list("namespaces", from.namespaces, text)?,
        not_namespaces: list("not_namespaces", from.not_namespaces, text)?,
        service_accounts: list("service_accounts", from.service_accounts, account)?,
        not_service_accounts: list("not_service_accounts", from.not_service_accounts, account)?,
        principals: list("principals", from.principals, text)?,
        not_principals: list("not_principals", from.not_principals, text)?,
        source_ips: list("source_ips", from.source_ips, block)?,
        not_source_ips: list("not_source_ips", from.not_source_ips, block)?,
        destination_ips: list("destination_ips", from.destination_ips, block)?,
        not_destination_ips: list("not_destination_ips", from.not_destination_ips, block)?,
        destination_ports: list("destination_ports", from.destination_ports, port)?,
        not_destination_ports: list("not_destination_ports", from.not_destination_ports, port)?,
    })
}

fn list<W, T, L: FromIterator<T>>(
    field: &'static str,
    from: Vec<W>,
    read: impl Fn(&'static str, W) -> Result<T, DecodeError>,
) -> Result<L, DecodeError> {
    from.into_iter().map(|entry| read(field, entry)).collect()
}

fn text(field: &'static str, from: wire::StringMatch) -> Result<StringMatch, DecodeError> {
    use wire::string_match::MatchType;
    match from.match_type {
        Some(MatchType::Exact(text)) => Ok(StringMatch::Exact(text.into())),
        Some(MatchType::Prefix(text)) => Ok(StringMatch::Prefix(text.into())),
        Some(MatchType::Suffix(text)) => Ok(StringMatch::Suffix(text.into())),
        Some(MatchType::Presence(())) => Ok(StringMatch::Presence),
        None => Err(DecodeError::Field {
            field,
            reason: "a string match has no type; use exact, prefix, suffix or presence",
        }),
    }
}

fn account(_: &'static str, from: wire::ServiceAccountMatch) -> Result<Account, DecodeError> {
    Ok(Account { namespace: from.namespace.into(), service_account: from.service_account.into() })
}

fn block(field: &'static str, from: wire::Address) -> Result<IpNet, DecodeError> {
    let ip = word(field, ip_from_bytes(&from.address))?;
    let net = u8::try_from(from.length).ok().and_then(|length| IpNet::new(ip, length).ok());
    net.ok_or(DecodeError::Field {
        field,
        reason: "the prefix length exceeds the address; use at most 32 (IPv4) or 128 (IPv6)",
    })
}

fn port(field: &'static str, from: u32) -> Result<u16, DecodeError> {
    u16::try_from(from).map_err(|_| DecodeError::Field { field, reason: "a port is at most 65535" })
}
