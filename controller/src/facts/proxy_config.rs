//! What the proxies of a Gateway are told beside what they listen on: of the mesh's `defaultConfig`, and of the annotation
//! `proxy.istio.io/config` of a Gateway.
//!
//! In: a block of settings. Out: what it says of things that proxies here do, the profile it asks for, and what of it does
//! nothing. Absent on purpose: fields of the block that are not about requests.

use lateen_cluster::{api::Duration, labels};
use lateen_wire::proxy::{EscapedSlashes, Underscores};
use serde::Deserialize;
use serde_json::Value;

/// Nothing said is `None`: then what is less near counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    /// How many proxies in front are trusted.
    pub trusted_proxies: Option<u32>,
    /// Whether PROXY protocol is read, and demanded.
    pub proxy_protocol: Option<bool>,
    /// Whether HTTP/1.0 is served.
    pub http10: Option<bool>,
    /// What the header `server` of answers says.
    pub server: Option<Server>,
    /// Whether answers go without `x-envoy-…`.
    pub hides_debug_headers: Option<bool>,
    /// Whether names of headers keep their case in HTTP/1.
    pub keeps_case: Option<bool>,
    /// What holds for connections and requests.
    pub connections: Connections,
    /// What is written and does nothing.
    pub unused: Vec<String>,
}

/// What the header `server` of answers says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// What the endpoint says.
    Theirs,
    /// This.
    Named(String),
}

/// What holds for connections and requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Which values hold at gateways where none is written.
    pub profile: Option<Profile>,
    /// How long nothing may pass of a request or its answer.
    pub stream_idle: Option<Duration>,
    /// Until a request has arrived whole.
    pub request: Option<Duration>,
    /// Whether `//` becomes `/`.
    pub merge_slashes: Option<bool>,
    /// What is done with %2F and %5C.
    pub escaped_slashes: Option<EscapedSlashes>,
    /// What is done with headers whose name has an underscore.
    pub underscores: Option<Underscores>,
}

/// Which values hold where none is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The mesh's own.
    Sidecar,
    /// Of a gateway that anybody can reach.
    Edge,
}

/// As long as a client at the edge may be silent, or take for its request.
const EDGE_TIMEOUT: Duration = Duration(std::time::Duration::from_secs(300));

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    gateway_topology: WrittenTopology,
    proxy_metadata: std::collections::BTreeMap<String, String>,
    connection_settings: WrittenConnections,
    proxy_headers: WrittenHeaders,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenTopology {
    num_trusted_proxies: Option<u32>,
    forward_client_cert_details: Option<String>,
    proxy_protocol: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenConnections {
    profile: Option<String>,
    http_stream_idle_timeout: Option<Duration>,
    http_request_timeout: Option<Duration>,
    http_merge_slashes: Option<bool>,
    http_path_with_escaped_slashes_action: Option<String>,
    http_headers_with_underscores_action: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenHeaders {
    server: Option<WrittenServer>,
    envoy_debug_headers: Option<Switch>,
    preserve_http1_header_case: Option<bool>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenServer {
    disabled: Option<bool>,
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Switch {
    disabled: Option<bool>,
}

const HTTP10: &str = "ISTIO_META_HTTP10";

impl ProxyConfig {
    /// Of a block of settings.
    pub fn read(written: &Value) -> Result<Self, String> {
        if written.is_null() {
            return Ok(Self::default());
        }
        let written = Written::deserialize(written).map_err(|error| error.to_string())?;
        let topology = written.gateway_topology;
        if let Some(other) = topology.forward_client_cert_details.filter(|word| word != "SANITIZE_SET") {
            return Err(format!(
                "gatewayTopology.forwardClientCertDetails: {other:?} is not supported; use SANITIZE_SET"
            ));
        }
        let headers = written.proxy_headers;
        let others = |block: &str, others: &serde_json::Map<String, Value>| -> Vec<String> {
            let given = others.iter().filter(|(_, value)| !value.is_null());
            given.map(|(name, _)| format!("{block}.{name} does nothing here; the proxy's own holds")).collect()
        };
        let mut unused = others("proxyHeaders", &headers.others);
        unused.extend(others("connectionSettings", &written.connection_settings.others));
        Ok(Self {
            trusted_proxies: topology.num_trusted_proxies,
            proxy_protocol: topology.proxy_protocol.map(|_| true),
            http10: written.proxy_metadata.get(HTTP10).map(|word| word == "1"),
            server: headers.server.as_ref().and_then(server),
            hides_debug_headers: headers.envoy_debug_headers.and_then(|switch| switch.disabled),
            keeps_case: headers.preserve_http1_header_case,
            connections: connections(&written.connection_settings)?,
            unused,
        })
    }

    /// Of the annotation's text.
    pub fn annotated(text: Option<&String>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self::default()) };
        let of_annotation = |reason: String| format!("annotation {}: {reason}", labels::PROXY_CONFIG);
        let written: Value = serde_saphyr::from_str(text).map_err(|error| of_annotation(error.to_string()))?;
        let mut read = Self::read(&written).map_err(of_annotation)?;
        read.unused.iter_mut().for_each(|what| *what = format!("annotation {}: {what}", labels::PROXY_CONFIG));
        Ok(read)
    }

    /// What is said here, else what `further` says.
    #[must_use]
    pub fn or(self, further: &Self) -> Self {
        Self {
            trusted_proxies: self.trusted_proxies.or(further.trusted_proxies),
            proxy_protocol: self.proxy_protocol.or(further.proxy_protocol),
            http10: self.http10.or(further.http10),
            server: self.server.or_else(|| further.server.clone()),
            hides_debug_headers: self.hides_debug_headers.or(further.hides_debug_headers),
            keeps_case: self.keeps_case.or(further.keeps_case),
            connections: self.connections.or(further.connections),
            unused: self.unused,
        }
    }
}

impl Connections {
    #[must_use]
    fn or(self, further: Self) -> Self {
        Self {
            profile: self.profile.or(further.profile),
            stream_idle: self.stream_idle.or(further.stream_idle),
            request: self.request.or(further.request),
            merge_slashes: self.merge_slashes.or(further.merge_slashes),
            escaped_slashes: self.escaped_slashes.or(further.escaped_slashes),
            underscores: self.underscores.or(further.underscores),
        }
    }

    /// With what the profile says where nothing is written: at a gateway, which is what profiles are for.
    #[must_use]
    pub fn at_gateway(self) -> Self {
        match self.profile {
            None | Some(Profile::Sidecar) => self,
            Some(Profile::Edge) => self.or(Self {
                profile: None,
                stream_idle: Some(EDGE_TIMEOUT),
                request: Some(EDGE_TIMEOUT),
                merge_slashes: Some(true),
                escaped_slashes: Some(EscapedSlashes::UnescapeAndRedirect),
                underscores: Some(Underscores::Reject),
            }),
        }
    }
}

fn server(written: &WrittenServer) -> Option<Server> {
    match (written.disabled, written.value.as_str()) {
        (Some(true), _) => Some(Server::Theirs),
        (_, "") => None,
        (_, name) => Some(Server::Named(name.to_owned())),
    }
}

fn connections(written: &WrittenConnections) -> Result<Connections, String> {
    let unknown = |field: &str, word: &str, known: &str| {
        Err(format!("connectionSettings.{field}: {word:?} is unknown; use {known}"))
    };
    let profile = match written.profile.as_deref() {
        None => None,
        Some("SIDECAR") => Some(Profile::Sidecar),
        Some("EDGE") => Some(Profile::Edge),
        Some(other) => return unknown("profile", other, "SIDECAR or EDGE"),
    };
    let escaped_slashes = match written.http_path_with_escaped_slashes_action.as_deref() {
        None | Some("PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED") => None,
        Some("KEEP_UNCHANGED") => Some(EscapedSlashes::Keep),
        Some("REJECT_REQUEST") => Some(EscapedSlashes::Reject),
        Some("UNESCAPE_AND_REDIRECT") => Some(EscapedSlashes::UnescapeAndRedirect),
        Some("UNESCAPE_AND_FORWARD") => Some(EscapedSlashes::UnescapeAndForward),
        Some(other) => {
            let known = "KEEP_UNCHANGED, REJECT_REQUEST, UNESCAPE_AND_REDIRECT or UNESCAPE_AND_FORWARD";
            return unknown("httpPathWithEscapedSlashesAction", other, known);
        }
    };
    let underscores = match written.http_headers_with_underscores_action.as_deref() {
        None | Some("HEADERS_WITH_UNDERSCORES_UNSPECIFIED") => None,
        Some("HEADERS_WITH_UNDERSCORES_ALLOW") => Some(Underscores::Allow),
        Some("HEADERS_WITH_UNDERSCORES_REJECT_REQUEST") => Some(Underscores::Reject),
        Some("HEADERS_WITH_UNDERSCORES_DROP_HEADER") => Some(Underscores::Drop),
        Some(other) => {
            let known = "HEADERS_WITH_UNDERSCORES_ALLOW, …_REJECT_REQUEST or …_DROP_HEADER";
            return unknown("httpHeadersWithUnderscoresAction", other, known);
        }
    };
    Ok(Connections {
        profile,
        stream_idle: written.http_stream_idle_timeout,
        request: written.http_request_timeout,
        merge_slashes: written.http_merge_slashes,
        escaped_slashes,
        underscores,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(text: &str) -> Result<ProxyConfig, String> {
        ProxyConfig::annotated(Some(&text.to_owned()))
    }

    #[test]
    fn the_nearer_word_counts() {
        let near = annotated("gatewayTopology: {numTrustedProxies: 2}\nproxyMetadata: {ISTIO_META_HTTP10: '1'}");
        let far =
            ProxyConfig { trusted_proxies: Some(1), proxy_protocol: Some(true), http10: None, ..Default::default() };
        let both = near.expect("readable").or(&far);
        assert_eq!((both.trusted_proxies, both.proxy_protocol, both.http10), (Some(2), Some(true), Some(true)));
        assert!(annotated("gatewayTopology: {forwardClientCertDetails: FORWARD_ONLY}").is_err());
    }

    #[test]
    fn the_edge_has_values_of_its_own() {
        let edge = annotated("connectionSettings: {profile: EDGE, httpMergeSlashes: false}").expect("readable");
        let five = Some(Duration(std::time::Duration::from_secs(300)));
        let expected = Connections {
            profile: Some(Profile::Edge),
            stream_idle: five,
            request: five,
            merge_slashes: Some(false),
            escaped_slashes: Some(EscapedSlashes::UnescapeAndRedirect),
            underscores: Some(Underscores::Reject),
        };
        assert_eq!(edge.connections.at_gateway(), expected);
        // Who takes the mesh's profile back keeps what the mesh says in so many words.
        let mesh = annotated("connectionSettings: {profile: EDGE, httpStreamIdleTimeout: 10s}").expect("readable");
        let own = annotated("connectionSettings: {profile: SIDECAR}").expect("readable");
        let both = own.or(&mesh).connections.at_gateway();
        assert_eq!((both.stream_idle.map(|length| length.0.as_secs()), both.merge_slashes), (Some(10), None));
    }

    #[test]
    fn headers_of_answers() {
        let read = annotated(
            "proxyHeaders: {server: {value: me}, envoyDebugHeaders: {disabled: true}, preserveHttp1HeaderCase: true}",
        );
        let read = read.expect("readable");
        assert_eq!(read.server, Some(Server::Named("me".to_owned())));
        assert_eq!((read.hides_debug_headers, read.keeps_case), (Some(true), Some(true)));
        let read = annotated("proxyHeaders: {server: {disabled: true}, requestId: {disabled: true}}");
        let read = read.expect("readable");
        assert_eq!(read.server, Some(Server::Theirs));
        let said = "annotation proxy.istio.io/config: proxyHeaders.requestId does nothing here; the proxy's own holds";
        assert_eq!(read.unused, [said]);
    }

    #[test]
    fn words_nobody_knows_are_named() {
        for (written, field) in [
            ("connectionSettings: {profile: WIDE}", "profile"),
            ("connectionSettings: {httpPathWithEscapedSlashesAction: X}", "httpPathWithEscapedSlashesAction"),
            ("connectionSettings: {httpHeadersWithUnderscoresAction: X}", "httpHeadersWithUnderscoresAction"),
            ("connectionSettings: {httpStreamIdleTimeout: soon}", "annotation"),
        ] {
            let why = annotated(written).expect_err("unknown");
            assert!(why.contains(field), "{why}");
        }
    }
}
