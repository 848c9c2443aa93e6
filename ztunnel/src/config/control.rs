//! Where the control plane and the CA are, and how we prove ourselves to them.

use std::{path::PathBuf, time::Duration};

use lateen_identity::channel::{ChannelConfig, Roots, Token};
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

const DEFAULT_ROOT: &str = "./var/run/secrets/istio/root-cert.pem";
const DEFAULT_TOKEN: &str = "./var/run/secrets/tokens/istio-token";
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

fn default_address(vars: &Vars) -> String {
    match vars.raw("KUBERNETES_SERVICE_HOST") {
        Some(_) => "https://istiod.istio-system.svc:15012".to_owned(),
        None => "https://localhost:15012".to_owned(),
    }
}

/// `kind` is `XDS` or `CA`, as in the variables' names.
fn channel(vars: &Vars, (address, kind): (&str, &str), cluster: &ClusterId) -> Result<ChannelConfig, ConfigError> {
    let address = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let is_server = address.parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| !host.is_empty()) && matches!(uri.scheme_str(), Some("http" | "https"))
    });
    if !is_server && !address.starts_with("unix:///") {
        return Err(ConfigError::Variable {
            name: format!("{kind}_ADDRESS"),
            reason: "it must be <host>:<port>, https://<host>:<port> or unix:///<path>".to_owned(),
        });
    }
    let headers = format!("{kind}_HEADER_");
    let headers = vars.with_prefix(&headers).map(|(name, value)| header(kind, name, value));
    Ok(ChannelConfig {
        address,
        roots: roots(vars, &format!("{kind}_ROOT_CA"))?,
        alternative_host: vars.text(&format!("ALT_{kind}_HOSTNAME")),
        token: token(vars),
        cluster: cluster.clone(),
        headers: headers.collect::<Result<_, _>>()?,
    })
}

fn header(kind: &str, name: &str, value: &str) -> Result<(String, String), ConfigError> {
    let valid = name.parse::<http::HeaderName>().is_ok() && value.parse::<http::HeaderValue>().is_ok();
    if !valid {
        return Err(ConfigError::Variable {
            name: format!("{kind}_HEADER_{name}"),
            reason: "name and value must be an HTTP header".to_owned(),
        });
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

/// Where distributions keep the system's roots as one PEM file.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

fn roots(vars: &Vars, name: &str) -> Result<Roots, ConfigError> {
    Ok(match vars.text(name) {
        None => Roots::File(DEFAULT_ROOT.into()),
        Some(given) if given.eq_ignore_ascii_case("SYSTEM") => {
            let found = SYSTEM_ROOTS.iter().find(|path| std::path::Path::new(path).exists());
            let missing = || ConfigError::Variable {
                name: name.to_owned(),
                reason: format!("none of {} exists; name a PEM file", SYSTEM_ROOTS.join(", ")),
            };
            Roots::File(found.ok_or_else(missing)?.into())
        }
        Some(given) if given.contains("-----BEGIN") => Roots::Pem(given),
        Some(given) => Roots::File(given.into()),
    })
}

fn token(vars: &Vars) -> Token {
    match vars.text("AUTH_TOKEN") {
        Some(given) if std::path::Path::new(&given).exists() => Token::File(given.into()),
        Some(given) => Token::Inline(given),
        None if std::path::Path::new(DEFAULT_TOKEN).exists() => Token::File(DEFAULT_TOKEN.into()),
        None => Token::None,
    }
}
