//! What single words must look like: names, hosts, addresses, ports.

use std::net::IpAddr;

/// A DNS label as names of namespaces are.
pub(super) fn is_dns_label(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    bounded(text, 63) && text.chars().all(fine) && !text.starts_with('-') && !text.ends_with('-')
}

/// A name of a label's shape in either case, as ports of workloads have.
pub(super) fn is_port_name(text: &str) -> bool {
    is_dns_label(&text.to_ascii_lowercase())
}

/// A host name of at least one label, in either case.
pub(super) fn is_fqdn(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| is_dns_label(&label.to_ascii_lowercase().replace('_', "-"));
    bounded(text, 255) && text.split('.').all(label)
}

/// How a host may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    Plain,
    /// `*.example.com`.
    Wildcard,
    /// `*-eu.example.com`.
    Partial,
    /// `*`.
    All,
    Malformed,
}

pub(super) fn host(text: &str) -> Host {
    if text == "*" {
        return Host::All;
    }
    if is_fqdn(text) {
        return Host::Plain;
    }
    let Some((first, rest)) = text.split_once('.') else { return Host::Malformed };
    let label = first.trim_matches('*');
    let stars = first.matches('*').count();
    if stars != 1 || label.contains('*') || !is_fqdn(rest) {
        return Host::Malformed;
    }
    match label.trim_matches('-') {
        "" if label.is_empty() => Host::Wildcard,
        "" => Host::Malformed,
        label if is_fqdn(label) => Host::Partial,
        _ => Host::Malformed,
    }
}

pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// An address with a prefix length.
pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let digits = !length.is_empty() && length.chars().all(|c| c.is_ascii_digit());
    let max = if address.is_ipv4() { 32 } else { 128 };
    digits && length.parse::<u8>().is_ok_and(|length| length <= max)
}

/// A decimal number of 16 bits.
pub(super) fn is_port(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The name of a label, with or without the prefix of a domain.
pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix = prefix.is_none_or(|prefix| bounded(prefix, 253) && prefix.split('.').all(is_dns_label));
    prefix && !name.is_empty() && is_label_value(name)
}

/// The value of a label.
pub(super) fn is_label_value(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    let fine = |c: char| end(c) || matches!(c, '-' | '_' | '.');
    text.is_empty() || text.len() <= 63 && text.chars().all(fine) && text.starts_with(end) && text.ends_with(end)
}

/// True or false in one of the writings the reference takes.
pub(super) fn is_bool(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False")
}

fn bounded(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max
}
