//! Routes of the Gateway API: `HTTPRoute`, `GRPCRoute`, `TLSRoute` and `TCPRoute` are read as one type, since they differ
//! in what they leave out; and `ReferenceGrant`.

use serde::Deserialize;

use super::Duration;

/// The spec of any of the routes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteSpec {
    /// What it attaches to.
    pub parent_refs: Vec<ParentRef>,
    /// The hosts it is for.
    pub hostnames: Vec<String>,
    /// Its rules.
    pub rules: Vec<RouteRule>,
}

/// What a route attaches to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace, where it is not the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// One of its listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// One of its ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteRule {
    /// For logs.
    pub name: String,
    /// Any of these; none is everything.
    pub matches: Vec<RouteMatch>,
    /// What is changed.
    pub filters: Vec<Filter>,
    /// Where it goes.
    pub backend_refs: Vec<BackendRef>,
    /// How long it may take.
    pub timeouts: Option<Timeouts>,
    /// Tried again.
    pub retry: Option<RouteRetry>,
    /// Kept at one endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// How a client stays with its endpoint, in the words of the API's releases before and after 1.7.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionPersistence {
    /// `Cookie` or `Header`; absent is the former.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The name of the cookie or header; since 1.7 it is within `cookie` or `header`.
    pub session_name: Option<String>,
    /// How long a session lasts.
    pub absolute_timeout: Option<Duration>,
    /// Not in the API any more.
    pub idle_timeout: Option<Duration>,
    /// What a cookie says; since 1.7 it is called `cookie`.
    pub cookie_config: Option<SessionCookie>,
    /// What a cookie says.
    pub cookie: Option<SessionCookie>,
    /// Which header.
    pub header: Option<SessionHeader>,
}

/// What the cookie of a session says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionCookie {
    /// Its name.
    pub name: Option<String>,
    /// Its path; absent is `/`.
    pub path: Option<String>,
    /// `Session` or `Permanent`; absent is the former.
    pub lifetime_type: Option<String>,
}

/// The header of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionHeader {
    /// Its name.
    pub name: String,
}

/// Which requests; all parts hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteMatch {
    /// The path.
    pub path: Option<TypedValue>,
    /// Headers.
    pub headers: Vec<NamedMatch>,
    /// Parameters of the query.
    pub query_params: Vec<NamedMatch>,
    /// The method, of HTTP or of gRPC.
    pub method: Option<Method>,
}

/// A method.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Method {
    /// Of HTTP.
    Word(String),
    /// Of gRPC.
    Call(GrpcMethod),
}

/// A method of gRPC.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcMethod {
    /// `Exact` or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The method.
    pub method: Option<String>,
}

/// A text with what it means.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypedValue {
    /// What it means.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The text.
    pub value: Option<String>,
}

/// A header or a parameter.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedMatch {
    /// `Exact` or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is changed on the way.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// Which of the following.
    #[serde(rename = "type")]
    pub kind: String,
    /// Headers of the request.
    pub request_header_modifier: Option<HeaderModifier>,
    /// Headers of the answer.
    pub response_header_modifier: Option<HeaderModifier>,
    /// The client is sent elsewhere.
    pub request_redirect: Option<RequestRedirect>,
    /// Host and path.
    #[serde(rename = "urlRewrite")]
    pub url_rewrite: Option<UrlRewrite>,
    /// Copied.
    pub request_mirror: Option<RequestMirror>,
    /// What pages of other origins may do.
    pub cors: Option<RouteCors>,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderModifier {
    /// In place of what is there.
    pub set: Vec<NamedMatch>,
    /// Beside it.
    pub add: Vec<NamedMatch>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// The client is sent elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestRedirect {
    /// To this scheme.
    pub scheme: Option<String>,
    /// To this host.
    pub hostname: Option<String>,
    /// To this path.
    pub path: Option<PathModifier>,
    /// To this port.
    pub port: Option<u32>,
    /// The status.
    pub status_code: Option<u32>,
}

/// A changed path.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathModifier {
    /// Which of the following.
    #[serde(rename = "type")]
    pub kind: String,
    /// All of it.
    pub replace_full_path: Option<String>,
    /// The prefix that was matched.
    pub replace_prefix_match: Option<String>,
}

/// Host and path.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UrlRewrite {
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// Copied.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestMirror {
    /// There.
    pub backend_ref: BackendRef,
    /// So many of a hundred.
    pub percent: Option<u32>,
    /// So many.
    pub fraction: Option<Fraction>,
}

/// A part.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fraction {
    /// So many.
    pub numerator: u32,
    /// Of so many; absent is a hundred.
    pub denominator: Option<u32>,
}

/// What pages of other origins may do.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteCors {
    /// The origins.
    pub allow_origins: Vec<String>,
    /// Whether cookies are sent.
    pub allow_credentials: Option<bool>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    pub allow_headers: Vec<String>,
    /// Headers of answers.
    pub expose_headers: Vec<String>,
    /// Seconds the answer holds.
    pub max_age: Option<u32>,
}

/// Where a share goes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendRef {
    /// Its group.
    pub group: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its namespace, where it is not the route's.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: Option<u32>,
    /// The share; absent is 1.
    pub weight: Option<u32>,
    /// What is changed for it.
    pub filters: Vec<Filter>,
}

/// How long it may take.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// In all.
    pub request: Option<Duration>,
    /// For each try.
    pub backend_request: Option<Duration>,
}

/// Tried again.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteRetry {
    /// After these statuses.
    pub codes: Vec<u32>,
    /// So often.
    pub attempts: Option<u32>,
    /// The first pause.
    pub backoff: Option<Duration>,
}

/// The spec of a `ReferenceGrant`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReferenceGrantSpec {
    /// Who may name.
    pub from: Vec<GrantFrom>,
    /// What.
    pub to: Vec<GrantTo>,
}

/// Who may name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantFrom {
    /// Objects of this group.
    pub group: String,
    /// Of this kind.
    pub kind: String,
    /// In this namespace.
    pub namespace: String,
}

/// What may be named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantTo {
    /// Objects of this group.
    pub group: String,
    /// Of this kind.
    pub kind: String,
    /// Of this name; absent is any.
    pub name: Option<String>,
}
