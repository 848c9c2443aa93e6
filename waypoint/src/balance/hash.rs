//! What of a request is hashed, so that equal keys go to equal endpoints.
//!
//! In: the key's kind, a request. Out: a hash, the same in every replica and version of the proxy; and the cookie of a
//! client that has none. Absent on purpose: what becomes of the hash.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

use super::policy::{HashCookie, HashKey, MadeCookie};
use crate::{filter::session::cookie, route::query_value};

/// A hash that depends on nothing but the bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(bytes)
}

/// What of a request may be hashed.
#[derive(Debug, Clone, Copy)]
pub struct Hashed<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query.
    pub query: Option<&'a str>,
    /// The original client, not the last hop.
    pub client: Option<IpAddr>,
}

/// The hash of a request; `None`: it has no such key, any endpoint will do.
pub fn of_request(key: &HashKey, request: &Hashed<'_>) -> Option<u64> {
    match key {
        HashKey::Header(name) => {
            let mut values = request.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            let first = values.next()?;
            if values.size_hint().1 == Some(0) {
                return Some(hash(first));
            }
            let mut all: SmallVec<[u8; 256]> = first.into();
            values.for_each(|value| {
                all.push(b',');
                all.extend_from_slice(value);
            });
            Some(hash(&all))
        }
        HashKey::Cookie(one) => cookie(request.headers, &one.name).map(hash),
        HashKey::SourceIp => request.client.map(of_address),
        HashKey::Query(name) => query_value(request.query, name).map(|value| hash(value.as_bytes())),
    }
}

/// The hash of a client's address, its port left out.
pub fn of_address(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    }
}

/// A cookie for a client that came without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCookie {
    /// What the request is hashed to; the client's next one will be too.
    pub hash: u64,
    /// `set-cookie` of the answer.
    pub set_cookie: HeaderValue,
}

/// The cookie for a client that has none, where the policy makes one.
pub fn new_cookie(cookie: &HashCookie, client: SocketAddr, local: SocketAddr) -> Option<NewCookie> {
    let age = match cookie.made {
        MadeCookie::Never => return None,
        MadeCookie::ForSession => None,
        MadeCookie::For(lifetime) => Some(lifetime.as_secs()),
    };
    let value = format!("{:016x}", hash(format!("{client} {local}").as_bytes()));
    let mut text = format!("{}=\"{value}\"", cookie.name);
    if let Some(age) = age {
        write!(text, "; Max-Age={age}").expect("a String takes everything");
    }
    if !cookie.path.is_empty() {
        write!(text, "; Path={}", cookie.path).expect("a String takes everything");
    }
    text.push_str("; HttpOnly");
    text.push_str(&cookie.attributes);
    let set_cookie = HeaderValue::from_str(&text).ok()?;
    Some(NewCookie { hash: hash(value.as_bytes()), set_cookie })
}
