//! Values of policy fields as the wire carries them.
//!
//! In: text a user wrote. Out: wire values, and the texts that are none, for the status.

use std::net::IpAddr;

use ipnet::IpNet;
use lateen_wire::security::{self as wire, string_match::MatchType};

/// `*` is any, `*x` ends in x, `x*` begins with x, everything else is itself.
pub fn string(text: &str) -> wire::StringMatch {
    let match_type = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => MatchType::Presence(()),
        (Some(suffix), _) => MatchType::Suffix(suffix.to_owned()),
        (None, Some(prefix)) => MatchType::Prefix(prefix.to_owned()),
        (None, None) => MatchType::Exact(text.to_owned()),
    };
    wire::StringMatch { match_type: Some(match_type) }
}

/// Any identity at all.
pub fn presence() -> wire::StringMatch {
    wire::StringMatch { match_type: Some(MatchType::Presence(())) }
}

/// An address or a CIDR; a plain address is its own network.
pub fn address(text: &str) -> Option<wire::Address> {
    let net: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(wire::Address { address: crate::facts::ip_bytes(net.addr()), length: net.prefix_len().into() })
}

/// A port number.
pub fn port(text: &str) -> Option<u32> {
    text.parse::<u16>().ok().map(u32::from)
}

/// `<account>` in the policy's own namespace, or `<namespace>/<account>`.
pub fn account(text: &str, own_namespace: &str) -> wire::ServiceAccountMatch {
    let (namespace, account) = text.split_once('/').unwrap_or((own_namespace, text));
    wire::ServiceAccountMatch { namespace: namespace.to_owned(), service_account: account.to_owned() }
}

/// All values of a field as strings.
pub fn strings(values: Option<&Vec<String>>) -> Vec<wire::StringMatch> {
    values.into_iter().flatten().map(|text| string(text)).collect()
}
