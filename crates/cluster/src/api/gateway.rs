//! `Gateway` of the Gateway API and of the mesh's own API, as far as proxies are configured by them; `BackendTLSPolicy`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use lateen_types::label::Labels;
use serde::Deserialize;

/// One listener of a Gateway.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The hosts it is for; absent is all.
    pub hostname: Option<String>,
    /// The port clients call.
    pub port: u16,
    /// What is spoken there.
    pub protocol: String,
    /// How TLS ends.
    pub tls: Option<ListenerTls>,
    /// Whose routes it takes.
    pub allowed_routes: Option<AllowedRoutes>,
}

/// How TLS ends at a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerTls {
    /// `Terminate` or `Passthrough`.
    pub mode: Option<String>,
    /// Where the certificates are.
    pub certificate_refs: Vec<ObjectRef>,
    /// What else is asked for.
    pub options: BTreeMap<String, String>,
}

/// A reference to an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Its group; absent is the core one.
    pub group: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its namespace; absent is that of whoever names it.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Whose routes a listener takes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedRoutes {
    /// Of these namespaces.
    pub namespaces: Option<RouteNamespaces>,
    /// Of these kinds; none is all that fit.
    pub kinds: Vec<RouteGroupKind>,
}

/// Namespaces of routes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteNamespaces {
    /// `All`, `Selector`, `Same` or `None`.
    pub from: Option<String>,
    /// With `Selector`.
    pub selector: Option<LabelSelector>,
}

/// A kind of route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteGroupKind {
    /// Its group; absent is that of the Gateway API.
    pub group: Option<String>,
    /// Its kind.
    pub kind: String,
}

/// `tls` of a Gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTls {
    /// Towards clients.
    pub frontend: Option<FrontendTls>,
    /// Towards backends.
    pub backend: Option<BackendTls>,
}

/// TLS towards clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendTls {
    /// On all ports.
    pub default: Option<FrontendPort>,
    /// On single ones, in place of the former.
    pub per_port: Vec<PortFrontend>,
}

/// TLS towards clients on a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortFrontend {
    /// The port.
    pub port: u16,
    /// What holds there.
    pub tls: FrontendPort,
}

/// What clients have to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FrontendPort {
    /// Nothing where it is absent.
    pub validation: Option<ClientValidation>,
}

/// How clients' certificates are verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientValidation {
    /// Who vouches for them.
    pub ca_certificate_refs: Vec<ObjectRef>,
    /// `AllowValidOnly` or `AllowInsecureFallback`.
    pub mode: Option<String>,
}

/// TLS towards backends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTls {
    /// What the gateway shows them.
    pub client_certificate_ref: Option<ObjectRef>,
}

/// The spec of the mesh's own `Gateway`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IstioGatewaySpec {
    /// What is listened on.
    pub servers: Vec<Server>,
    /// Which gateways do.
    pub selector: Labels,
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// Its port.
    pub port: ServerPort,
    /// The address or socket to listen on.
    pub bind: String,
    /// The hosts it is for, `[<namespace>/]<host>`.
    pub hosts: Vec<String>,
    /// How TLS ends.
    pub tls: Option<ServerTls>,
}

/// The port of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerPort {
    /// The number clients call.
    pub number: u16,
    /// What is spoken there.
    pub protocol: String,
    /// Its name.
    pub name: String,
}

/// How TLS ends at a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    /// Clients are sent to https.
    pub https_redirect: bool,
    /// Absent is `PASSTHROUGH`.
    pub mode: Option<String>,
    /// Files, which proxies do not have.
    pub server_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
    pub ca_crl: String,
    pub tls_certificates: Vec<serde_json::Value>,
    /// A Secret.
    pub credential_name: String,
    /// Several, of different kinds of keys.
    pub credential_names: Vec<String>,
    /// Who vouches for clients: a Secret or ConfigMap.
    pub ca_cert_credential_name: String,
    /// Names of which clients must have one.
    pub subject_alt_names: Vec<String>,
    /// Hashes of keys of which clients must have one.
    pub verify_certificate_spki: Vec<String>,
    /// Hashes of certificates of which clients must have one.
    pub verify_certificate_hash: Vec<String>,
    pub min_protocol_version: Option<String>,
    pub max_protocol_version: Option<String>,
    pub cipher_suites: Vec<String>,
}

/// The spec of a `BackendTLSPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTlsPolicySpec {
    /// The services it is for.
    pub target_refs: Vec<PolicyTarget>,
    /// How they are verified.
    pub validation: BackendValidation,
    /// What else is asked for.
    pub options: BTreeMap<String, String>,
}

/// A service of the policy's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyTarget {
    /// Its group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The name of one of its ports.
    pub section_name: Option<String>,
}

/// How a backend is verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendValidation {
    /// Who vouches for it.
    pub ca_certificate_refs: Vec<ObjectRef>,
    /// `System`: whoever the system trusts.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known: Option<String>,
    /// The name that is asked for.
    pub hostname: String,
    /// The names of which it must have one, in place of the former.
    pub subject_alt_names: Vec<AltName>,
}

/// A name in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub kind: String,
    pub hostname: Option<String>,
    pub uri: Option<String>,
}
