//! Where the control plane and the CA are, and how we prove ourselves to them.

use std::{path::PathBuf, time::Duration};

use lateen_identity::channel::{
    ChannelConfig,
    vars::{channel, default_address},
};
use lateen_types::name::ClusterId;
use lateen_wire::core::Node;

use super::{ConfigError, Vars, proxy_config::ProxyConfig};

/// Where workloads, services and policies come from.
#[derive(Debug, Clone)]
pub struct Control {
    /// The control plane; `None` if it was switched off with an empty address.
    pub server: Option<ChannelConfig>,
    /// Who we are.
    pub node: Node,
    /// Addresses are asked for one by one.
    pub on_demand: bool,
    /// Further resources from a file or a variable.
    pub local: Option<LocalSource>,
}

/// Resources that need no control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalSource {
    /// `LOCAL_XDS_PATH`.
    File(PathBuf),
    /// `LOCAL_XDS`.
    Text(String),
}

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct Ca {
    /// The authority.
    pub server: ChannelConfig,
    /// The validity asked for.
    pub secret_ttl: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Control {
    pub(super) fn read(
        vars: &Vars,
        proxy_config: &ProxyConfig,
        (node, cluster): (Node, &ClusterId),
    ) -> Result<Self, ConfigError> {
        // Set and empty is how the control plane is switched off.
        let address = match vars.raw("XDS_ADDRESS") {
            Some(given) => given.to_owned(),
            None => proxy_config.discovery_address.clone().unwrap_or_else(|| default_address(vars)),
        };
        let server = match address.trim() {
            "" => None,
            address => Some(channel(vars, (address, "XDS"), cluster)?),
        };
        let local = match (vars.text("LOCAL_XDS_PATH"), vars.text("LOCAL_XDS")) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::Conflict {
                    variables: "LOCAL_XDS_PATH and LOCAL_XDS",
                    reason: "both are set; keep one of them",
                });
            }
            (Some(path), None) => Some(LocalSource::File(path.into())),
            (None, text) => text.map(LocalSource::Text),
        };
        Ok(Self { server, node, on_demand: vars.flag_or("XDS_ON_DEMAND", false)?, local })
    }
}

impl Ca {
    pub(super) fn read(vars: &Vars, cluster: &ClusterId) -> Result<Self, ConfigError> {
        if vars.flag_or("FAKE_CA", false)? {
            return Err(ConfigError::Variable {
                name: "FAKE_CA".to_owned(),
                reason: "this build has no fake authority; point CA_ADDRESS at a real one".to_owned(),
            });
        }
        if vars.text("CRL_PATH").is_some() {
            return Err(ConfigError::Variable {
                name: "CRL_PATH".to_owned(),
                reason: "this build does not check revocation lists, and to go on would accept what was revoked; \
                         leave it unset and keep certificates short-lived (SECRET_TTL)"
                    .to_owned(),
            });
        }
        let address = vars.raw("CA_ADDRESS").map_or_else(|| default_address(vars), str::to_owned);
        if address.trim().is_empty() {
            return Err(ConfigError::Missing {
                name: "CA_ADDRESS",
                reason: "it is set to nothing; without an authority no workload has an identity",
            });
        }
        Ok(Self {
            server: channel(vars, (address.trim(), "CA"), cluster)?,
            secret_ttl: vars.duration_or("SECRET_TTL", DAY)?,
        })
    }
}
