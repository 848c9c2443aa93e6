//! Who we say we are to the control plane.
//!
//! In: `ISTIO_META_*`, `ISTIO_METAJSON_*`, proxyMetadata, our pod's names. Out: the xDS node.

use std::collections::BTreeMap;

use lateen_wire::core::Node;
use prost_types::{ListValue, Struct, Value, value::Kind};

use super::{ConfigError, Vars, proxy_config::ProxyConfig};

/// What the node carries beside its id.
pub(super) type Metadata = BTreeMap<String, Value>;

/// Metadata from proxyMetadata (lowest), then `ISTIO_METAJSON_*`, then `ISTIO_META_*`.
pub(super) fn metadata(vars: &Vars, proxy_config: &ProxyConfig) -> Result<Metadata, ConfigError> {
    let mut all = Metadata::new();
    for (key, value) in &proxy_config.proxy_metadata {
        let key = key.strip_prefix("ISTIO_META_").unwrap_or(key);
        all.insert(key.to_owned(), string(value));
    }
    for (key, given) in vars.with_prefix("ISTIO_METAJSON_") {
        let json: serde_json::Value = serde_json::from_str(given).map_err(|error| ConfigError::Variable {
            name: format!("ISTIO_METAJSON_{key}"),
            reason: format!("it must be JSON: {error}"),
        })?;
        all.insert(key.to_owned(), from_json(json));
    }
    all.extend(vars.with_prefix("ISTIO_META_").map(|(key, value)| (key.to_owned(), string(value))));
    Ok(all)
}

/// A metadata entry that is text.
pub(super) fn text(metadata: &Metadata, key: &str) -> Option<String> {
    match &metadata.get(key)?.kind {
        Some(Kind::StringValue(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// The node: `ztunnel~<address>~<pod>.<namespace>~<namespace>.svc.cluster.local`, four parts between `~`.
pub(super) fn node(vars: &Vars, metadata: &Metadata) -> Node {
    let name = vars.text("POD_NAME").unwrap_or_default();
    let namespace = vars.text("POD_NAMESPACE").unwrap_or_default();
    let address = vars.text("INSTANCE_IP").unwrap_or_else(|| "1.1.1.1".to_owned());
    let mut fields = metadata.clone();
    let own = [
        ("NAME", name.clone()),
        ("NAMESPACE", namespace.clone()),
        ("INSTANCE_IPS", address.clone()),
        ("NODE_NAME", vars.text("NODE_NAME").unwrap_or_default()),
    ];
    fields.extend(own.map(|(key, value)| (key.to_owned(), string(&value))));
    Node {
        id: format!("ztunnel~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

fn string(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

/// JSON as protobuf carries it; every number is a double there.
fn from_json(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(from_json).collect() }),
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, from_json(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}
