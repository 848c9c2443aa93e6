//! Delta discovery as a server speaks it that encodes each resource once, for all its clients.
//!
//! In: resources in their encoded form. Out: the same bytes on the wire as [`crate::discovery::DeltaDiscoveryResponse`],
//! whose fields of one number these are.

use bytes::Bytes;
use prost::{DecodeError, Message as _};

use crate::discovery::DeltaDiscoveryResponse;

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`, its resources encoded already. To clone it copies no resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// Each an encoded [`crate::discovery::Resource`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    /// The type of all of them.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// What an acknowledgement names.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names of those that are no more.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

impl Response {
    /// As a client reads it.
    pub fn decoded(&self) -> Result<DeltaDiscoveryResponse, DecodeError> {
        DeltaDiscoveryResponse::decode(self.encode_to_vec().as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Resource;

    #[test]
    fn it_is_the_same_message() {
        let resource =
            Resource { name: "n".into(), version: "v".into(), aliases: vec!["a".into()], ..Default::default() };
        let whole = DeltaDiscoveryResponse {
            resources: vec![resource.clone(), Resource::default()],
            type_url: "t".into(),
            nonce: "7".into(),
            removed_resources: vec!["gone".into()],
            ..Default::default()
        };
        let encoded = Response {
            resources: vec![resource.encode_to_vec().into(), Bytes::new()],
            type_url: "t".into(),
            nonce: "7".into(),
            removed_resources: vec!["gone".into()],
        };
        assert_eq!(encoded.encode_to_vec(), whole.encode_to_vec());
        assert_eq!(encoded.decoded(), Ok(whole));
    }
}
