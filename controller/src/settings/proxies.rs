//! What holds for the requests of all waypoints.

use std::time::Duration;

use lateen_wire::proxy::PathNormalization;
use serde_json::Value;

use super::{SettingsError, member};
use crate::{
    derive::proxy::{AccessLog, Defaults},
    facts::ProxyConfig,
};

/// What is `written`, beside what the environment says.
pub(super) fn read(written: &Value, usual: &Defaults) -> Result<Defaults, SettingsError> {
    let config = ProxyConfig::read(&written["defaultConfig"]).map_err(|reason| wrong("defaultConfig", reason))?;
    for what in &config.unused {
        tracing::warn!(setting = what, "a setting of the mesh's defaultConfig does nothing");
    }
    Ok(Defaults {
        access_log: access_log(written)?,
        normalization: normalization(written)?.unwrap_or(usual.normalization),
        connect_timeout: length(written, "connectTimeout")?.unwrap_or(usual.connect_timeout),
        detection_timeout: length(written, "protocolDetectionTimeout")?.unwrap_or(usual.detection_timeout),
        config,
        shadow_suffix: usual.shadow_suffix,
    })
}

/// Proxies write to their standard output, whatever file is named; no file is no log.
fn access_log(written: &Value) -> Result<Option<AccessLog>, SettingsError> {
    let file: String = member(written, "accessLogFile")?.unwrap_or_default();
    let format: String = member(written, "accessLogFormat")?.unwrap_or_default();
    let json = match member::<String>(written, "accessLogEncoding")?.as_deref() {
        None | Some("TEXT") => false,
        Some("JSON") => true,
        Some(other) => return Err(wrong("accessLogEncoding", format!("{other:?} is unknown; use TEXT or JSON"))),
    };
    Ok((!file.is_empty()).then_some(AccessLog { json, format }))
}

fn normalization(written: &Value) -> Result<Option<PathNormalization>, SettingsError> {
    let block: Value = member(written, "pathNormalization")?.unwrap_or_default();
    Ok(match block.get("normalization").and_then(Value::as_str) {
        None | Some("DEFAULT") => None,
        Some("BASE") => Some(PathNormalization::Base),
        Some("NONE") => Some(PathNormalization::None),
        Some("MERGE_SLASHES") => Some(PathNormalization::MergeSlashes),
        Some("DECODE_AND_MERGE_SLASHES") => Some(PathNormalization::DecodeAndMergeSlashes),
        Some(other) => {
            let words = "use NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES";
            return Err(wrong("pathNormalization.normalization", format!("{other:?} is unknown; {words}")));
        }
    })
}

fn length(written: &Value, field: &'static str) -> Result<Option<Duration>, SettingsError> {
    member::<lateen_cluster::api::Duration>(written, field).map(|length| length.map(|length| length.0))
}

fn wrong(field: &str, reason: String) -> SettingsError {
    SettingsError { field: field.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_of_all_proxies() {
        let read = |written: &Value| read(written, &Defaults::default());
        assert_eq!(read(&json!({})), Ok(Defaults::default()));
        let written = json!({"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 2}}, "accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON", "connectTimeout": "3s",
            "protocolDetectionTimeout": "100ms", "pathNormalization": {"normalization": "MERGE_SLASHES"}});
        let expected = Defaults {
            access_log: Some(AccessLog { json: true, format: String::new() }),
            normalization: PathNormalization::MergeSlashes,
            connect_timeout: Duration::from_secs(3),
            detection_timeout: Duration::from_millis(100),
            config: ProxyConfig { trusted_proxies: Some(2), ..ProxyConfig::default() },
            shadow_suffix: false,
        };
        assert_eq!(read(&written), Ok(expected));
    }

    #[test]
    fn words_nobody_knows_are_no_settings() {
        let refused = |written: Value| read(&written, &Defaults::default()).expect_err("refused").field;
        assert_eq!(refused(json!({"accessLogEncoding": "XML"})), "accessLogEncoding");
        assert_eq!(refused(json!({"connectTimeout": "soon"})), "connectTimeout");
        let block = json!({"pathNormalization": {"normalization": "ALL"}});
        assert_eq!(refused(block), "pathNormalization.normalization");
    }
}
