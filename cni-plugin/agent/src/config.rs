//! The agent's settings, under the reference's names.
//!
//! In: environment variables. Out: [`Config`], valid. Absent on purpose: defaults anywhere else.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use lateen_cluster::enrol::{Enablement, EnablementSelector, Rules, standard_enablement};
use lateen_telemetry::log;

use crate::{
    install::{PLUGIN, Places},
    rules::{DnsCapture, Families, PodOptions, ProbeAddresses},
};

/// Everything that may be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// NODE_NAME
    pub node: String,
    /// CNI_AGENT_RUN_DIR
    pub run_dir: PathBuf,
    /// ZTUNNEL_UDS_ADDRESS
    pub zds_socket: PathBuf,
    /// POD_NAMESPACE, EXCLUDE_NAMESPACES, AMBIENT_ENABLEMENT_SELECTOR
    pub enrolment: Rules,
    /// AMBIENT_DNS_CAPTURE, AMBIENT_IPV6, HOST_PROBE_SNAT_IP, HOST_PROBE_SNAT_IPV6
    pub pods: PodOptions,
    /// AMBIENT_RECONCILE_POD_RULES_ON_STARTUP
    pub repair_rules: bool,
    /// HEALTH_PORT
    pub health_port: u16,
    /// MONITORING_PORT
    pub metrics_port: u16,
    /// Where the node's files are mounted, `/host` in a container.
    pub host_root: PathBuf,
    /// ALLOW_SWITCH_TO_HOST_NS: whether the node's namespace is that of its first process, not ours. Off for an agent
    /// that shares the node's network.
    pub switch_to_host: bool,
    /// CNI_INSTALL: whether the plugin is installed on the node, and where. Off where something else installs it.
    pub install: Option<Places>,
    /// POD_NAMESPACE
    pub namespace: String,
    /// RUST_LOG, LOG_FORMAT
    pub log: log::Config,
}

/// A variable that is missing or says nothing valid. What was given is not in it: errors go to logs, and any variable may
/// hold a secret, at the latest when somebody mixes two up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {name} is not valid: {mend}")]
pub struct ConfigError {
    name: &'static str,
    mend: String,
}

impl Config {
    /// Reads the process's environment.
    #[allow(clippy::disallowed_methods, reason = "this is the config module")]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// Reads variables through `var`.
    pub fn read(var: &dyn Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
        let node = var("NODE_NAME").filter(|name| !name.is_empty());
        let log = log::Config {
            filter: var("RUST_LOG").unwrap_or_else(|| "info".into()),
            format: parsed(var, "LOG_FORMAT", log::Format::Plain)?,
        };
        let host_root: PathBuf = parsed(var, "HOST_ROOT", "/host".into())?;
        Ok(Self {
            node: node.ok_or_else(|| wrong("NODE_NAME", "set it from the pod's spec.nodeName"))?,
            run_dir: parsed(var, "CNI_AGENT_RUN_DIR", "/var/run/istio-cni".into())?,
            zds_socket: parsed(var, "ZTUNNEL_UDS_ADDRESS", "/var/run/ztunnel/ztunnel.sock".into())?,
            enrolment: enrolment(var)?,
            pods: pod_options(var)?,
            repair_rules: flag(var, "AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", true)?,
            health_port: parsed(var, "HEALTH_PORT", 8000)?,
            metrics_port: parsed(var, "MONITORING_PORT", 15014)?,
            install: places(var, &host_root)?,
            namespace: own_namespace(var),
            host_root,
            switch_to_host: flag(var, "ALLOW_SWITCH_TO_HOST_NS", false)?,
            log,
        })
    }
}

type Var<'a> = &'a dyn Fn(&'static str) -> Option<String>;

fn own_namespace(var: Var<'_>) -> String {
    var("POD_NAMESPACE").filter(|name| !name.is_empty()).unwrap_or_else(|| "istio-system".into())
}

fn places(var: Var<'_>, host_root: &Path) -> Result<Option<Places>, ConfigError> {
    if !flag(var, "CNI_INSTALL", true)? {
        return Ok(None);
    }
    Ok(Some(Places {
        net_dir: parsed(var, "MOUNTED_CNI_NET_DIR", host_root.join("etc/cni/net.d"))?,
        bin_dir: parsed(var, "MOUNTED_CNI_BIN_DIR", host_root.join("opt/cni/bin"))?,
        conf_name: file_name(var, "CNI_CONF_NAME")?,
        source: parsed(var, "CNI_PLUGIN_SOURCE", Path::new("/opt/cni/bin").join(PLUGIN))?,
    }))
}

fn file_name(var: Var<'_>, name: &'static str) -> Result<Option<String>, ConfigError> {
    match var(name).filter(|text| !text.is_empty()) {
        Some(text) if text.contains('/') => Err(wrong(name, "write a file's name without its directory")),
        other => Ok(other),
    }
}

fn enrolment(var: Var<'_>) -> Result<Rules, ConfigError> {
    let mut rules = Rules::standard(&own_namespace(var));
    if let Some(list) = var("EXCLUDE_NAMESPACES") {
        rules.excluded_namespaces =
            list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    rules.enablement = match var("AMBIENT_ENABLEMENT_SELECTOR").filter(|text| !text.trim().is_empty()) {
        None => standard_enablement(),
        Some(text) => enablement(&text).map_err(|mend| wrong("AMBIENT_ENABLEMENT_SELECTOR", mend))?,
    };
    Ok(rules)
}

fn enablement(text: &str) -> Result<Vec<Enablement>, String> {
    let written: Vec<EnablementSelector> = serde_saphyr::from_str(text)
        .map_err(|_quotes_the_text| "write a YAML list of {podSelector, namespaceSelector}".to_owned())?;
    written.iter().map(|one| Enablement::try_from(one).map_err(|error| error.to_string())).collect()
}

fn pod_options(var: Var<'_>) -> Result<PodOptions, ConfigError> {
    let standard = ProbeAddresses::default();
    let probes = ProbeAddresses {
        v4: parsed(var, "HOST_PROBE_SNAT_IP", standard.v4)?,
        v6: parsed(var, "HOST_PROBE_SNAT_IPV6", standard.v6)?,
    };
    let dns = if flag(var, "AMBIENT_DNS_CAPTURE", true)? { DnsCapture::On } else { DnsCapture::Off };
    let families = if flag(var, "AMBIENT_IPV6", true)? { Families::Both } else { Families::V4 };
    Ok(PodOptions { families, dns, probes, ..PodOptions::default() })
}

fn flag(var: Var<'_>, name: &'static str, otherwise: bool) -> Result<bool, ConfigError> {
    match var(name).as_deref() {
        None | Some("") => Ok(otherwise),
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => Err(wrong(name, "write true or false")),
    }
}

fn parsed<T: FromStr>(var: Var<'_>, name: &'static str, otherwise: T) -> Result<T, ConfigError>
where
    T::Err: std::fmt::Display,
{
    match var(name).filter(|text| !text.is_empty()) {
        None => Ok(otherwise),
        Some(text) => text.parse().map_err(|error: T::Err| wrong(name, error.to_string())),
    }
}

fn wrong(name: &'static str, mend: impl Into<String>) -> ConfigError {
    ConfigError { name, mend: mend.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let find =
            |name: &'static str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::read(&find)
    }

    #[test]
    fn defaults_need_only_the_nodes_name() {
        let config = read(&[("NODE_NAME", "n1")]).expect("valid");
        assert_eq!((config.health_port, config.metrics_port), (8000, 15014));
        assert_eq!(config.pods, PodOptions::default());
        assert!(config.repair_rules);
        let places = config.install.expect("installs by itself");
        assert_eq!(places.net_dir, Path::new("/host/etc/cni/net.d"));
        assert_eq!(places.source, Path::new("/opt/cni/bin/lateen-cni"));
        assert_eq!(config.enrolment.excluded_namespaces, ["kube-system"]);
        assert!(read(&[]).expect_err("no node").to_string().contains("NODE_NAME"));
    }

    #[test]
    fn settings_are_read_and_wrong_ones_named() {
        let config = read(&[
            ("NODE_NAME", "n1"),
            ("AMBIENT_DNS_CAPTURE", "false"),
            ("AMBIENT_IPV6", "false"),
            ("EXCLUDE_NAMESPACES", "a, b"),
            ("AMBIENT_ENABLEMENT_SELECTOR", "- podSelector:\n    matchLabels: {mesh: 'yes'}\n"),
            ("HOST_PROBE_SNAT_IP", "169.254.1.1"),
            ("CNI_INSTALL", "false"),
        ])
        .expect("valid");
        assert_eq!((config.pods.dns, config.pods.families), (DnsCapture::Off, Families::V4));
        assert_eq!(config.enrolment.excluded_namespaces, ["a", "b"]);
        assert_eq!(config.enrolment.enablement.len(), 1);
        assert_eq!(config.install, None);
        assert_eq!(config.pods.probes.v4.to_string(), "169.254.1.1");
        for (name, value) in [
            ("AMBIENT_IPV6", "maybe"),
            ("MONITORING_PORT", "s3cret"),
            ("HOST_PROBE_SNAT_IP", "::1"),
            ("AMBIENT_ENABLEMENT_SELECTOR", "{s3cret"),
            ("LOG_FORMAT", "xml"),
            ("CNI_CONF_NAME", "../x"),
            ("CNI_INSTALL", "perhaps"),
        ] {
            let error = read(&[("NODE_NAME", "n1"), (name, value)]).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
            assert!(!format!("{error} {error:?}").contains(value), "what was given is not printed: {error}");
        }
    }
}
