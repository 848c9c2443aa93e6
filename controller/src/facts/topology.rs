//! What stands in front of a gateway, and what it takes from there: of the mesh's `defaultConfig`, and of the annotation
//! `proxy.istio.io/config` of a Gateway.

use lateen_cluster::labels;
use serde::Deserialize;
use serde_json::Value;

/// Nothing said is `None`: then what is less near counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topology {
    /// How many proxies in front are trusted.
    pub trusted_proxies: Option<u32>,
    /// Whether PROXY protocol is read, and demanded.
    pub proxy_protocol: Option<bool>,
    /// Whether HTTP/1.0 is served.
    pub http10: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    gateway_topology: WrittenTopology,
    proxy_metadata: std::collections::BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenTopology {
    num_trusted_proxies: Option<u32>,
    forward_client_cert_details: Option<String>,
    proxy_protocol: Option<Value>,
}

const HTTP10: &str = "ISTIO_META_HTTP10";

impl Topology {
    /// Of a block of settings.
    pub fn read(written: &Value) -> Result<Self, String> {
        if written.is_null() {
            return Ok(Self::default());
        }
        let written = Written::deserialize(written).map_err(|error| error.to_string())?;
        let topology = written.gateway_topology;
        if let Some(other) = topology.forward_client_cert_details.filter(|word| word != "SANITIZE_SET") {
            return Err(format!(
                "gatewayTopology.forwardClientCertDetails: {other:?} is not supported; use SANITIZE_SET"
            ));
        }
        Ok(Self {
            trusted_proxies: topology.num_trusted_proxies,
            proxy_protocol: topology.proxy_protocol.map(|_| true),
            http10: written.proxy_metadata.get(HTTP10).map(|word| word == "1"),
        })
    }

    /// Of the annotation's text.
    pub fn annotated(text: Option<&String>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self::default()) };
        let of_annotation = |reason: String| format!("annotation {}: {reason}", labels::PROXY_CONFIG);
        let written: Value = serde_saphyr::from_str(text).map_err(|error| of_annotation(error.to_string()))?;
        Self::read(&written).map_err(of_annotation)
    }

    /// What is said here, else what `further` says.
    #[must_use]
    pub fn or(self, further: Self) -> Self {
        Self {
            trusted_proxies: self.trusted_proxies.or(further.trusted_proxies),
            proxy_protocol: self.proxy_protocol.or(further.proxy_protocol),
            http10: self.http10.or(further.http10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_word_counts() {
        let text = "gatewayTopology: {numTrustedProxies: 2}\nproxyMetadata: {ISTIO_META_HTTP10: '1'}".to_owned();
        let near = Topology::annotated(Some(&text)).expect("readable");
        let far = Topology { trusted_proxies: Some(1), proxy_protocol: Some(true), http10: None };
        let both = Topology { trusted_proxies: Some(2), proxy_protocol: Some(true), http10: Some(true) };
        assert_eq!(near.or(far), both);
        let refused = "gatewayTopology: {forwardClientCertDetails: FORWARD_ONLY}".to_owned();
        assert!(Topology::annotated(Some(&refused)).is_err());
    }
}
