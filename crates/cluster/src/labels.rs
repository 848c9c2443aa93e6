//! The labels and annotations the mesh reads or writes, each named once.

/// Namespace, Pod: whether the L4 mesh captures it, [`MODE_AMBIENT`] or [`MODE_NONE`].
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// Value of [`DATAPLANE_MODE`]: captured.
pub const MODE_AMBIENT: &str = "ambient";
/// Value of [`DATAPLANE_MODE`]: left alone, whatever the namespace says.
pub const MODE_NONE: &str = "none";

/// Pod annotation, written by the node agent: the state of traffic redirection.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Value of [`REDIRECTION`]: redirection works, peers may use tunnels.
pub const REDIRECTION_ENABLED: &str = "enabled";
/// Value of [`REDIRECTION`]: rules are in place but the node proxy has not confirmed.
pub const REDIRECTION_PENDING: &str = "pending";

/// Pod annotation: a sidecar was injected; such a pod is never captured.
pub const SIDECAR_STATUS: &str = "sidecar.istio.io/status";
/// Pod annotation, bool: incoming traffic is not redirected.
pub const BYPASS_INBOUND_CAPTURE: &str = "ambient.istio.io/bypass-inbound-capture";
/// Pod annotation, bool: overrides DNS capture for this pod.
pub const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
/// Pod annotation: interfaces whose incoming traffic counts as outgoing.
pub const REROUTE_VIRTUAL_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";

/// Pod label: tunnels the pod ends itself, a comma list; `http` is HBONE.
pub const TUNNEL: &str = "networking.istio.io/tunnel";
/// Policy annotation, bool: evaluate but do not enforce.
pub const DRY_RUN: &str = "istio.io/dry-run";
/// Any config object: the revision that owns it.
pub const REVISION: &str = "istio.io/rev";

/// System namespace label: the network of the whole cluster.
pub const NETWORK: &str = "topology.istio.io/network";
/// Node label: the finest locality step.
pub const SUBZONE: &str = "topology.istio.io/subzone";
/// Node label set by Kubernetes.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Node label set by Kubernetes.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// Pod label: overrides the name telemetry shows for the workload.
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// Pod label: the canonical service name.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// Pod label: the canonical revision.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";

/// Service, Namespace annotation: traffic distribution, for clusters whose Service has no such field.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// EndpointSlice label: the Service it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
