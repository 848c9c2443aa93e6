//! Discovery responses as far as a counting proxy reads them: how many resources, and the names of those it must know.
//!
//! Fields that are not named here are skipped by the decoder; resources stay bytes until somebody asks for their name.

use bytes::Bytes;
use prost::Message;

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub removed: Vec<String>,
}

/// `envoy.service.discovery.v3.Resource`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Named {
    #[prost(string, tag = "3")]
    pub name: String,
}

impl Response {
    /// The names of what it puts.
    pub fn names(&self) -> impl Iterator<Item = anyhow::Result<String>> {
        self.resources.iter().map(|resource| Ok(Named::decode(resource.clone())?.name))
    }
}

#[cfg(test)]
mod tests {
    use lateen_wire::discovery::{DeltaDiscoveryResponse, Resource};

    use super::*;

    #[test]
    fn what_is_not_read_is_skipped() {
        let resource = |name: &str| Resource {
            name: name.to_owned(),
            version: "1".to_owned(),
            aliases: vec!["/1.2.3.4".to_owned()],
            resource: Some(prost_types::Any { type_url: "t".to_owned(), value: vec![1, 2, 3] }),
            ttl: None,
        };
        let whole = DeltaDiscoveryResponse {
            system_version_info: "s".to_owned(),
            resources: vec![resource("a"), resource("b")],
            type_url: "t".to_owned(),
            nonce: "7".to_owned(),
            removed_resources: vec!["c".to_owned()],
        };
        let read = Response::decode(Bytes::from(whole.encode_to_vec())).expect("the same message");
        assert_eq!((read.nonce.as_str(), read.removed.as_slice()), ("7", ["c".to_owned()].as_slice()));
        assert_eq!(read.names().collect::<Result<Vec<_>, _>>().expect("names"), ["a", "b"]);
    }
}
