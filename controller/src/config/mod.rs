//! Everything the environment says, read once and checked.
//!
//! In: environment variables (names as the reference has them). Out: [`Config`], or the first thing that is wrong.

mod duration;

use std::{path::PathBuf, time::Duration};

use lateen_cluster::{client::Access, store::Key};
use lateen_telemetry::log;

use crate::{
    ca::authority::Lifetimes,
    derive::{Mesh, visible::Sight},
    provision::Defaults,
    publish::Pace,
};

/// What the program runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// What holds for the mesh.
    pub mesh: Mesh,
    /// The namespace this program runs in.
    pub namespace: String,
    /// Which of several control planes this is.
    pub revision: String,
    /// What this process is called among its replicas; made up where the pod's name is not known.
    pub identity: String,
    /// More names of the serving certificate.
    pub custom_hosts: Vec<String>,
    /// Audiences a token may have.
    pub audiences: Vec<String>,
    /// Accounts of node proxies.
    pub trusted_accounts: Vec<Key>,
    /// A directory that may hold a plugged-in CA.
    pub ca_directory: PathBuf,
    /// Of certificates.
    pub lifetimes: Lifetimes,
    /// Of publishing.
    pub pace: Pace,
    /// What proxies of Gateways have; `None` where somebody else runs them.
    pub gateways: Option<Defaults>,
    /// Whether nodes lose the taint `cni.istio.io/not-ready` when their agent is ready.
    pub untaint: bool,
    /// How to reach the API.
    pub access: Access,
    /// Where to listen.
    pub ports: Ports,
    /// How to log.
    pub log: log::Config,
    /// How long open streams may take to end at shutdown.
    pub drain_timeout: Duration,
}

/// Where to listen; 0 is any free port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Discovery and CA, TLS.
    pub secure: u16,
    /// `/ready`.
    pub ready: u16,
    /// `/metrics`.
    pub metrics: u16,
    /// Questions of the API server, TLS.
    pub admission: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { secure: 15012, ready: 8080, metrics: 15014, admission: 15017 }
    }
}

/// A variable that cannot be used. What was given is not in it: errors go to logs, and any variable may hold a secret, at
/// the latest when somebody mixes two up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable} is not valid: {reason}")]
pub struct ConfigError {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// What seals sessions is derived from this Secret of the control plane's namespace, whatever the revision: clients of a
/// gateway keep their endpoints while it passes from one revision to the next.
const SESSION_SECRET: &str = "lateen-session-secret";

impl Config {
    /// Reads the process's environment.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Reads variables from `find`.
    fn read(find: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let or = |name: &str, usual: &str| find(name).unwrap_or_else(|| usual.to_owned());
        let list = |name: &str, usual: &str| -> Vec<String> {
            or(name, usual).split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
        };
        let namespace = or("POD_NAMESPACE", "istio-system");
        let lifetimes = Lifetimes {
            usual: duration(find, "DEFAULT_WORKLOAD_CERT_TTL", Lifetimes::default().usual)?,
            max: duration(find, "MAX_WORKLOAD_CERT_TTL", Lifetimes::default().max)?,
        };
        let pace = Pace {
            quiet: duration(find, "PILOT_DEBOUNCE_AFTER", Pace::default().quiet)?,
            max: duration(find, "PILOT_DEBOUNCE_MAX", Pace::default().max)?,
        };
        Ok(Self {
            mesh: Mesh {
                cluster: or("CLUSTER_ID", "Kubernetes"),
                domain: or("DOMAIN_SUFFIX", "cluster.local"),
                trust_domain: or("TRUST_DOMAIN", "cluster.local"),
                root_namespace: or("ROOT_NAMESPACE", &namespace),
                dry_run: boolean(find, "AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY")?,
                sight: Sight::default(),
                shown: crate::derive::Shown::default(),
                proxies: crate::derive::proxy::Defaults {
                    shadow_suffix: find(NO_SUFFIX).is_some() && !boolean(find, NO_SUFFIX)?,
                    ..crate::derive::proxy::Defaults::default()
                },
                confines_servers: boolean(find, "PILOT_SCOPE_GATEWAY_TO_NAMESPACE")?,
                sessions: Key::new(&namespace, SESSION_SECRET),
            },
            revision: or("REVISION", ""),
            identity: find("POD_NAME").unwrap_or_else(|| format!("controller-{:016x}", rand::random::<u64>())),
            custom_hosts: list("ISTIOD_CUSTOM_HOST", ""),
            audiences: list("TOKEN_AUDIENCES", "istio-ca"),
            trusted_accounts: accounts(&list("CA_TRUSTED_NODE_ACCOUNTS", &format!("{namespace}/ztunnel")))?,
            ca_directory: or("ROOT_CA_DIR", "/etc/cacerts").into(),
            lifetimes,
            pace,
            gateways: gateways(find)?,
            untaint: boolean(find, "PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS")?,
            access: find("KUBECONFIG").map_or(Access::Inferred, |path| Access::Kubeconfig(path.into())),
            ports: Ports {
                secure: port(find, "SECURE_GRPC_PORT", Ports::default().secure)?,
                ready: port(find, "HTTP_PORT", Ports::default().ready)?,
                metrics: port(find, "MONITORING_PORT", Ports::default().metrics)?,
                admission: port(find, "HTTPS_PORT", Ports::default().admission)?,
            },
            log: log_config(find)?,
            drain_timeout: duration(find, "TERMINATION_DRAIN_DURATION", Duration::from_secs(5))?,
            namespace,
        })
    }
}

/// Whether a copy of a request has the host of the request, as it is unless this is false.
const NO_SUFFIX: &str = "DISABLE_SHADOW_HOST_SUFFIX";

/// What proxies of Gateways have, unless they are switched off.
fn gateways(find: &dyn Fn(&str) -> Option<String>) -> Result<Option<Defaults>, ConfigError> {
    const OFF: &str = "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER";
    if find(OFF).is_some() && !boolean(find, OFF)? {
        return Ok(None);
    }
    let Some(given) = find("GATEWAY_DEFAULTS") else { return Ok(Some(Defaults::default())) };
    let read = Defaults::read(&given);
    read.map(Some).map_err(|error| ConfigError { variable: "GATEWAY_DEFAULTS", reason: error.to_string() })
}

fn log_config(find: &dyn Fn(&str) -> Option<String>) -> Result<log::Config, ConfigError> {
    let usual = log::Config::default();
    let format = match find("LOG_FORMAT") {
        None => usual.format,
        Some(given) => given
            .parse::<log::Format>()
            .map_err(|error| ConfigError { variable: "LOG_FORMAT", reason: error.to_string() })?,
    };
    // kube reports each failed request by itself; ours are reported where they are handled.
    let usual_filter = format!("{},kube_client=off", usual.filter);
    Ok(log::Config { filter: find("RUST_LOG").unwrap_or(usual_filter), format })
}

fn duration(
    find: &dyn Fn(&str) -> Option<String>,
    variable: &'static str,
    usual: Duration,
) -> Result<Duration, ConfigError> {
    let Some(given) = find(variable) else { return Ok(usual) };
    duration::parse(&given)
        .ok_or_else(|| ConfigError { variable, reason: "use a duration such as 24h, 1h30m, 500ms".to_owned() })
}

fn port(find: &dyn Fn(&str) -> Option<String>, variable: &'static str, usual: u16) -> Result<u16, ConfigError> {
    let Some(given) = find(variable) else { return Ok(usual) };
    given.parse().map_err(|_| ConfigError { variable, reason: "use a port number, 0 to 65535".to_owned() })
}

fn boolean(find: &dyn Fn(&str) -> Option<String>, variable: &'static str) -> Result<bool, ConfigError> {
    match find(variable).as_deref() {
        None | Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some(_) => Err(ConfigError { variable, reason: "use true or false".to_owned() }),
    }
}

fn accounts(list: &[String]) -> Result<Vec<Key>, ConfigError> {
    let one = |text: &String| match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Key::new(namespace, name))
        }
        Some(_) | None => Err(ConfigError {
            variable: "CA_TRUSTED_NODE_ACCOUNTS",
            reason: "use <namespace>/<service account>, several with commas".to_owned(),
        }),
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Config::read(&find)
    }

    #[test]
    fn nothing_said_is_the_usual() {
        let config = read(&[]).expect("valid");
        assert_eq!(config.namespace, "istio-system");
        assert_eq!(config.mesh.root_namespace, "istio-system");
        assert_eq!(config.audiences, ["istio-ca"]);
        assert_eq!(config.trusted_accounts, [Key::new("istio-system", "ztunnel")]);
        assert_eq!(config.ports, Ports::default());
        assert_eq!(config.lifetimes, Lifetimes::default());
    }

    #[test]
    fn what_is_said_counts() {
        let config = read(&[
            ("POD_NAMESPACE", "mesh"),
            ("CA_TRUSTED_NODE_ACCOUNTS", "a/b, c/d"),
            ("DEFAULT_WORKLOAD_CERT_TTL", "1h30m"),
            ("HTTP_PORT", "0"),
            ("AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY", "true"),
            ("DISABLE_SHADOW_HOST_SUFFIX", "false"),
        ])
        .expect("valid");
        assert_eq!(config.mesh.root_namespace, "mesh");
        assert_eq!(config.trusted_accounts, [Key::new("a", "b"), Key::new("c", "d")]);
        assert_eq!(config.lifetimes.usual, Duration::from_secs(5400));
        assert_eq!(config.ports.ready, 0);
        assert!(config.mesh.dry_run && config.mesh.proxies.shadow_suffix);
        assert_eq!(config.gateways, Some(Defaults::default()));
        let off = read(&[("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "false")]).expect("valid");
        assert_eq!(off.gateways, None);
        let error = read(&[("GATEWAY_DEFAULTS", "{}}")]).map(|_| ()).expect_err("no JSON");
        assert_eq!(error.variable, "GATEWAY_DEFAULTS");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (variable, value) in [
            ("CA_TRUSTED_NODE_ACCOUNTS", "s3cret"),
            ("MAX_WORKLOAD_CERT_TTL", "long"),
            ("HTTP_PORT", "70000"),
            ("AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY", "maybe"),
            ("LOG_FORMAT", "xml"),
            ("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "maybe"),
        ] {
            let error = read(&[(variable, value)]).map(|_| ()).expect_err("wrong");
            assert_eq!(error.variable, variable);
            assert!(!format!("{error} {error:?}").contains(value), "{error}");
        }
    }
}
