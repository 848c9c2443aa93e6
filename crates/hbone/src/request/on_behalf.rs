//! `x-lateen-client-identity`: on whose behalf a waypoint calls, for the ztunnel at the other end.
//!
//! In: a request's headers. Out: what they say. Absent on purpose: whether it is to be believed: nobody has proven it, and
//! whoever can open a tunnel can write it.

use http::{HeaderMap, HeaderName};
use lateen_types::id::SpiffeId;

/// The header's name. Its value is the client's SPIFFE id.
pub static CLIENT_IDENTITY: HeaderName = HeaderName::from_static("x-lateen-client-identity");

/// What a CONNECT says of whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnBehalf {
    /// Nothing: the caller calls for itself.
    #[default]
    Itself,
    /// This client.
    Client(SpiffeId),
    /// Something that is no identity, or several of them.
    Unreadable,
}

impl OnBehalf {
    /// Reads a request's headers. There may be one such header, with one identity.
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(&CLIENT_IDENTITY).iter();
        let Some(first) = values.next() else { return Self::Itself };
        match (first.to_str().ok().and_then(|text| text.parse().ok()), values.next()) {
            (Some(client), None) => Self::Client(client),
            (_, _) => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_identity_in_one_header_is_read() {
        const WEB: &[u8] = b"spiffe://cluster.local/ns/shop/sa/web";
        let web = || OnBehalf::Client("spiffe://cluster.local/ns/shop/sa/web".parse().expect("valid"));
        for (values, expected) in [
            (&[][..], OnBehalf::Itself),
            (&[WEB][..], web()),
            (&[WEB, WEB], OnBehalf::Unreadable),
            (&[WEB, b""], OnBehalf::Unreadable),
            (&[b""], OnBehalf::Unreadable),
            (&[b"cluster.local/ns/shop/sa/web"], OnBehalf::Unreadable),
            (&[b"spiffe://cluster.local/ns/shop/sa/web,spiffe://cluster.local/ns/a/sa/b"], OnBehalf::Unreadable),
            (&[b"spiffe://cluster.local/ns/shop/sa/web/x"], OnBehalf::Unreadable),
            (&[b"\xff"], OnBehalf::Unreadable),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&CLIENT_IDENTITY, HeaderValue::from_bytes(value).expect("no control characters"));
            }
            assert_eq!(OnBehalf::from_headers(&headers), expected, "{values:?}");
        }
    }
}
