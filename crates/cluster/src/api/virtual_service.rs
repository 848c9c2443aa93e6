//! `VirtualService`: where requests to a host go. All versions are the same.
//!
//! The definition that clusters get is in [`crate::crds`]; these types read what is used of it.

use std::collections::BTreeMap;

use lateen_types::label::Labels;
use serde::Deserialize;

use super::{Duration, Port};

/// The spec.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualServiceSpec {
    /// Of requests to these.
    pub hosts: Vec<String>,
    /// At these; empty is the mesh.
    pub gateways: Vec<String>,
    /// Requests.
    pub http: Vec<HttpRoute>,
    /// TLS that is not terminated.
    pub tls: Vec<TlsRoute>,
    /// Whatever else.
    pub tcp: Vec<TcpRoute>,
    /// The namespaces that see it.
    pub export_to: Vec<String>,
}

/// What becomes of some requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// For logs.
    pub name: String,
    /// Any of these; none is every request.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// Where they go.
    pub route: Vec<HttpTarget>,
    /// The client is sent elsewhere.
    pub redirect: Option<Redirect>,
    /// Answered by the proxy.
    pub direct_response: Option<DirectResponse>,
    /// Decided by another object.
    pub delegate: Option<Delegate>,
    /// What is asked for under another name.
    pub rewrite: Option<Rewrite>,
    /// In all.
    pub timeout: Option<Duration>,
    /// Tried again.
    pub retries: Option<Retries>,
    /// Made to fail.
    pub fault: Option<Fault>,
    /// Copied.
    pub mirror: Option<Destination>,
    /// Copied to several.
    pub mirrors: Vec<Mirror>,
    /// An older word.
    #[serde(alias = "mirror_percent")]
    pub mirror_percent: Option<u32>,
    /// How many are copied.
    pub mirror_percentage: Option<Percent>,
    /// What pages of other origins may do.
    pub cors_policy: Option<Cors>,
    /// Changed headers.
    pub headers: Option<Headers>,
}

/// Which requests; all parts hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// For logs.
    pub name: String,
    /// The path.
    pub uri: Option<StringMatch>,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The host.
    pub authority: Option<StringMatch>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, StringMatch>,
    /// Headers that are not so.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Parameters of the query.
    pub query_params: BTreeMap<String, StringMatch>,
    /// The port called.
    pub port: Option<u32>,
    /// Labels of the client.
    pub source_labels: Labels,
    /// The client's namespace.
    pub source_namespace: String,
    /// At these gateways.
    pub gateways: Vec<String>,
    /// Whether the path's case counts.
    pub ignore_uri_case: bool,
    /// For metrics.
    pub stat_prefix: String,
}

/// A text; none of the three is "there".
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StringMatch {
    /// This.
    pub exact: Option<String>,
    /// What begins so.
    pub prefix: Option<String>,
    /// RE2, of all of it.
    pub regex: Option<String>,
}

/// Where a share goes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTarget {
    /// There.
    pub destination: Destination,
    /// The share.
    pub weight: i64,
    /// Headers changed for it.
    pub headers: Option<Headers>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Its name.
    pub host: String,
    /// Part of its endpoints.
    pub subset: String,
    /// Its port.
    pub port: Option<Port>,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Of the request.
    pub request: Option<HeaderEdits>,
    /// Of the answer.
    pub response: Option<HeaderEdits>,
}

/// Changes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderEdits {
    /// In place of what is there.
    pub set: BTreeMap<String, String>,
    /// Beside it.
    pub add: BTreeMap<String, String>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// The client is sent elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Redirect {
    /// To this path.
    pub uri: String,
    /// To the path with another beginning.
    pub prefix_rewrite: Option<String>,
    /// To this host.
    pub authority: String,
    /// To this port.
    pub port: Option<u32>,
    /// To a port that is not written.
    pub derive_port: Option<String>,
    /// To this scheme.
    pub scheme: String,
    /// The status.
    pub redirect_code: Option<u32>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectResponse {
    /// Its status.
    pub status: u32,
    /// Its body.
    pub body: Option<Body>,
}

/// A body.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Body {
    /// As text.
    pub string: Option<String>,
    /// In base64.
    pub bytes: Option<String>,
}

/// Another VirtualService.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; empty is the same.
    pub namespace: String,
}

/// Another name for what is asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rewrite {
    /// Path or its beginning.
    pub uri: Option<String>,
    /// Host.
    pub authority: String,
    /// Path by pattern.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// A pattern and what is put in its place.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// RE2.
    #[serde(rename = "match")]
    pub pattern: String,
    /// With `\1`.
    pub rewrite: String,
}

/// Tried again.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retries {
    /// So often.
    pub attempts: i64,
    /// For each.
    pub per_try_timeout: Option<Duration>,
    /// When.
    pub retry_on: Option<String>,
    /// Elsewhere.
    pub retry_remote_localities: Option<bool>,
    /// At another endpoint.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The first pause.
    pub backoff: Option<Duration>,
}

/// Made to fail.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fault {
    /// Late.
    pub delay: Option<Delay>,
    /// Not at all.
    pub abort: Option<Abort>,
}

/// Late.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delay {
    /// An older word.
    pub percent: Option<u32>,
    /// By so much.
    pub fixed_delay: Option<Duration>,
    /// So many.
    pub percentage: Option<Percent>,
}

/// Not at all.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Abort {
    /// With this status.
    pub http_status: Option<u32>,
    /// With this one of gRPC, by its word.
    pub grpc_status: Option<String>,
    /// So many.
    pub percentage: Option<Percent>,
}

/// A share of a hundred.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// It.
    pub value: f64,
}

/// Where copies go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirror {
    /// There.
    pub destination: Destination,
    /// So many; absent is all.
    pub percentage: Option<Percent>,
}

/// What pages of other origins may do.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cors {
    /// An older word.
    pub allow_origin: Vec<String>,
    /// The origins.
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    pub allow_headers: Vec<String>,
    /// Headers of answers.
    pub expose_headers: Vec<String>,
    /// How long the answer holds.
    pub max_age: Option<Duration>,
    /// Whether cookies are sent.
    pub allow_credentials: Option<bool>,
    /// What becomes of other origins' questions.
    pub unmatched_preflights: Option<String>,
}

/// TLS that is not terminated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRoute {
    /// Any of these.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Where it goes.
    pub route: Vec<Target>,
}

/// Which connections; all parts hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatch {
    /// The name in the handshake.
    pub sni_hosts: Vec<String>,
    /// The address called.
    pub destination_subnets: Vec<String>,
    /// The port called.
    pub port: Option<u32>,
    /// Labels of the client.
    pub source_labels: Labels,
    /// At these gateways.
    pub gateways: Vec<String>,
    /// The client's namespace.
    pub source_namespace: String,
}

/// Whatever is no HTTP and no TLS.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// Any of these; none is every connection.
    #[serde(rename = "match")]
    pub matches: Vec<TcpMatch>,
    /// Where it goes.
    pub route: Vec<Target>,
}

/// Which connections; all parts hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpMatch {
    /// The address called.
    pub destination_subnets: Vec<String>,
    /// The port called.
    pub port: Option<u32>,
    /// The client's address.
    pub source_subnet: String,
    /// Labels of the client.
    pub source_labels: Labels,
    /// At these gateways.
    pub gateways: Vec<String>,
    /// The client's namespace.
    pub source_namespace: String,
}

/// Where a share of connections goes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    /// There.
    pub destination: Destination,
    /// The share.
    pub weight: i64,
}

/// The words of gRPC's statuses, in the order of their numbers.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
