//! The agent's metrics: every name, each once.

use lateen_telemetry::metrics::{Description, Kind};

/// Connected ztunnels.
pub const ZTUNNEL_CONNECTED: &str = "ztunnel_connected";
/// Changes of pods and namespaces that were worked on; label `type`.
pub const RECONCILE_EVENTS: &str = "nodeagent_reconcile_events";
/// The plugin's questions; label `response_code`.
pub const PLUGIN_REQUESTS: &str = "istio_cni_plugin_requests";

/// Writes of the plugin or its configuration; label `result`.
pub const INSTALLS: &str = "istio_cni_installs";
/// Whether the plugin is installed.
pub const INSTALL_READY: &str = "istio_cni_install_ready";

/// What the registry is made of.
pub const TABLE: [Description; 5] = [
    row(ZTUNNEL_CONNECTED, Kind::Gauge, "Number of connected ztunnels"),
    row(RECONCILE_EVENTS, Kind::Counter, "Pod changes worked on, by what was done"),
    row(PLUGIN_REQUESTS, Kind::Counter, "Questions of the CNI plugin, by answer"),
    row(INSTALLS, Kind::Counter, "Installations of the CNI plugin, by result"),
    row(INSTALL_READY, Kind::Gauge, "1 while the CNI plugin is installed and called by the runtime"),
];

const fn row(name: &'static str, kind: Kind, help: &'static str) -> Description {
    Description { name, kind, unit: None, help, buckets: &[] }
}
