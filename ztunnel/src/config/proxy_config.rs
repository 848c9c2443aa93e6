//! The mesh's ProxyConfig: the file's `defaultConfig`, overridden field by field by `PROXY_CONFIG`.
//!
//! In: YAML or JSON. Out: the few fields a node proxy uses; all others are other programs' business and are ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ConfigError, MESH_FILE, Vars};

/// The fields we use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProxyConfig {
    pub(super) discovery_address: Option<String>,
    pub(super) proxy_admin_port: Option<u16>,
    pub(super) stats_port: Option<u16>,
    pub(super) concurrency: Option<u16>,
    pub(super) proxy_metadata: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MeshConfig {
    default_config: ProxyConfig,
}

impl ProxyConfig {
    pub(super) fn read(vars: &Vars, mesh: Option<&str>) -> Result<Self, ConfigError> {
        let base = match mesh.filter(|text| !text.trim().is_empty()) {
            None => Self::default(),
            Some(text) => {
                let mesh: MeshConfig = serde_saphyr::from_str(text).map_err(|error| ConfigError::File {
                    path: MESH_FILE.to_owned(),
                    reason: format!("not a MeshConfig{}", place(&error)),
                })?;
                mesh.default_config
            }
        };
        let parse = |text: &str| {
            serde_saphyr::from_str::<Self>(text)
                .map_err(|error| format!("it must be a ProxyConfig in YAML or JSON{}", place(&error)))
        };
        Ok(match vars.parsed("PROXY_CONFIG", parse)? {
            None => base,
            Some(over) => base.overridden_by(over),
        })
    }

    fn overridden_by(mut self, over: Self) -> Self {
        self.proxy_metadata.extend(over.proxy_metadata);
        Self {
            discovery_address: over.discovery_address.or(self.discovery_address),
            proxy_admin_port: over.proxy_admin_port.or(self.proxy_admin_port),
            stats_port: over.stats_port.or(self.stats_port),
            concurrency: over.concurrency.or(self.concurrency),
            proxy_metadata: self.proxy_metadata,
        }
    }
}

/// Where it is wrong. The error itself quotes the text, which may hold a token (`proxyMetadata`).
fn place(error: &serde_saphyr::Error) -> String {
    error.location().map(|at| format!("; look at line {}, column {}", at.line(), at.column())).unwrap_or_default()
}
