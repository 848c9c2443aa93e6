//! What a gateway tells those behind it of a request that comes from outside the mesh.
//!
//! In: headers as the client wrote them, what the gateway itself has seen. Out: headers that mean what they say. The last
//! entry of `x-forwarded-for` is always ours.

use std::{io::Write as _, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
static EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
/// Headers by which proxies of the mesh tell each other what to do, and who they are.
const AMONG_PROXIES: &str = "x-envoy-";

/// What the gateway has seen.
#[derive(Debug, Clone, Copy)]
pub struct Outside<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The client, as trusted proxies in front name it.
    pub remote: IpAddr,
    /// `http` or `https`, as the connection has it.
    pub scheme: &'static str,
    /// How many proxies in front are trusted.
    pub trusted_proxies: u32,
    /// What is told of the client's certificate.
    pub certificate: Option<&'a HeaderValue>,
}

/// Makes the headers of a request from outside mean what they say.
pub fn from_outside(headers: &mut HeaderMap, outside: &Outside<'_>) {
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with(AMONG_PROXIES)).cloned() {
        headers.remove(name);
    }
    match outside.certificate {
        Some(certificate) => drop(headers.insert(&FORWARDED_CLIENT_CERT, certificate.clone())),
        None => drop(headers.remove(&FORWARDED_CLIENT_CERT)),
    }
    let told = headers.get(&FORWARDED_PROTO).map(HeaderValue::as_bytes);
    let is_one = headers.get_all(&FORWARDED_PROTO).iter().count() == 1;
    let is_believed = outside.trusted_proxies > 0 && is_one && matches!(told, Some(b"http" | b"https"));
    if !is_believed {
        headers.insert(&FORWARDED_PROTO, HeaderValue::from_static(outside.scheme));
    }
    let remote = text(outside.remote);
    let peer = if outside.peer == outside.remote { remote.clone() } else { text(outside.peer) };
    headers.insert(&EXTERNAL_ADDRESS, remote);
    let entries: Vec<&[u8]> = headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    if entries.is_empty() {
        headers.insert(&FORWARDED_FOR, peer);
        return;
    }
    let all = [entries.join(&b','), peer.as_bytes().to_vec()].join(&b',');
    // What came in headers can go in one.
    headers.insert(&FORWARDED_FOR, HeaderValue::from_bytes(&all).unwrap_or(peer));
}

fn text(ip: IpAddr) -> HeaderValue {
    // Digits, letters, dots and colons; the longest is an IPv6 address that holds one of IPv4.
    let mut word = [0; 45];
    let mut rest = &mut word[..];
    let written = write!(rest, "{ip}").map(|()| 45 - rest.len());
    let value = written.ok().and_then(|length| HeaderValue::from_bytes(&word[..length]).ok());
    value.unwrap_or_else(|| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "203.0.113.9";

    fn made(given: &[(&'static str, &'static str)], outside: Outside<'_>) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        from_outside(&mut headers, &outside);
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
        let mut all: Vec<String> = headers.iter().map(line).collect();
        all.sort();
        all
    }

    fn outside(trusted_proxies: u32) -> Outside<'static> {
        let peer = PEER.parse().expect("an address");
        Outside { peer, remote: peer, scheme: "http", trusted_proxies, certificate: None }
    }

    #[test]
    fn strangers_are_not_believed() {
        let given = [
            ("x-envoy-upstream-rq-timeout-ms", "1"),
            ("x-envoy-internal", "true"),
            ("x-envoy-external-address", "10.0.0.1"),
            ("x-envoy-peer-metadata", "x"),
            ("x-forwarded-client-cert", "URI=spiffe://td/ns/a/sa/admin"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2, 10.0.0.3"),
            ("x-mine", "1"),
        ];
        let expected = [
            "x-envoy-external-address: 203.0.113.9",
            "x-forwarded-for: 10.0.0.1,10.0.0.2, 10.0.0.3,203.0.113.9",
            "x-forwarded-proto: http",
            "x-mine: 1",
        ];
        assert_eq!(made(&given, outside(0)), expected);
        assert_eq!(made(&[], outside(0))[1], "x-forwarded-for: 203.0.113.9");
    }

    #[test]
    fn trusted_proxies_tell_the_scheme() {
        let scheme = |given: &[(&'static str, &'static str)], trusted| {
            made(given, outside(trusted)).into_iter().find(|line| line.starts_with("x-forwarded-proto: "))
        };
        let https = ("x-forwarded-proto", "https");
        assert_eq!(scheme(&[https], 1).as_deref(), Some("x-forwarded-proto: https"));
        assert_eq!(scheme(&[https], 0).as_deref(), Some("x-forwarded-proto: http"));
        assert_eq!(scheme(&[https, https], 1).as_deref(), Some("x-forwarded-proto: http"), "which of them?");
        assert_eq!(scheme(&[("x-forwarded-proto", "javascript")], 1).as_deref(), Some("x-forwarded-proto: http"));
    }

    #[test]
    fn a_verified_certificate_is_told_of() {
        let told = HeaderValue::from_static("Hash=00");
        let outside = Outside { certificate: Some(&told), scheme: "https", ..outside(0) };
        let lines = made(&[("x-forwarded-client-cert", "Hash=ff")], outside);
        assert!(lines.contains(&"x-forwarded-client-cert: Hash=00".to_owned()), "{lines:?}");
        assert!(lines.contains(&"x-forwarded-proto: https".to_owned()), "{lines:?}");
    }
}
