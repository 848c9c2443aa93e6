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
/// Service annotation: the namespaces that see it, for proxies at layer 7.
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// EndpointSlice label: the Service it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace, Service, ServiceEntry, Pod, WorkloadEntry: the waypoint its traffic passes, or [`NO_WAYPOINT`].
pub const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// Beside [`USE_WAYPOINT`]: the waypoint's namespace, where it is not the object's own.
pub const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// Value of [`USE_WAYPOINT`]: none, whatever the namespace says.
pub const NO_WAYPOINT: &str = "none";
/// Beside [`USE_WAYPOINT`]: a second waypoint that takes a share of the traffic.
pub const USE_WAYPOINT_CANARY: &str = "istio.io/use-waypoint-canary";
/// Beside [`USE_WAYPOINT_CANARY`]: its namespace.
pub const USE_WAYPOINT_CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
/// Annotation beside [`USE_WAYPOINT_CANARY`]: its share, 0 to 100.
pub const USE_WAYPOINT_CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
/// Service, ServiceEntry, Namespace, bool: ingress gateways go through the waypoint too.
pub const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";
/// Beside [`USE_WAYPOINT`], annotation of Lateen's own: [`BYPASS`] lets traffic go direct while the waypoint is missing.
pub const WAYPOINT_MISSING: &str = "lateen.io/waypoint-missing";
/// Value of [`WAYPOINT_MISSING`]; everything else refuses.
pub const BYPASS: &str = "bypass";
/// Namespace, Pod, WorkloadEntry, annotation of Lateen's own: whether policies of the node's proxy see the identity of clients
/// behind the waypoint, [`CLIENT_IDENTITY_BELIEVED`] or [`CLIENT_IDENTITY_NONE`].
pub const CLIENT_IDENTITY: &str = "lateen.io/client-identity";
/// Value of [`CLIENT_IDENTITY`]: what a waypoint says of its clients is believed.
pub const CLIENT_IDENTITY_BELIEVED: &str = "believe-waypoint";
/// Value of [`CLIENT_IDENTITY`]: nobody is seen but the waypoint, whatever the namespace says.
pub const CLIENT_IDENTITY_NONE: &str = "none";
/// Gateway, GatewayClass: `service`, `workload`, `all` or `none`.
pub const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// Gateway, GatewayClass annotation: how a waypoint's own pods take connections, `PROXY/15088`.
pub const WAYPOINT_INBOUND_BINDING: &str = "ambient.istio.io/waypoint-inbound-binding";
/// What a controller made, and for which of its purposes.
pub const MANAGED: &str = "gateway.istio.io/managed";
/// Values of [`MANAGED`] that mark waypoints, which have no waypoint themselves.
pub const MANAGED_WAYPOINTS: [&str; 3] =
    ["istio.io-mesh-controller", "istio.io-eastwest-controller", "lateen.io-mesh-controller"];
/// Pods of a Gateway: its name.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Gateway annotation: the account of its pods.
pub const GATEWAY_ACCOUNT: &str = "gateway.istio.io/service-account";
/// What a controller made: the class of the Gateway it was made for.
pub const GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Gateway annotation: the name of what is made for it.
pub const GATEWAY_NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
/// Gateway annotation, a number: a control plane with a smaller one keeps off.
pub const GATEWAY_CONTROLLER_VERSION: &str = "gateway.istio.io/controller-version";
/// ConfigMap of the control plane's namespace: holds overlays for all Gateways of this class.
pub const GATEWAY_DEFAULTS: &str = "gateway.istio.io/defaults-for-class";
/// Gateway annotation: the type of its Service.
pub const SERVICE_TYPE: &str = "networking.istio.io/service-type";
/// Gateway annotation: the type of address its status shows, `Hostname` or `IPAddress`.
pub const ADDRESS_TYPE: &str = "networking.istio.io/address-type";
/// Gateway annotation: the waypoint is that of the workloads of this service account in its namespace.
pub const FOR_SERVICE_ACCOUNT: &str = "istio.io/for-service-account";
/// ServiceEntry, bool: `false` means no address is given out for it.
pub const AUTO_ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// Service, ServiceEntry annotation: how a waypoint connects; without a waypoint it means nothing.
pub const CONNECT_STRATEGY: &str = "istio.io/connect-strategy";
/// WorkloadEntry annotation: the group it registered itself for.
pub const AUTO_REGISTRATION_GROUP: &str = "istio.io/autoRegistrationGroup";
/// Gateway annotation, bool: its waypoint tells endpoints who the client is, in `x-forwarded-client-cert`.
pub const XFCC_CLIENT: &str = "ambient.istio.io/xfcc-include-client-identity";
/// Gateway annotation, YAML: settings of its proxies.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
